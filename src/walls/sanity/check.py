"""The standard check of saliency maps: does a map light up what the network provably can't see?"""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from walls.base.progress import track
from walls.network.behind import Behind, behind
from walls.network.certificate import certify
from walls.network.classifier import Classifier, Normalised
from walls.network.geometry import DeadZone
from walls.saliency.activity import measured
from walls.saliency.controls import ANOTHER, CONTROLS, SAME, below, put_together
from walls.saliency.maps import check_names, saliency_maps
from walls.saliency.methods import METHODS
from walls.sanity.report import COLUMNS, Report

Method = Callable[[Classifier, Tensor, Tensor], Tensor]  # network, images, targets -> maps
SIGNS = ("relu", "abs")
SHOWN = 3  # images whose maps a report keeps, to be drawn
CERTIFIED = 4  # images that the wall is certified on


def check(
    network: nn.Module,
    methods: Sequence[str] | Mapping[str, Method],
    images: Tensor,
    labels: Sequence[int] | None = None,
    *,
    seen_rows: int | None = None,
    layer: str | None = None,
    controls: Sequence[str] = CONTROLS,
    few: Mapping[str, int] | None = None,
    few_controls: Sequence[str] = (SAME, ANOTHER),
    sign: str = "relu",
    options: Mapping[str, Mapping[str, object]] | None = None,
    normalised: Normalised | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """How much of each method's map lies where the network can't see, with its controls.

    µ(Λ) = ‖Λ in the hidden part‖₂ / ‖Λ‖₂ (Eq. 7 of the paper), of the map that explains the
    predicted class, with each of `controls` in the hidden part.

    `network`: a network behind a wall, or any other, which is put behind one (`walls.behind`, with
    `layer` and `seen_rows`; None stacks two whole images). `methods`: names, or {name: callable
    (network, images, targets) -> maps (N, h, w) or (N, H, W)}; names and callables mix as {name:
    None}. `images`: (N, C, H, W), normalised as the network takes them; `labels`: their classes;
    None: the predicted ones or, where those are all one, a class for every image. `few`: of these
    methods only the first so many images, with those of `few_controls` alone.
    `sign`: what becomes of scores below zero, "relu" (0) or "abs" (their size). `options`: as of
    `saliency_maps`. `normalised`: (mean, std) by which pixels became `images`, as of
    `walls.behind`. Returns a `Report`. Raises ValueError for an unknown method, control or sign,
    images of one class, maps of a wrong shape or not finite, and where the wall isn't certified on
    the weights.
    """
    chosen = dict(methods) if isinstance(methods, Mapping) else dict.fromkeys(methods)
    few = few or {}
    check_arguments(chosen, controls, sign, options)
    model, zone = _behind(network, images, seen_rows, layer, normalised)
    images = torch.as_tensor(images).to(next(model.parameters()))
    predicted = _predicted(model, put_together(images, torch.zeros_like(images), zone), batch_size)
    classes = _classes(predicted, labels)
    lower = below(images, classes, seed)

    def stacked(control: str, count: int) -> Tensor:
        return put_together(images[:count], lower[control][:count], zone)

    looked_at = stacked(controls[0], CERTIFIED)
    certificate = certify(model, zone.image_rows, looked_at, seed).require()
    parts, kept = [], {}
    groups = _groups(chosen, controls, few, few_controls, len(images))
    total = sum(count * len(names) for _, names, count in groups)
    with track(total=total, desc="checking", unit="map", hidden=not progress) as bar:
        for control, names, count in groups:
            own = {name: chosen[name] for name in names}
            stack = stacked(control, count)
            found = _maps(model, own, stack, predicted[:count], options, batch_size, bar.update)
            for name, raw in found.items():
                maps = _signed(raw, name, sign)
                row = {"class": classes[:count], "predicted": predicted[:count].tolist()}
                row |= {"method": name, "control": control}
                parts.append(_measured(maps, zone, stack.shape[2:], **row))
                kept[name, control] = maps[:SHOWN].cpu()
    order = {name: number for number, name in enumerate(chosen)}
    table = pd.concat(parts, ignore_index=True)[COLUMNS]
    table = table.sort_values("method", key=lambda names: names.map(order), kind="stable")
    table = table.reset_index(drop=True)
    shown = {control: stacked(control, SHOWN).cpu() for control in controls}
    names = list(chosen), list(controls)
    return Report(table, certificate, zone, *names, shown, kept, sign, seed)


def check_arguments(
    methods: Mapping[str, Method | None],
    controls: Sequence[str] = CONTROLS,
    sign: str = "relu",
    options: Mapping[str, Mapping[str, object]] | None = None,
) -> None:
    """ValueError for no or an unknown method, an unknown option, control or sign, by name."""
    if not methods:
        raise ValueError(f"methods: got none; takes {', '.join(METHODS)}, or callables")
    for name, own in methods.items():
        if own is not None and not callable(own):
            raise ValueError(f"methods: got {own!r} for {name}; takes a callable, or None for ours")
    check_names([name for name, own in methods.items() if own is None], options or {})
    if sign not in SIGNS:
        raise ValueError(f"sign: got {sign!r}; takes {', '.join(SIGNS)}")
    for control in controls:
        if control not in CONTROLS:
            raise ValueError(f"controls: got {control!r}; takes {', '.join(CONTROLS)}")


def _behind(
    network: nn.Module,
    images: Tensor,
    seen_rows: int | None,
    layer: str | None,
    normalised: Normalised | None,
) -> tuple[Classifier, DeadZone]:
    """The network behind a wall, and the part of an image that it can't see."""
    if isinstance(network, Classifier) and normalised is not None:
        got = ascii(normalised)[:80]
        raise ValueError(
            f"normalised: got {got} for a network behind a wall; takes it where that is made"
        )
    if isinstance(network, Behind):
        return network, network.zone()
    rows = images.shape[2]
    if isinstance(network, Classifier):
        return network, network.zone(rows)
    whole = 2 * rows if seen_rows is None else rows
    model = behind(network, seen_rows, layer=layer, image_rows=whole, normalised=normalised)
    return model, model.zone()


def _groups(
    methods: Mapping[str, Method | None],
    controls: Sequence[str],
    few: Mapping[str, int],
    few_controls: Sequence[str],
    images: int,
) -> list[tuple[str, list[str], int]]:
    """Which methods take how many images under each control; those in `few` take `few_controls`."""
    found = []
    for control in controls:
        wanted = [name for name in methods if name not in few or control in few_controls]
        counts = {name: min(few.get(name, images), images) for name in wanted}
        for count in sorted(set(counts.values()), reverse=True):
            found.append((control, [name for name in wanted if counts[name] == count], count))
    return found


def _predicted(model: Classifier, images: Tensor, batch_size: int) -> Tensor:
    """The class that the network predicts from the seen part, (N,)."""
    with torch.no_grad():
        return torch.cat([model.scores([part]).argmax(1) for part in images.split(batch_size)])


def _classes(predicted: Tensor, labels: Sequence[int] | None) -> list[int]:
    """The labels; without them, the predicted classes or, where those are one, each image's own."""
    if labels is None:
        found = predicted.tolist()
        return found if len(set(found)) > 1 else list(range(len(found)))
    if len(labels) != len(predicted):
        raise ValueError(f"labels: got {len(labels)} for {len(predicted)} images; takes one each")
    return [int(label) for label in labels]


def _maps(
    model: Classifier,
    methods: Mapping[str, Method | None],
    images: Tensor,
    targets: Tensor,
    options: Mapping[str, Mapping[str, object]] | None,
    batch_size: int,
    progress: Callable[[int], object],
) -> dict[str, Tensor]:
    """Every method's maps, (N, h, w) or (N, H, W), our own before any other."""
    ours = [name for name, own in methods.items() if own is None]
    found = {}
    if ours:
        found = saliency_maps(
            model, images, ours, targets, batch_size=batch_size, options=options, progress=progress
        )
    for name, own in methods.items():
        if own is None:
            continue
        parts = []
        for part, classes in zip(images.split(batch_size), targets.split(batch_size), strict=True):
            maps = torch.as_tensor(own(model, part, classes)).detach()
            if maps.ndim != 3 or len(maps) != len(part):
                got, size = tuple(maps.shape), f"({len(part)}, h, w) or ({len(part)}, H, W)"
                raise ValueError(f"{name}: got maps {got}; takes {size}")
            parts.append(maps)
            progress(len(part))
        found[name] = torch.cat(parts)
    return {name: found[name] for name in methods}


def _signed(maps: Tensor, name: str, sign: str) -> Tensor:
    """Maps without scores below zero; ValueError for scores that are not finite."""
    if not torch.isfinite(maps).all():
        raise ValueError(f"{name}: got scores that are not finite; takes finite maps")
    return maps.abs() if sign == "abs" else maps.clamp_min(0)


def _measured(maps: Tensor, zone: DeadZone, size: Sequence[int], **columns: object) -> pd.DataFrame:
    """µ of every map, a row each; other columns. A map of the image's size is taken as it is."""
    mu, mu_raw = measured(maps, (int(size[0]), int(size[1])), zone)
    values = {"image": range(len(maps)), "mu": mu.cpu().numpy(), "mu_raw": mu_raw.cpu().numpy()}
    return pd.DataFrame(values | columns)
