"""What a map is worth to the network: pixels deleted or inserted in its order, and it as a mask.

A map may be 0 behind a wall because it is right, or because it is useless. So beside µ stand the
insertion and deletion areas of Petsiuk et al. (BMVC 2018), and the average drop and increase of
Chattopadhay et al. (2018), of the network behind its wall, over the whole image: what a map spends
on the hidden part is lost to it.
"""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from walls.base.seeds import stream
from walls.network.behind import Behind
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.opticam import average_drop
from walls.saliency.statistics import interval
from walls.sanity.sections import Subject

GRADCAM, SEEN_CELLS = "GradCAM", "GradCAM (seen cells)"
METHODS = (GRADCAM, SEEN_CELLS, "HiResCAM", "LayerCAM", "SumCAM", "RandomCAM")
UNIFORM, UNIFORM_SEEN = "uniform map", "uniform, seen part"
MEASURES = ("mu", "average_drop", "average_increase", "insertion", "deletion")
STEPS = 10  # a tenth of the pixels at a time
BLUR, SIGMA = 11, 5.0  # pixels: the blurred image that insertion starts from, as Petsiuk et al.
AT_ONCE = 4  # images: few keep a processor's activations in reach of its cache

Probability = Callable[[Tensor, Tensor], Tensor]  # images, classes -> (N,)


def ranks(maps: Tensor, size: tuple[int, int], seed: int = 0) -> Tensor:
    """The place of every pixel, 0 for the highest, of maps (N, h, w) upscaled to `size`: (N, H, W).

    Equal scores, as of a uniform map, come in a random order, which is the image's own.
    """
    found = []
    for number, scores in enumerate(interpolate(maps, size).flatten(1).double().cpu().numpy()):
        chance = stream(seed, "ties", number).permutation(scores.size)
        order = np.lexsort((chance, -scores))
        place = np.empty(scores.size, dtype=np.int64)
        place[order] = np.arange(scores.size)
        found.append(torch.from_numpy(place).view(size))
    return torch.stack(found)


def curve(
    probability: Probability,
    before: Tensor,
    after: Tensor,
    places: Tensor,
    targets: Tensor,
    ends: tuple[Tensor, Tensor],
    steps: int = STEPS,
    seen: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The targets' probability as pixels turn from `before`'s to `after`'s: (N, steps + 1).

    `before`, `after` (N, C, H, W); `places` (N, H, W), when each pixel turns, an equal share of all
    of them at every step; `ends`, the probabilities of `before` and of `after`, (N,) each. `seen`:
    the pixels that the network reads, of (1, 1, H, W); where none of these turns, nothing is
    computed.
    """
    pixels = places[0].numel()
    counts = [round(pixels * step / steps) for step in range(steps + 1)]
    found = ends[0].double()[:, None].repeat(1, steps + 1)
    jobs, copies = [], []
    for image, own in enumerate(places):
        read = own if seen is None else seen(own[None, None])
        turned = [int((read < count).sum()) for count in counts]
        for step in range(1, steps + 1):
            if turned[step] == read.numel():
                found[image, step] = ends[1][image]
            elif turned[step] == turned[step - 1]:
                copies.append((image, step))
            else:
                jobs.append((image, step))
    for start in range(0, len(jobs), AT_ONCE):
        image, step = torch.tensor(jobs[start : start + AT_ONCE]).unbind(1)
        turned = (places[image] < torch.tensor(counts)[step][:, None, None])[:, None]
        mixed = torch.where(turned, after[image], before[image])
        found[image, step] = probability(mixed, targets[image]).double()
    for image, step in copies:  # in order: each from the step before
        found[image, step] = found[image, step - 1]
    return found


def area(curves: Tensor) -> Tensor:
    """The area below curves (N, steps + 1) over the share of pixels, by trapezoids: (N,)."""
    return torch.trapezoid(curves, dx=1 / (curves.shape[1] - 1), dim=1)


def measured(
    model: Behind,
    images: Tensor,
    classes: Sequence[int],
    methods: Sequence[str] = METHODS,
    steps: int = STEPS,
    seed: int = 0,
) -> pd.DataFrame:
    """Every map's worth on every image: a row each, of a network behind a wall.

    `images`: whole ones, both parts, normalised; the maps are of the class predicted. `methods`,
    then a map that is the same everywhere, and one that is so over the seen part and 0 below. `mu`
    in [0, 1], NaN for an empty map. `insertion` (higher is better): the area as pixels are put into
    the image blurred, the map's highest first; `deletion` (lower): as they are set to 0, the mean
    colour. `average_drop` and `average_increase` in percent, of the image times the map: NaN for a
    map that is the same everywhere, whose scaling to [0, 1] is 0/0. `class`: from `classes`.
    """
    size, zone = (int(images.shape[2]), int(images.shape[3])), model.zone()
    with torch.no_grad():
        targets = torch.cat([model(part).argmax(1) for part in images.split(AT_ONCE)])
    maps = saliency_maps(
        model, images, methods, targets, batch_size=AT_ONCE, progress=lambda count: None
    )
    cells = torch.ones_like(next(iter(maps.values())))
    maps[UNIFORM], maps[UNIFORM_SEEN] = cells, cells.clone()
    hidden = slice(0, zone.wall_rows) if zone.side == "top" else slice(zone.rows[-1], None)
    maps[UNIFORM_SEEN][:, hidden] = 0
    # Each part on its own, so that nothing hidden is carried into the seen part.
    blurred = model.join(*(gaussian_blur(part, BLUR, [SIGMA] * 2) for part in model.divide(images)))

    def probability(some: Tensor, of: Tensor) -> Tensor:
        with torch.no_grad():
            some = some.contiguous(memory_format=torch.channels_last)
            return model(some).double().softmax(1).gather(1, of[:, None])[:, 0]

    def all_of(some: Tensor) -> Tensor:
        pairs = zip(some.split(AT_ONCE), targets.split(AT_ONCE), strict=True)
        return torch.cat([probability(*pair) for pair in pairs])

    def seen(places: Tensor) -> Tensor:
        return model.divide(places)[0]

    grey = torch.zeros_like(images)
    sharp, dim, none = (all_of(some) for some in (images, blurred, grey))
    parts = []
    for name, raw in maps.items():
        places = ranks(raw, size, seed)
        own = {"steps": steps, "seen": seen}
        put = curve(probability, blurred, images, places, targets, (dim, sharp), **own)
        taken = curve(probability, images, grey, places, targets, (sharp, none), **own)
        mu = activity(interpolate(raw, size) if name == UNIFORM else upscale(raw, size), zone)
        table = pd.DataFrame({"mu": mu, "insertion": area(put), "deletion": area(taken)})
        drops = [_drop(model, *one) for one in zip(images, raw, targets, strict=True)]
        columns = {"method": name, "image": range(len(images)), "class": list(classes)}
        parts.append(pd.concat([table.assign(**columns), pd.DataFrame(drops)], axis=1))
    return pd.concat(parts, ignore_index=True)[["method", "image", "class", *MEASURES]]


def of_one(subject: Subject, seed: int = 0) -> pd.DataFrame:
    """`measured` of a subject's few photographs above others of their class."""
    return measured(subject.model, subject.stacks, subject.classes[: subject.few], seed=seed)


def _drop(model: Behind, image: Tensor, raw: Tensor, target: Tensor) -> dict[str, float]:
    """The drop and the increase of one image, in percent; NaN for a map that is no mask."""
    if raw.amax() == raw.amin():
        return dict.fromkeys(("average_drop", "average_increase"), float("nan"))
    return average_drop(model, image[None], raw[None], target[None])


def summary(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """A row per method: each measure's mean, µ ×100, and its 95% interval over classes."""
    rows = []
    for name, part in table.groupby("method", sort=False):
        row: dict[str, object] = {"method": name, "images": part["image"].nunique()}
        for measure in MEASURES:
            values = part[measure].to_numpy() * (100 if measure == "mu" else 1)
            low, high = interval(values, part["class"].to_numpy(), seed)
            row |= {measure: float(pd.Series(values).mean())}
            row |= {f"{measure}_low": low, f"{measure}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def wide(table: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The same as text, a method a row."""
    heads = ("µ×100 ↓", "average drop % ↓", "average increase % ↑", "insertion ↑", "deletion ↓")
    digits = dict(zip(MEASURES, (1, 1, 0, 3, 3), strict=True))
    found = summary(table, seed).set_index("method")
    cells = {
        head: [_cell(row, measure, digits[measure]) for _, row in found.iterrows()]
        for measure, head in zip(MEASURES, heads, strict=True)
    }
    return pd.DataFrame(cells, index=found.index.rename(None))


def _cell(row: pd.Series, measure: str, digits: int) -> str:
    mean, low, high = (row[name] for name in (measure, f"{measure}_low", f"{measure}_high"))
    return "—" if np.isnan(mean) else f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"


def difference(
    table: pd.DataFrame, measure: str, one: str, other: str, seed: int = 0
) -> tuple[float, float, float]:
    """The mean of `measure` of one method less the other's, image by image; its 95% interval."""
    own = table.pivot(index="image", columns="method", values=measure)
    classes = table.drop_duplicates("image").set_index("image")["class"].loc[own.index]
    apart = (own[one] - own[other]).to_numpy()
    low, high = interval(apart, classes.to_numpy(), seed)
    return float(np.nanmean(apart)), low, high


def sentence(table: pd.DataFrame, seed: int = 0) -> str:
    """What the repair gains over GradCAM, and over a map that shows nothing, by both areas."""
    said = []
    for one, other in ((SEEN_CELLS, GRADCAM), (SEEN_CELLS, UNIFORM_SEEN)):
        apart = []
        for measure in ("insertion", "deletion"):
            mean, low, high = difference(table, measure, one, other, seed)
            apart.append(f"{measure} {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
        said.append(f"{one} minus {other}: {', '.join(apart)}.")
    return f"{table['image'].nunique()} photographs. {' '.join(said)}"
