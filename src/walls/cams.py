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
    The layer is **B**, the model's last ReLU. At most `batch_size` images are in memory as activations, whatever N;
    a map doesn't depend on them. `progress` is told the number of new maps; by default a bar shows them. The
    model comes back as it was.
    Raises ValueError for an unknown method, a wrong shape or target, and NaN in the images or the weights, by name.
    """
    check(methods)
    if images.ndim != 4 or (targets is not None and targets.shape != images.shape[:1]):
        raise ValueError(f"images: got {tuple(images.shape)}; takes (N, 3, H, W), with one target each")
    if batch_size < 1:
        raise ValueError(f"batch_size: got {batch_size}; takes 1 or more")
    parameter = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    batches: dict[str, list[Tensor]] = {name: [] for name in methods}
    bar = track(total=len(images) * len(methods), desc="saliency maps", unit="map", hidden=progress is not None)
    try:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(parameter)
            chosen = None if targets is None else targets[start : start + batch_size].to(parameter.device)
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
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"methods: got {unknown[0]}; takes {', '.join(METHODS)}")


def upscale(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) as a user sees them, (N, H, W) in [0, 1], scaled as pytorch-grad-cam scales them.

    Min-max at (h, w), bilinear (align_corners=False), min-max again. An all-zero or constant map gives zeros.
    """
    return _min_max(interpolate(_min_max(maps), size))


def interpolate(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) bilinearly upscaled to (N, H, W), their scores left as they are."""
    size = (size, size) if isinstance(size, int) else tuple(size)
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[:, 0]


def _min_max(maps: Tensor) -> Tensor:
    low = maps.amin((1, 2), keepdim=True)
    return (maps - low) / (1e-7 + (maps - low).amax((1, 2), keepdim=True))  # 1e-7: the library's guard


def _finite_images(images: Tensor, start: int) -> None:
    """ValueError naming the first image that holds NaN or infinity, by its place in the whole call."""
    bad = (~torch.isfinite(images)).flatten(1).any(1).nonzero()
    if len(bad):
        raise ValueError(f"images: image {start + int(bad[0])} holds NaN or infinity; takes finite pixels")
