"""The standard check of saliency maps: does a map light up what the network provably can't see?"""

from collections.abc import Callable, Mapping, Sequence

import pandas as pd
import torch
from torch import Tensor, nn

from walls.base.progress import track
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import check_names, saliency_maps
from walls.sanity.controls import ANOTHER, CONTROLS, SAME, below, put_together
from walls.sanity.report import COLUMNS, Report

Method = Callable[[Classifier, Tensor, Tensor], Tensor]  # network, images, targets -> maps
SIGNS = ("relu", "abs")
SHOWN = 3  # images whose maps a report keeps, to be drawn


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
    sign: str = "relu",
    options: Mapping[str, Mapping[str, object]] | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = True,
) -> Report:
    """How much of each method's map lies where the network can't see, with its controls.

    μ(Λ) = ‖Λ in the hidden part‖₂ / ‖Λ‖₂ (Eq. 7 of the paper), of the map that explains the
    predicted class, with each of `controls` in the hidden part.

    `network`: a network behind a wall, or any other, which is put behind one (`walls.behind`, with
    `layer` and `seen_rows`; None stacks two whole images). `methods`: names, or {name: callable
    (network, images, targets) -> maps (N, h, w) or (N, H, W)}; names and callables mix as {name:
    None}. `images`: (N, C, H, W), normalised as the network takes them; `labels`: their classes,
    the predicted ones if None. `few`: of these methods only the first so many images, with the
    controls same class and another class alone. `sign`: what becomes of scores below zero, "relu"
    (0) or "abs" (their size). `options`: as of `saliency_maps`. Returns a `Report`. Raises
    ValueError for an unknown method, control or sign, images of one class, maps of a wrong shape or
    not finite, and where the wall isn't certified on the weights.
    """
    for name, value, known in (
        ("sign", sign, SIGNS),
        *(("controls", one, CONTROLS) for one in controls),
    ):
        if value not in known:
            raise ValueError(f"{name}: got {value!r}; takes {', '.join(known)}")
    chosen = dict(methods) if isinstance(methods, Mapping) else dict.fromkeys(methods)
    check_names([name for name, own in chosen.items() if own is None], options or {})
    model = (
        network
        if isinstance(network, Classifier)
        else behind(network, seen_rows, layer=layer, image_rows=images.shape[2])
    )
    rows = images.shape[2] * (2 if seen_rows is None and not isinstance(network, Classifier) else 1)
    rows = model.image_rows if hasattr(model, "image_rows") else rows
    zone = model.zone(rows)
    parameter = next(model.parameters())
    images = torch.as_tensor(images).to(parameter)
    predicted = _predicted(model, put_together(images, torch.zeros_like(images), zone), batch_size)
    classes = predicted.tolist() if labels is None else list(labels)
    lower = below(images, classes, seed)
    stacks = {control: put_together(images, lower[control], zone) for control in controls}
    certificate = certify(model, rows, stacks[controls[0]][:4].float().cpu(), seed).require()
    asked = [
        (name, control, (few or {}).get(name, len(images)))
        for name in chosen
        for control in controls
        if name not in (few or {}) or control in (SAME, ANOTHER)
    ]
    parts, kept = [], {}
    total = sum(count for _, _, count in asked)
    with track(total=total, desc="checking", unit="map", hidden=not progress) as bar:
        for control in controls:
            names = [(name, count) for name, of, count in asked if of == control]
            for count in sorted({count for _, count in names}):
                group = {name: chosen[name] for name, own in names if own == count}
                found = _maps(
                    model,
                    group,
                    stacks[control][:count],
                    predicted[:count],
                    options,
                    batch_size,
                    bar.update,
                )
                for name, raw in found.items():
                    maps = _signed(raw, name, sign)
                    parts.append(
                        _measured(
                            maps, name, control, zone, stacks[control].shape[2:], classes, predicted
                        )
                    )
                    kept[name, control] = maps[:SHOWN].cpu()
    table = pd.concat(parts, ignore_index=True)[COLUMNS]
    shown = {control: stack[:SHOWN].cpu() for control, stack in stacks.items()}
    return Report(table, certificate, zone, list(chosen), list(controls), shown, kept, sign, seed)


def _predicted(model: Classifier, images: Tensor, batch_size: int) -> Tensor:
    """The class that the network predicts from the seen part, (N,)."""
    with torch.no_grad():
        return torch.cat([model(part).argmax(1) for part in images.split(batch_size)])


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


def _measured(
    maps: Tensor,
    name: str,
    control: str,
    zone: DeadZone,
    size: tuple[int, int],
    classes: list[int],
    predicted: Tensor,
) -> pd.DataFrame:
    """µ of every map, a row each. A map of the image's own size is measured as it is."""
    whole = tuple(maps.shape[1:]) == tuple(size)
    mu_raw = activity(maps if whole else interpolate(maps, tuple(size)), zone)
    mu = mu_raw if whole else activity(upscale(maps, tuple(size)), zone)
    return pd.DataFrame(
        {
            "image": range(len(maps)),
            "class": classes[: len(maps)],
            "predicted": predicted[: len(maps)].tolist(),
            "method": name,
            "control": control,
            "mu": mu.cpu().numpy(),
            "mu_raw": mu_raw.cpu().numpy(),
        }
    )
