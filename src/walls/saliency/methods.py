"""Every saliency method, one function each, under the name that params.yaml and tables show.

A method turns a `Cut` (cut.py: one batch, the network cut at **B**) into raw maps (N, h, w). Adding
one is adding a function:

    @method("MyCAM")
    def my_cam(cut: Cut) -> Tensor:
        return cut.features.sum(1)

Symbols: **B** the features, y the target's logit, g = ∂y/∂**B**, GAP the mean over positions.
"""

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from walls.network.classifier import PooledHead, WallLinear
from walls.saliency import opticam
from walls.saliency.cut import Cut

METHODS: dict[str, Callable[..., Tensor]] = {}
COSTLY = ("ScoreCAM", "Opti-CAM")  # tens or hundreds of passes of the network an image
# The eight of the paper's Table 1, in its order.
PAPERS = (
    "GradCAM",
    "GradCAM++",
    "XGradCAM",
    "ScoreCAM",
    "Opti-CAM",
    "AblationCAM",
    "EigenCAM",
    "HiResCAM",
)


def method(name: str):
    """Register a function Cut → raw maps (N, h, w), before their ReLU, under `name`."""

    def register(function: Callable[[Cut], Tensor]) -> Callable[[Cut], Tensor]:
        METHODS[name] = function
        return function

    return register


def weighted(weights: Tensor, features: Tensor) -> Tensor:
    """Σ_v α_v **B**^(v): weights (N, C) and features (N, C, h, w) to (N, h, w)."""
    return torch.einsum("nc,nchw->nhw", weights, features)


# The paper's eight methods.


@method("GradCAM")
def gradcam(cut: Cut) -> Tensor:
    """α_v = GAP(g^(v)) (Definition 1; Selvaraju et al., 2017)."""
    return weighted(cut.gradient.mean((2, 3)), cut.features)


@method("GradCAM++")
def gradcam_plus_plus(cut: Cut) -> Tensor:
    """α_v = Σ_ij a_ij max(g_ij, 0), a = g² / (2 g² + g³ Σ**B**^(v)) (Definition 3).

    Chattopadhay et al. (2018). g² and g³ stand for the second and third derivative, and 1e-6 is
    added to the denominator, as in pytorch-grad-cam.
    """
    g, square = cut.gradient, cut.gradient.square()
    total = cut.features.sum((2, 3), keepdim=True)
    share = square / (2 * square + total * square * g + 1e-6)
    return weighted((g.clamp_min(0) * torch.where(g != 0, share, 0)).sum((2, 3)), cut.features)


@method("XGradCAM")
def xgradcam(cut: Cut) -> Tensor:
    """α_v = Σ_ij g_ij **B**_ij / ‖**B**^(v)‖₁ (Definition 2 up to a constant; Fu et al., 2020).

    0 for a dead filter.
    """
    total = cut.features.sum((2, 3)) + 1e-7  # the library's guard
    return weighted((cut.gradient * cut.features).sum((2, 3)) / total, cut.features)


@method("ScoreCAM")
def scorecam(cut: Cut) -> Tensor:
    """α = softmax_v of y(ξ ⊙ s(Up(**B**^(v)))) (Definition 5; Wang et al., 2020).

    As pytorch-grad-cam: Up with align_corners, ξ the normalised image, no baseline (the softmax
    cancels it). A channel that is zero everywhere masks every image to the same one, which is
    scored once.
    """
    live = cut.features.flatten(2).any(2)  # (N, C)
    (dark,) = cut.model.scores([torch.zeros_like(cut.images[:1])])
    blank = dark[cut.targets].to(cut.features)  # (N,)
    scores = blank[:, None].repeat(1, live.shape[1])
    for chunk in live.nonzero().split(cut.batch_size):  # pairs (image, channel)
        image, channel = chunk.unbind(1)
        maps = cut.features[image, channel][:, None]
        up = nn.functional.interpolate(
            maps, cut.images.shape[2:], mode="bilinear", align_corners=True
        )
        low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
        masked = cut.images[image] * ((up - low) / (high - low + 1e-8))  # 1e-8: the library's guard
        scores[image, channel] = cut.scores(masked, cut.targets[image])
    return weighted(scores.softmax(1), cut.features)


@method("Opti-CAM")
def opti_cam(cut: Cut, steps: int = 50, lr: float = 0.1) -> Tensor:
    """α = softmax(β*), β* maximising y(ξ ⊙ s(Up(Σ_v softmax(β)_v **B**^(v)))) (Definition 6).

    Zhang et al. (2024). How it is optimised, and where that differs from its authors' code:
    `opticam.optimise`. Raises ValueError for fewer than one step and a learning rate that isn't
    above 0.
    """
    return opticam.optimise(cut.model, cut.images, cut.features, cut.targets, steps, lr)


@method("AblationCAM")
def ablationcam(cut: Cut) -> Tensor:
    """α_v = (y - y_v) / |y|, y_v the logit with **B**^(v) set to zero (Definition 7).

    Ramaswamy et al. (2020). Deliberately |y|: for a logit below 0 the definition's y would turn
    drops into rises. At y = 0, the plain drop.
    """
    y = cut.score[:, None]
    return weighted((y - _ablated(cut)) / torch.where(y == 0, 1, y.abs()), cut.features)


def _ablated(cut: Cut) -> Tensor:
    """y_v for every channel v: (N, C)."""
    head, features, targets = cut.model.head, cut.features, cut.targets
    n, channels = features.shape[:2]
    if isinstance(head, nn.Sequential) and len(head) > 1 and isinstance(head[0], WallLinear):
        # With h = W·B + b, removing channel v leaves h - W_v·B_v: all of them in one product.
        seen = features[:, :, : head[0].height - head[0].wall_rows].flatten(2)
        parts = torch.einsum("dcs,ncs->ncd", head[0].weight.flatten(2), seen)
        logits = head[1:]((head[0](features)[:, None] - parts).flatten(0, 1))
        return logits.gather(1, targets.repeat_interleave(channels)[:, None]).view(n, channels)
    if isinstance(head, PooledHead) and head.by_channel:
        # y = W·p + b, p_v of B_v alone: removing channel v leaves y - W_v·(p_v - p_v(0)).
        change = head.pooled(features) - head.pooled(torch.zeros_like(features[:1]))
        return cut.score[:, None] - head.last.weight[targets] * change
    scores = []
    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(channels))
    for image, channel in (part.unbind(1) for part in pairs.split(cut.batch_size)):
        without = features[image]
        without[torch.arange(len(image)), channel] = 0
        scores.append(cut.head(without, image).gather(1, targets[image, None])[:, 0])
    return torch.cat(scores).view(n, channels)


@method("EigenCAM")
def eigencam(cut: Cut) -> Tensor:
    """The first principal component of **B** over positions, with the sign its SVD returns.

    As in pytorch-grad-cam (Muhammad and Yeasin, 2020). **B** is centred first, so the sign decides
    which half of the map survives the ReLU.
    """
    return cut.principal


@method("HiResCAM")
def hirescam(cut: Cut) -> Tensor:
    """Σ_v g^(v) ⊙ **B**^(v) (Definition 4; Draelos and Carin, 2020): zero behind the wall, as g."""
    return (cut.gradient * cut.features).sum(1)


# Beyond the paper's table.


@method("LayerCAM")
def layercam(cut: Cut) -> Tensor:
    """Σ_v max(g^(v), 0) ⊙ **B**^(v) (Jiang et al., 2021): zero behind the wall, where g is."""
    return (cut.gradient.clamp_min(0) * cut.features).sum(1)


@method("EigenCAM (sign fixed)")
def eigencam_fixed(cut: Cut) -> Tensor:
    """EigenCAM, signed so that the map is large where features are: ⟨map, Σ_v **B**^(v)⟩ ≥ 0."""
    projection = cut.principal
    agreement = (projection * cut.features.sum(1)).sum((1, 2), keepdim=True)
    return projection * torch.where(agreement < 0, -1, 1)


@method("EigenCAM (other sign)")
def eigencam_other(cut: Cut) -> Tensor:
    """The half of EigenCAM's map that `EigenCAM (sign fixed)` throws away."""
    return -eigencam_fixed(cut)


@method("FinerCAM")
def finercam(cut: Cut) -> Tensor:
    """GradCAM of the target against the three classes of nearest logits (Zhang et al., 2025).

    Raises ValueError for a network of one class.
    """
    from pytorch_grad_cam.utils.model_targets import FinerWeightedTarget

    if cut.logits.shape[1] < 2:
        raise ValueError("model: got 1 class; FinerCAM takes 2 or more, which it compares")
    apart = (cut.logits - cut.score[:, None]).abs()
    nearest = apart.scatter(1, cut.targets[:, None], -1).argsort(1)[:, 1:4]
    leaf, logits = cut.graph
    with torch.enable_grad():
        goals = [
            FinerWeightedTarget(int(t), near.tolist(), 1)
            for t, near in zip(cut.targets, nearest, strict=True)
        ]
        total = sum(goal(row) for goal, row in zip(goals, logits, strict=True))
    (gradient,) = torch.autograd.grad(total, leaf, retain_graph=True)
    return weighted(gradient.mean((2, 3)), cut.features)


@method("ShapleyCAM")
def shapleycam(cut: Cut) -> Tensor:
    """α_v = GAP(g - ½ H·**B**)^(v), H the Hessian of y (Cai, 2025).

    GradCAM itself where f is piecewise linear.
    """
    leaf, logits = cut.graph
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(
            logits.gather(1, cut.targets[:, None]).sum(), leaf, create_graph=True
        )
        curvature = None
        if gradient.requires_grad:  # else f is linear
            (curvature,) = torch.autograd.grad(
                gradient, leaf, leaf.detach(), allow_unused=True, retain_graph=True
            )
    curved = gradient.detach() if curvature is None else gradient.detach() - curvature / 2
    return weighted(curved.mean((2, 3)), cut.features)


@method("GradCAMElementWise")
def gradcam_elementwise(cut: Cut) -> Tensor:
    """Σ_v max(g^(v) ⊙ **B**^(v), 0): LayerCAM itself, since **B** is rectified."""
    return _by_library("GradCAMElementWise", cut)


@method("EigenGradCAM")
def eigengradcam(cut: Cut) -> Tensor:
    """EigenCAM of g ⊙ **B**, by pytorch-grad-cam, sign as its SVD returns it."""
    return _by_library("EigenGradCAM", cut)


@method("SegEigenCAM")
def segeigencam(cut: Cut) -> Tensor:
    """EigenCAM of |g| ⊙ **B**, largest score positive (Chung and Ying, 2025), by the library."""
    return _by_library("SegEigenCAM", cut)


@method("KPCA-CAM")
def kpca_cam(cut: Cut) -> Tensor:
    """**B**'s first kernel principal component (sigmoid; Karmani et al., 2024), by the library."""
    return _by_library("KPCA_CAM", cut)


@method("FEM")
def fem(cut: Cut) -> Tensor:
    """α_v = the share of positions where **B**^(v) is 2σ above its mean (Fuad et al., 2020)."""
    return _by_library("FEM", cut)


@method("SumCAM")
def sumcam(cut: Cut) -> Tensor:
    """α_v = 1: every channel counts alike, so that nothing can cancel."""
    return cut.features.sum(1)


@method("RandomCAM")
def randomcam(cut: Cut) -> Tensor:
    """α_v uniform in [-1, 1], seeded by the image's own pixels: what meaningless weights score."""
    drawn = []
    for image in cut.images:
        seed = zlib.crc32(image.float().cpu().numpy().tobytes())
        random = np.random.Generator(np.random.Philox(seed))
        drawn.append(random.uniform(-1, 1, cut.features.shape[1]))
    return weighted(torch.as_tensor(np.stack(drawn)).to(cut.features), cut.features)


class _Head(nn.Module):
    """f as a network whose target layer is its input: the library then runs no backbone."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.layer = nn.Identity()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.layer(features))


def _by_library(name: str, cut: Cut) -> Tensor:
    """One pytorch-grad-cam method's maps before its ReLU and scaling, from **B** and g as they are.

    Image by image, each with the same start of the solvers that draw one from NumPy's global state.
    """
    # Imported here, and in FinerCAM: it takes seconds, and who checks params.yaml asks for names.
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = _Head(cut.model.head)
    cam = getattr(library, name)(network, [network.layer])
    cam.activations_and_grads.release()  # its hooks would keep every activation
    maps = []
    for features, gradient, target in zip(
        cut.features.split(1), cut.gradient.split(1), cut.targets, strict=True
    ):
        goals, arrays = [ClassifierOutputTarget(int(target))], map(_array, (features, gradient))
        with _same_start():
            maps.append(
                cam.get_cam_image(features, network.layer, goals, *arrays, eigen_smooth=False)
            )
    # Of an image without features there is no component to project on.
    empty = ~cut.features.flatten(1).any(1).cpu()
    return torch.as_tensor(np.concatenate(maps)).masked_fill(empty[:, None, None], 0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()


@contextmanager
def _same_start() -> Iterator[None]:
    """NumPy's global generator at a seed of its own; afterwards as the caller had it."""
    before = np.random.get_state()
    np.random.seed(0)
    try:
        yield
    finally:
        np.random.set_state(before)
