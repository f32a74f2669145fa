"""Saliency maps: every method of the paper's Table 1 behind one call, on a network split as f∘g.

The methods are pytorch-grad-cam's own classes, given what they need: the features **B** and the gradient of f
at **B**, each computed once for all of them. Opti-CAM is ours (opticam.py).
"""

import contextlib
import io
from collections.abc import Callable, Sequence

import pytorch_grad_cam as library
import torch
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from walls import opticam
from walls.models import Classifier

LIBRARY: dict[str, type] = {
    "GradCAM": library.GradCAM,
    "GradCAM++": library.GradCAMPlusPlus,
    "XGradCAM": library.XGradCAM,
    "ScoreCAM": library.ScoreCAM,
    "AblationCAM": library.AblationCAM,
    "EigenCAM": library.EigenCAM,
    "HiResCAM": library.HiResCAM,
    "LayerCAM": library.LayerCAM,
}
METHODS = (*LIBRARY, "Opti-CAM")


def saliency_maps(
    model: Classifier,
    images: Tensor,
    methods: Sequence[str],
    targets: Tensor | None = None,
    *,
    batch_size: int = 32,
    opticam_steps: int = 50,
    opticam_lr: float = 0.1,
    progress: Callable[[int], object] = lambda images: None,
) -> dict[str, Tensor]:
    """Raw saliency maps after the ReLU, {method: (N, h, w)}, on the model's device, each N maps in order.

    `images`: normalised (N, 3, H, W); `targets`: class per image, the predicted one if None (as in the paper).
    The layer is **B**, the model's last ReLU. `progress` is told the number of images done.
    Raises ValueError for an unknown method, a wrong shape, and NaN in the images or the features.
    """
    unknown = [name for name in methods if name not in METHODS]
    if unknown:
        raise ValueError(f"methods: got {unknown[0]}; takes {', '.join(METHODS)}")
    if images.ndim != 4 or (targets is not None and targets.shape != images.shape[:1]):
        raise ValueError(f"images: got {tuple(images.shape)}; takes (N, 3, H, W), with one target each")
    parameter = next(model.parameters())
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    batches: dict[str, list[Tensor]] = {name: [] for name in methods}
    try:
        for start in range(0, len(images), batch_size):
            batch = images[start : start + batch_size].to(parameter)
            chosen = None if targets is None else targets[start : start + batch_size].to(parameter.device)
            features, gradient, chosen = _split(model, batch, chosen)
            for name in methods:
                if name == "Opti-CAM":
                    raw = opticam.optimise(model, batch, features, chosen, opticam_steps, opticam_lr)
                else:
                    raw = _by_library(name, model, batch, features, gradient, chosen, batch_size)
                batches[name].append(raw.to(parameter).clamp_min(0))
            progress(len(batch))
    finally:
        for module, training in modes:
            module.training = training
    return {name: torch.cat(maps) for name, maps in batches.items()}


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


def _split(model: Classifier, images: Tensor, targets: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """**B**, ∇_B f for the target class, and the targets: one backbone pass, one gradient of the head."""
    if not torch.isfinite(images).all():
        bad = int((~torch.isfinite(images)).flatten(1).any(1).nonzero()[0])
        raise ValueError(f"images: image {bad} of the batch holds NaN or infinity; takes finite pixels")
    with torch.no_grad():
        features = model.features(images)
    if not torch.isfinite(features).all():
        raise ValueError("features: NaN or infinity comes out of the backbone; takes a model with finite weights")
    with torch.enable_grad():
        leaf = features.detach().requires_grad_()
        logits = model.head(leaf)
        targets = logits.argmax(1) if targets is None else targets
        (gradient,) = torch.autograd.grad(logits.gather(1, targets[:, None]).sum(), leaf)
    return features, gradient, targets


class _Head(nn.Module):
    """f as a network of its own, whose target layer is its input: the library then runs no backbone."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.layer = nn.Identity()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.layer(features))


def _by_library(
    name: str,
    model: Classifier,
    images: Tensor,
    features: Tensor,
    gradient: Tensor,
    targets: Tensor,
    batch_size: int,
) -> Tensor:
    """One library method's maps before its ReLU and its scaling."""
    if name == "ScoreCAM":
        # The one method that masks images. It holds C masked copies of each, so one image at a time.
        network, layer, groups = model, model.features[-1], torch.arange(len(images)).split(1)
    else:
        network = _Head(model.head)
        layer, groups = network.layer, [torch.arange(len(images))]
    cam = LIBRARY[name](network, [layer])
    cam.activations_and_grads.release()  # its hooks would keep every activation
    cam.batch_size = batch_size
    maps = []
    for group in groups:
        given = images if name == "ScoreCAM" else features
        goals = [ClassifierOutputTarget(int(t)) for t in targets[group]]
        with contextlib.redirect_stderr(io.StringIO()):  # its progress bars, one per image
            maps.append(cam.get_cam_image(
                given[group], layer, goals, features[group].cpu().numpy(), gradient[group].cpu().numpy(),
                eigen_smooth=False,
            ))  # fmt: skip
    return torch.cat([torch.as_tensor(part) for part in maps])
