"""Every CAM method, one function each, under the name that params.yaml and tables show.

A method turns a `Cut` (cut.py: one batch, the network cut at **B**) into raw maps (N, h, w).
by_library.py has those that pytorch-grad-cam computes, attribution.py methods on the input,
perturbation.py those that mask it, transformers.py those on attention. Adding one is adding a
function:

    @method("MyCAM")
    def my_cam(cut: Cut) -> Tensor:
        "Σ_v **B**^(v) (Author et al., 2027)."
        return cut.features.sum(1)

What a `Cut` offers: images, features, gradient, logits, targets, score; scores(…) of other images
and head_scores(…) of other features; graph, for what must differentiate itself.

Symbols: **B** the features, y the target's logit, g = ∂y/∂**B**, GAP the mean over positions.
"""

from contextlib import nullcontext

import numpy as np
import torch
from torch import Tensor, nn

from walls.network.classifier import Classifier, PooledHead, WallLinear
from walls.network.workers import one_thread, shared
from walls.saliency import opticam, registry
from walls.saliency.cut import Cut
from walls.saliency.registry import (  # noqa: F401  where readers look for them
    ATTENTION,
    BY,
    BY_CONSTRUCTION,
    CAMS,
    COSTLY,
    GUARANTEES,
    METHODS,
    PAPERS,
    PASSES,
    PIXELS,
    ZERO,
    method,
)
from walls.saliency.tensors import pixel_seed

PIECES = 8  # that AblationCAM's channels are shared out in


def weighted(weights: Tensor, features: Tensor) -> Tensor:
    """Σ_v α_v **B**^(v): weights (N, C) and features (N, C, h, w) to (N, h, w)."""
    return torch.einsum("nc,nchw->nhw", weights, features)


# The paper's eight methods.


@method("GradCAM", by="Selvaraju et al., 2017", paper=True)
def gradcam(cut: Cut) -> Tensor:
    """α_v = GAP(g^(v)) (Definition 1; Selvaraju et al., 2017)."""
    return weighted(cut.gradient.mean((2, 3)), cut.features)


@method("GradCAM++", by="Chattopadhay et al., 2018", paper=True)
def gradcam_plus_plus(cut: Cut) -> Tensor:
    """α_v = Σ_ij a_ij max(g_ij, 0), a = g² / (2 g² + g³ Σ**B**^(v)) (Definition 3).

    Chattopadhay et al. (2018). g² and g³ stand for the second and third derivative, and 1e-6 is
    added to the denominator, as in pytorch-grad-cam.
    """
    g, square = cut.gradient, cut.gradient.square()
    total = cut.features.sum((2, 3), keepdim=True)
    share = square / (2 * square + total * square * g + 1e-6)
    return weighted((g.clamp_min(0) * torch.where(g != 0, share, 0)).sum((2, 3)), cut.features)


@method("XGradCAM", by="Fu et al., 2020", paper=True)
def xgradcam(cut: Cut) -> Tensor:
    """α_v = Σ_ij g_ij **B**_ij / ‖**B**^(v)‖₁ (Definition 2 up to a constant; Fu et al., 2020).

    0 for a dead filter.
    """
    total = cut.features.sum((2, 3)) + 1e-7  # the library's guard
    return weighted((cut.gradient * cut.features).sum((2, 3)) / total, cut.features)


@method("ScoreCAM", by="Wang et al., 2020", passes="one a channel", paper=True, costly=True)
def scorecam(cut: Cut, hidden: str = "black") -> Tensor:
    """α = softmax_v of y(ξ ⊙ s(Up(**B**^(v)))) (Definition 5; Wang et al., 2020).

    `hidden`: what stands where the mask is 0. "black", the definition's: ξ are pixels in [0, 1].
    "mean": the normalised image is masked, as in pytorch-grad-cam, so that the mean colour stands
    there. Both the same for a network of unknown normalisation (`Classifier.black`). As the
    library: Up with align_corners, no baseline (the softmax cancels it). A channel that is zero
    everywhere masks every image to the same one, which is scored once. Raises ValueError for
    another `hidden`.
    """
    ground = opticam.ground(cut.model, cut.images, hidden)
    live = cut.features.flatten(2).any(2)  # (N, C)
    (dark,) = cut.scorer.scores([ground.expand_as(cut.images[:1]).clone()])
    blank = dark[cut.targets].to(cut.features)  # (N)
    scores = blank[:, None].repeat(1, live.shape[1])

    def masked(pairs: Tensor) -> Tensor:
        image, channel = pairs.unbind(1)
        maps = cut.features[image, channel][:, None]
        up = nn.functional.interpolate(
            maps, cut.images.shape[2:], mode="bilinear", align_corners=True
        )
        low, high = up.amin((2, 3), keepdim=True), up.amax((2, 3), keepdim=True)
        mask = (up - low) / (high - low + 1e-8)  # 1e-8: the library's guard
        return opticam.masked(cut.images[image], mask, ground)

    scores[live] = cut.scores(masked, live.nonzero())  # pairs (image, channel)
    return weighted(scores.softmax(1), cut.features)


@method("Opti-CAM", by="Zhang et al., 2024", passes="50", paper=True, costly=True)
def opti_cam(cut: Cut, steps: int = 50, lr: float = 0.1, hidden: str = "black") -> Tensor:
    """α = softmax(β*), β* maximising y(ξ ⊙ s(Up(Σ_v softmax(β)_v **B**^(v)))) (Definition 6).

    Zhang et al. (2024). `hidden`: "black", the definition's and its authors' (ξ are pixels in
    [0, 1]), or "mean", the normalised image masked, as for ScoreCAM. How it is optimised, and where
    that differs from its authors' code: `opticam.optimise`. Raises ValueError for fewer than one
    step, a learning rate that isn't above 0 and another `hidden`.
    """
    ground = opticam.ground(cut.model, cut.images, hidden)

    def part(model: Classifier, place: slice) -> Tensor:
        images, features, targets = cut.images[place], cut.features[place], cut.targets[place]
        return opticam.optimise(model, images, features, targets, steps, lr, ground)

    return torch.cat(shared(cut.model, part, opticam.parts(cut.images)))


@method(
    "AblationCAM",
    by="Desai and Ramaswamy, 2020",
    passes="1, and the head's, one a channel",
    paper=True,
)
def ablationcam(cut: Cut) -> Tensor:
    """α_v = (y - y_v) / |y|, y_v the logit with **B**^(v) set to zero (Definition 7).

    Desai and Ramaswamy (2020). Deliberately |y|: for a logit below 0 the definition's y would turn
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
        with one_thread() if features.device.type == "cpu" else nullcontext():
            whole = head[0](features)[:, None]

        def logit(head: nn.Sequential, some: slice) -> Tensor:
            weight = head[0].weight[:, some].flatten(2)
            parts = torch.einsum("dcs,ncs->ncd", weight, seen[:, some])
            logits = head[1:]((whole - parts).flatten(0, 1))
            of_each = targets.repeat_interleave(parts.shape[1])[:, None]
            return logits.gather(1, of_each).view(n, -1)

        return torch.cat(shared(head, logit, _pieces(channels, features.device)), 1)
    if isinstance(head, PooledHead) and head.by_channel:
        # y = W·p + b, p_v of B_v alone: removing channel v leaves y - W_v·(p_v - p_v(0)).
        change = head.pooled(features) - head.pooled(torch.zeros_like(features[:1]))
        return cut.score[:, None] - head.last.weight[targets] * change

    def without(pairs: Tensor) -> Tensor:
        image, channel = pairs.unbind(1)
        some = features[image]
        some[torch.arange(len(image)), channel] = 0
        return some

    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(channels))
    return cut.head_scores(without, pairs.to(targets.device)).view(n, channels)


def _pieces(channels: int, device: torch.device) -> list[slice]:
    """Channels in pieces for workers; all are one on a GPU."""
    size = -(-channels // PIECES) if device.type == "cpu" else channels
    return [slice(start, start + size) for start in range(0, channels, size)]


@method("EigenCAM", by="Muhammad and Yeasin, 2020", paper=True)
def eigencam(cut: Cut) -> Tensor:
    """The first principal component of **B** over positions, with the sign its SVD returns.

    As in pytorch-grad-cam (Muhammad and Yeasin, 2020). **B** is centred first, so the sign decides
    which half of the map survives the ReLU.
    """
    return cut.principal


@method("HiResCAM", by="Draelos and Carin, 2020", paper=True, guarantee=BY_CONSTRUCTION)
def hirescam(cut: Cut) -> Tensor:
    """Σ_v g^(v) ⊙ **B**^(v) (Definition 4; Draelos and Carin, 2020): zero behind the wall, as g."""
    return (cut.gradient * cut.features).sum(1)


# Beyond the paper's table.


@method("LayerCAM", by="Jiang et al., 2021", guarantee=BY_CONSTRUCTION)
def layercam(cut: Cut) -> Tensor:
    """Σ_v max(g^(v), 0) ⊙ **B**^(v) (Jiang et al., 2021): zero behind the wall, where g is."""
    return (cut.gradient.clamp_min(0) * cut.features).sum(1)


@method("GradCAM (seen cells)", by="here", guarantee=BY_CONSTRUCTION)
def gradcam_seen(cut: Cut) -> Tensor:
    """α_v = the mean of g^(v) over S, and the map is 0 outside S: GradCAM of the cells f reads.

    S, of every image: the cells (i, j) whose gradient isn't exactly zero in every channel; behind a
    wall, none of the hidden ones. So it is GradCAM masked to S, times hw / |S|, and GradCAM itself
    where S is all cells. Zero where S is empty.
    """
    read = cut.gradient.any(1)  # (N, h, w)
    count = read.sum((1, 2)).clamp_min(1)[:, None]
    return weighted(cut.gradient.sum((2, 3)) / count, cut.features) * read


@method("EigenCAM (sign fixed)", by="here")
def eigencam_fixed(cut: Cut) -> Tensor:
    """EigenCAM, signed so that the map is large where features are: ⟨map, Σ_v **B**^(v)⟩ ≥ 0."""
    projection = cut.principal
    agreement = (projection * cut.features.sum(1)).sum((1, 2), keepdim=True)
    return projection * torch.where(agreement < 0, -1, 1)


@method("EigenCAM (other sign)", by="here")
def eigencam_other(cut: Cut) -> Tensor:
    """The half of EigenCAM's map that `EigenCAM (sign fixed)` throws away."""
    return -eigencam_fixed(cut)


@method("FinerCAM", by="Zhang et al., 2025")
def finercam(cut: Cut) -> Tensor:
    """GradCAM of the target against the three classes of nearest logits (Zhang et al., 2025).

    Raises ValueError for a network of one class.
    """
    # Imported here: it takes seconds, and who checks params.yaml asks for names alone.
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


@method("ShapleyCAM", by="Cai, 2025")
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


@method("SumCAM", by="a baseline")
def sumcam(cut: Cut) -> Tensor:
    """α_v = 1: every channel counts alike, so that nothing can cancel."""
    return cut.features.sum(1)


@method("RandomCAM", by="a baseline")
def randomcam(cut: Cut) -> Tensor:
    """α_v uniform in [-1, 1], seeded by the image's own pixels: what meaningless weights score."""
    drawn = []
    for image in cut.images:
        random = np.random.Generator(np.random.Philox(pixel_seed(image)))
        drawn.append(random.uniform(-1, 1, cut.features.shape[1]))
    return weighted(torch.as_tensor(np.stack(drawn)).to(cut.features), cut.features)


# The others, in their own files.
from walls.saliency import attribution, by_library, perturbation, transformers  # noqa: E402

OTHERS = (attribution, by_library, perturbation, transformers)
registry.arrange([__name__, *(other.__name__ for other in OTHERS)])
