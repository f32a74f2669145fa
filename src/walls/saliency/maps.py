"""Saliency maps: any set of methods behind one call, on a network split as f∘g.

All methods share one pass of the backbone, to **B**, and one gradient of the head at **B**
(cut.py); what asks only for logits computes only the rows that the head can see.
"""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence

import torch
from torch import Tensor, nn

from walls.base.progress import track
from walls.network.classifier import Classifier
from walls.network.state import differentiable, evaluating, own_state
from walls.network.wrapped import unwrapped
from walls.saliency.cut import Cut
from walls.saliency.methods import METHODS, PIXELS
from walls.saliency.tensors import as_tensor

WHOLE = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
WHOLE_NUMBERS = tuple(getattr(torch, name) for name in WHOLE)


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

    Those of methods on the input (`methods.PIXELS`) are (N, H, W) and signed.

    `images`: normalised (N, 3, H, W); `targets`: class per image, the predicted one if None (as in
    the paper); tensors, NumPy arrays or lists. The layer is **B**: [VGG]'s last ReLU, `.layer` of a
    network behind a wall. At most `batch_size` images are in memory as activations, whatever N; a
    map doesn't depend on them, nor on the gradient mode and default dtype that the caller set.
    `options`: a method's own settings by its name, such as {"Opti-CAM": {"steps": 100}}. `progress`
    is told the number of new maps; by default a bar shows them. The model comes back as it was.
    Raises ValueError for an unknown method or option, a method named twice, a wrong shape or
    target, and NaN in the images or the weights, by name.
    """
    model, options = _split(model), options or {}
    methods = check_names(methods, options)
    images = as_tensor(images, "images")
    targets = None if targets is None else as_tensor(targets, "targets")
    _check_images(model, images, targets)
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}; takes 1 or more")
    if model.wall_rows:
        model.zone(images.shape[2])  # a ValueError for too few rows
    found: dict[str, list[Tensor]] = {name: [] for name in methods}
    maps = len(images) * len(methods)
    bar = track(total=maps, desc="saliency maps", unit="map", hidden=progress is not None)
    parameter = next(model.parameters())
    with bar, own_state(parameter.dtype), evaluating(differentiable(model)) as network:
        for start in range(0, len(images), batch_size):
            place = slice(start, start + batch_size)
            # A copy: one made in inference mode has no gradients.
            batch = images[place].detach().clone().to(parameter)
            chosen = None
            if targets is not None:
                chosen = targets[place].clone().to(parameter.device, torch.int64)
            _finite_images(batch, start)
            cut = Cut(network, batch, chosen, batch_size)
            with torch.no_grad():
                for name in methods:
                    raw = METHODS[name](cut, **options.get(name, {}))
                    raw = raw.to(parameter)
                    found[name].append(raw if name in PIXELS else raw.clamp_min(0))
                    (progress or bar.update)(len(batch))
        nothing = torch.empty(0, 0, 0).to(parameter)
        return {name: torch.cat(parts) if parts else nothing for name, parts in found.items()}


def check_names(methods: Iterable[str], options: Mapping[str, Mapping[str, object]]) -> list[str]:
    """The names; ValueError for one that no method has or that stands twice, an unknown option."""
    if isinstance(methods, str) or not isinstance(methods, Iterable):
        raise ValueError(f"methods: got {_escaped(methods)}; takes a list of names")
    methods = list(methods)
    for name in (*methods, *options):
        if not isinstance(name, str) or name not in METHODS:
            raise ValueError(f"methods: got {_escaped(name)}; takes {', '.join(METHODS)}")
    for number, name in enumerate(methods):
        if name in methods[:number]:
            raise ValueError(f"methods: got {name} twice; takes each once")
    for name, settings in options.items():
        known = [*inspect.signature(METHODS[name]).parameters][1:]
        for key in settings:
            if key not in known:
                takes = ", ".join(known) or "none"
                raise ValueError(f"options: got {_escaped(key)} of {name}; takes {takes}")
    return methods


def _escaped(name: object) -> str:
    """A name within a line, whatever stands in it."""
    return ascii(name)[:80].strip("'")


def _split(model: nn.Module) -> Classifier:
    """The network itself, out of what compiles it or runs it on several devices, or ValueError."""
    *_, inner = unwrapped(model)
    if not isinstance(inner, Classifier):
        got = type(model).__name__
        raise ValueError(f"model: got {got}; takes a Classifier, as walls.behind(network) gives")
    return inner


def _check_images(model: Classifier, images: Tensor, targets: Tensor | None) -> None:
    """ValueError for another shape than the network takes, and targets that don't go with it."""
    channels, got = model.channels, tuple(images.shape)
    if images.ndim != 4 or images.shape[1] != channels:
        raise ValueError(f"images: got {got}; takes (N, {channels}, H, W)")
    if images.is_complex():
        raise ValueError(f"images: got {images.dtype}; takes real numbers")
    if targets is None:
        return
    if targets.shape != images.shape[:1]:
        raise ValueError(f"targets: got {tuple(targets.shape)}; takes one of each image of {got}")
    if len(targets) and targets.dtype not in WHOLE_NUMBERS:
        raise ValueError(f"targets: got {targets.dtype}; takes whole numbers")


def _finite_images(images: Tensor, start: int) -> None:
    """ValueError naming the first image that holds NaN or infinity, by its place in the call."""
    bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero()
    if len(bad):
        place = start + int(bad[0])
        raise ValueError(f"images: image {place} holds NaN or infinity; takes finite pixels")
