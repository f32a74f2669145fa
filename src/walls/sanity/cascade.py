"""The sanity check of Adebayo et al. (NeurIPS 2018), and what it doesn't see.

A network's parts are drawn anew one after the other, from the top. A map that stays as it was would
not explain the network: it fails. A map that changes passes, wherever it lies; so µ behind a wall
is measured beside the change.
"""

import copy
from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from walls.network.behind import behind
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps
from walls.sanity.sections import Subject

WINDOW, STRIDE = 49, 16  # pixels: the SSIM's windows, and from one to the next
TRAINED = "trained"


def parts(network: nn.Module) -> list[list[str]]:
    """The parts that are drawn anew together, the last one (the top) first, by their names.

    The network's children that hold weights; those of a container that holds nothing else, one by
    one. A part without any matrix or filter, such as a batch norm, belongs to the one before it.
    """
    names = [
        f"{name}.{inner}" if inner else name
        for name, child in network.named_children()
        for inner in (
            [own for own, _ in child.named_children()]
            if isinstance(child, nn.Sequential | nn.ModuleList)
            else [""]
        )
    ]
    found: list[list[str]] = []
    for name in names:
        state = network.get_submodule(name).state_dict()
        if not state:
            continue
        if found and all(tensor.ndim < 2 for tensor in state.values()):
            found[-1].append(name)
        else:
            found.append([name])
    return found[::-1]


def cascade(
    network: nn.Module,
    fresh: Sequence[nn.Module],
    upper: Tensor,
    lower: Tensor,
    methods: Sequence[str],
    batch_size: int = 16,
) -> pd.DataFrame:
    """Maps of a network behind a stacked wall, as its parts become those of fresh networks.

    `fresh`: networks of the same architecture at their initialisation, one for each repetition.
    `upper` (N, C, H, W) is seen, `lower` hidden; the class explained is the trained network's
    prediction throughout. A row per repetition, step (0: as trained), method and image: `part`,
    `share` of the weights drawn anew so far, `mu` (NaN: an empty map), and, between the map and the
    trained network's, Spearman's rank correlation over all cells, `rank`, and over the seen ones,
    `rank_seen`, and `ssim` of the upscaled maps (NaN where either is constant).
    """
    model = behind(copy.deepcopy(network), image_rows=2 * upper.shape[2])
    images, own = torch.cat([upper, lower], dim=2), model.network
    trained = copy.deepcopy(own.state_dict())
    with torch.no_grad():
        targets = torch.cat([model(part).argmax(1) for part in images.split(batch_size)])

    def maps() -> dict[str, Tensor]:
        options = {"batch_size": batch_size, "progress": lambda count: None}
        return saliency_maps(model, images, methods, targets, **options)

    before, rows = maps(), []
    weights = sum(tensor.numel() for tensor in own.parameters())
    for repetition, source in enumerate(fresh):
        own.load_state_dict(trained)
        drawn = source.state_dict()
        rows += _compared(before, before, model, {"repetition": repetition} | _step(0, TRAINED, 0))
        done = 0
        for step, names in enumerate(parts(own), 1):
            for name in names:
                _copy(drawn, own.get_submodule(name), name)
                done += sum(tensor.numel() for tensor in own.get_submodule(name).parameters())
            columns = {"repetition": repetition} | _step(step, names[0], done / weights)
            rows += _compared(before, maps(), model, columns)
    return pd.DataFrame(rows)


def of_one(subject: Subject, methods: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """`cascade` of a subject's few photographs above others of their class, one draw."""
    return cascade(subject.network, [subject.fresh(seed)], *subject.pairs, methods)


def _step(step: int, part: str, share: float) -> dict[str, object]:
    return {"step": step, "part": part, "share": share}


def _copy(drawn: dict[str, Tensor], module: nn.Module, name: str) -> None:
    """Load the part `name` of another network's state into the module, in place."""
    prefix = f"{name}."
    own = {
        key.removeprefix(prefix): value for key, value in drawn.items() if key.startswith(prefix)
    }
    module.load_state_dict(own)


def _compared(
    before: dict[str, Tensor], after: dict[str, Tensor], model, columns: dict[str, object]
) -> list[dict[str, object]]:
    """A row per method and image: µ of the map after, and how alike the two are."""
    rows, zone = [], model.zone()
    seen = zone.rows[-1]
    size = (zone.image_rows, model.columns(zone.image_rows))
    for name, maps in after.items():
        old, new = upscale(before[name], size), upscale(maps, size)
        values = zip(
            activity(new, zone).tolist(),
            rank_correlation(before[name], maps).tolist(),
            rank_correlation(before[name][:, :seen], maps[:, :seen]).tolist(),
            ssim(old, new).tolist(),
            strict=True,
        )
        measured = ("mu", "rank", "rank_seen", "ssim")
        for image, own in enumerate(values):
            row = columns | {"method": name, "image": image}
            rows.append(row | dict(zip(measured, own, strict=True)))
    return rows


def rank_correlation(one: Tensor, other: Tensor) -> np.ndarray:
    """Spearman's ρ between maps (N, h, w) of the same image, (N,); NaN for a constant map."""
    found = []
    for first, second in zip(one.flatten(1).numpy(), other.flatten(1).numpy(), strict=True):
        constant = np.ptp(first) == 0 or np.ptp(second) == 0
        found.append(np.nan if constant else float(spearmanr(first, second).statistic))
    return np.array(found)


def ssim(one: Tensor, other: Tensor, window: int = WINDOW, stride: int = STRIDE) -> Tensor:
    """The structural similarity of maps (N, H, W) in [0, 1]: (N,), 1 for equal ones.

    Wang et al. (2004): the mean over square windows (smaller images: one), pixels alike, of
    (2 µ₁µ₂ + c₁)(2 σ₁₂ + c₂) / ((µ₁² + µ₂² + c₁)(σ₁² + σ₂² + c₂)), c₁ = 0.01², c₂ = 0.03². NaN
    where either map is constant.
    """
    x, y = one.double(), other.double()
    window = min(window, *x.shape[1:])

    def mean(values: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(values[:, None], window, stride)[:, 0]

    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    shared = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    index = (2 * mean_x * mean_y + c1) * (2 * shared + c2)
    index = index / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    constant = (x.amax((1, 2)) == x.amin((1, 2))) | (y.amax((1, 2)) == y.amin((1, 2)))
    return index.mean((1, 2)).masked_fill(constant, float("nan"))


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Means over images and repetitions: a row per step and method, and how many maps are empty."""
    groups = table.groupby(["step", "part", "share", "method"], sort=False)
    found = groups[["mu", "rank", "rank_seen", "ssim"]].mean()
    return found.assign(maps=groups.size(), empty=groups["mu"].agg(lambda mu: mu.isna().sum()))


def sentence(table: pd.DataFrame) -> str:
    """The first method's change and µ at the first step and over all; every method's µ."""
    found, first = summary(table).reset_index(), table["method"].iloc[0]
    own = found[found["method"] == first].set_index("step")
    one, after, last = own.loc[1], own.loc[1:], own.loc[own.index.max()]
    ranges = [
        f"{name} {100 * part['mu'].min():.1f} to {100 * part['mu'].max():.1f}"
        for name, part in found[found["step"] > 0].groupby("method", sort=False)
    ]
    said = (
        f"{own.loc[0, 'maps']} maps at every step. With the {one['part']} randomised, {first}'s "
        f"map has rank correlation {one['rank']:.2f} with the trained network's "
        f"({one['rank_seen']:.2f} over the seen cells) and SSIM {one['ssim']:.2f}; with every "
        f"part randomised, {last['rank']:.2f} ({last['rank_seen']:.2f}) and SSIM "
        f"{last['ssim']:.2f}.",
        f"Its µ×100 is {100 * own.loc[0, 'mu']:.1f} as trained and {100 * one['mu']:.1f} after "
        f"the first step. Range over the {len(after)} steps: {', '.join(ranges)}.",
        f"Empty maps are left out: {after['empty'].sum()} of {first}'s {after['maps'].sum()}.",
    )
    return "\n".join(said)
