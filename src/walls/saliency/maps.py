"""Saliency maps: any set of methods (methods.py) behind one call, on a network split as f∘g.

All methods share one pass of the backbone, to **B**, and one gradient of the head at **B**
(cut.py); what asks only for logits computes only the rows that the head can see.
"""

import inspect
from collections.abc import Callable, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from walls.base.progress import track
from walls.network.classifier import Classifier
from walls.saliency.cut import Cut
from walls.saliency.methods import METHODS

WHOLE_NUMBERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def saliency_maps(
    model: Classifier,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor | None = None,
    *,
    batch_size: int = 32,
    options: Mapping[str, Mapping[str, object]] | None = None,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Tensor]:
    """Raw saliency maps after the ReLU, {method: (N, h, w)}, on the model's device, in order.

    `images`: normalised (N, 3, H, W); `targets`: class per image, the predicted one if None (as in
    the paper). The layer is **B**: [VGG]'s last ReLU, `.layer` of a network behind a wall. At most
    `batch_size` images are in memory as activations, whatever N; a map doesn't depend on them.
    `options`: a method's own settings by its name, such as {"Opti-CAM": {"steps": 100}}. `progress`
    is told the number of new maps; by default a bar shows them. The model comes back as it was.
    Raises ValueError for an unknown method or option, a wrong shape or target, and NaN in the
    images or the weights, by name.
    """
    options = options or {}
    check_names(methods, options)
    _check_images(model, images, targets)
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}; takes 1 or more")
    if model.wall_rows:
        model.zone(images.shape[2])  # a ValueError for too few rows
    parameter = next(model.parameters())
    found: dict[str, list[Tensor]] = {name: [] for name in methods}
    maps = len(images) * len(methods)
    bar = track(total=maps, desc="saliency maps", unit="map", hidden=progress is not None)
    with bar, evaluation_mode(model):
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(parameter)
            chosen = None
            if targets is not None:
                chosen = targets[start : start + batch_size].to(parameter.device, torch.int64)
            _finite_images(batch, start)
            cut = Cut(model, batch, chosen, batch_size)
            with torch.no_grad():
                for name in methods:
                    raw = METHODS[name](cut, **options.get(name, {}))
                    found[name].append(raw.to(parameter).clamp_min(0))
                    (progress or bar.update)(len(batch))
    nothing = torch.empty(0, 0, 0).to(parameter)
    return {name: torch.cat(parts) if parts else nothing for name, parts in found.items()}


@contextmanager
def evaluation_mode(model: nn.Module):
    """The model in evaluation mode; afterwards each of its modules is in the mode it was in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield model
    finally:
        for module, training in modes:
            module.training = training


def check_names(methods: Sequence[str], options: Mapping[str, Mapping[str, object]]) -> None:
    """ValueError for a name that no method is registered under, and an option that it hasn't."""
    for name in (*methods, *options):
        if not isinstance(name, str) or name not in METHODS:
            got = ascii(name)[:80].strip("'")
            raise ValueError(f"methods: got {got}; takes {', '.join(METHODS)}")
    for name, settings in options.items():
        known = [*inspect.signature(METHODS[name]).parameters][1:]
        for key in settings:
            if key not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(f"options: got {key} of {name}; takes {takes}")


def _check_images(model: Classifier, images: Tensor, targets: Tensor | None) -> None:
    """ValueError for another shape than the network takes, and targets that don't go with it."""
    channels = model.channels
    matched = targets is None or targets.shape == images.shape[:1]
    if images.ndim != 4 or images.shape[1] != channels or not matched:
        got = tuple(images.shape)
        raise ValueError(f"images: got {got}; takes (N, {channels}, H, W), with one target each")
    if targets is not None and targets.dtype not in WHOLE_NUMBERS:
        raise ValueError(f"targets: got {targets.dtype}; takes whole numbers")


def _finite_images(images: Tensor, start: int) -> None:
    """ValueError naming the first image that holds NaN or infinity, by its place in the call."""
    bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero()
    if len(bad):
        place = start + int(bad[0])
        raise ValueError(f"images: image {place} holds NaN or infinity; takes finite pixels")
