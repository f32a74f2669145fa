"""Saliency maps: any set of methods (methods.py) behind one call, on a network split as f∘g.

All methods share one pass of the backbone, to **B**, and one gradient of the head at **B** (split.py); what asks only for
logits computes only the rows that the head can see.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from walls.methods import METHODS
from walls.models import Classifier
from walls.progress import track
from walls.split import Split


def saliency_maps(
    model: Classifier,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor | None = None,
    *,
    batch_size: int = 32,
    opticam_steps: int = 50,
    opticam_lr: float = 0.1,
    progress: Callable[[int], object] | None = None,
) -> dict[str, Tensor]:
    """Raw saliency maps after the ReLU, {method: (N, h, w)}, on the model's device, each N maps in order.

    `images`: normalised (N, 3, H, W); `targets`: class per image, the predicted one if None (as in the paper).
    The layer is **B**: [VGG]'s last ReLU, `.layer` of a network behind a wall. At most `batch_size` images are in memory as activations, whatever N;
    a map doesn't depend on them. `progress` is told the number of new maps; by default a bar shows them. The
    model comes back as it was.
    Raises ValueError for an unknown method, a wrong shape or target, and NaN in the images or the weights, by name.
    """
    check(methods)
    channels = model.channels
    if images.ndim != 4 or images.shape[1] != channels or (targets is not None and targets.shape != images.shape[:1]):
        raise ValueError(f"images: got {tuple(images.shape)}; takes (N, {channels}, H, W), with one target each")
    if targets is not None and targets.dtype not in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        raise ValueError(f"targets: got {targets.dtype}; takes whole numbers")
    for name, value in (("batch_size", batch_size), ("opticam_steps", opticam_steps)):
        if value < 1:
            raise ValueError(f"{name}: got {value}; takes 1 or more")
    if not 0 < opticam_lr < float("inf"):
        raise ValueError(f"opticam_lr: got {opticam_lr}; takes a number above 0")
    if model.wall_rows:
        model.zone(images.shape[2])  # a ValueError for too few rows
    parameter = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    batches: dict[str, list[Tensor]] = {name: [] for name in methods}
    bar = track(total=len(images) * len(methods), desc="saliency maps", unit="map", hidden=progress is not None)
    try:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(parameter)
            chosen = None if targets is None else targets[start : start + batch_size].to(parameter.device, torch.int64)
            _finite_images(batch, start)
            split = Split(model, batch, chosen, batch_size, opticam_steps, opticam_lr)
            with torch.no_grad():
                for name in methods:
                    batches[name].append(METHODS[name](split).to(parameter).clamp_min(0))
                    (progress or bar.update)(len(batch))
    finally:
        bar.close()
        for module, training in modes:
            module.training = training
    rows = torch.empty(0, 0, 0).to(parameter)
    return {name: torch.cat(maps) if maps else rows for name, maps in batches.items()}


def check(methods: Sequence[str]) -> None:
    """ValueError for a name that no method is registered under."""
    unknown = [name for name in methods if not isinstance(name, str) or name not in METHODS]
    if unknown:
        got = ascii(unknown[0])[:80].strip("'")
        raise ValueError(f"methods: got {got}; takes {', '.join(METHODS)}")


def upscale(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) as a user sees them, (N, H, W) in [0, 1], scaled as pytorch-grad-cam scales them.

    Min-max at (h, w), bilinear (align_corners=False), min-max again. An all-zero or constant map gives zeros.
    Raises ValueError for maps that aren't (N, h, w) of real numbers, and a size of nothing.
    """
    return _min_max(interpolate(_min_max(maps), size))


def interpolate(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) bilinearly upscaled to (N, H, W), their scores left as they are."""
    size = (size, size) if isinstance(size, int) else tuple(size)
    _check_maps(maps)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: got {size}; takes (H, W), 1 or more each")
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:] or not maps.is_floating_point():
        raise ValueError(f"maps: got {tuple(maps.shape)} of {maps.dtype}; takes (N, h, w) of floating-point numbers")


def _min_max(maps: Tensor) -> Tensor:
    _check_maps(maps)
    low = maps.amin((1, 2), keepdim=True)
    return (maps - low) / (1e-7 + (maps - low).amax((1, 2), keepdim=True))  # 1e-7: the library's guard


def _finite_images(images: Tensor, start: int) -> None:
    """ValueError naming the first image that holds NaN or infinity, by its place in the whole call."""
    bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero()
    if len(bad):
        raise ValueError(f"images: image {start + int(bad[0])} holds NaN or infinity; takes finite pixels")
