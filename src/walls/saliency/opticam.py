"""Opti-CAM (Definition 6): the weights that make the masked image score best; how masks do."""

import torch
from torch import Tensor, nn

from walls.network.classifier import Classifier

HIDDEN = ("black", "mean")  # what a mask of 0 shows, see `ground`
FINE, PART = 16, 4  # parts that a batch is cut into, and the most images of one


def ground(model: nn.Module, images: Tensor, hidden: str) -> Tensor:
    """What stands where a mask is 0, as it is in normalised images: (1, C, 1, 1).

    `hidden`: "black", a pixel of 0 in [0, 1], or "mean", the mean colour. Raises ValueError for
    another word.
    """
    if hidden not in HIDDEN:
        raise ValueError(f"hidden: got {ascii(hidden)[:80]}; takes {' or '.join(HIDDEN)}")
    if hidden == "black" and isinstance(model, Classifier):
        return model.black(images)
    return images.new_zeros(1, images.shape[1], 1, 1)


def masked(images: Tensor, mask: Tensor, ground: Tensor | float) -> Tensor:
    """ξ ⊙ mask, of normalised images and a mask in [0, 1], (N, 1, H, W).

    `ground` is what 0 becomes, so that x - ground is the pixels, scaled.
    """
    return ground + (images - ground) * mask


def parts(images: Tensor) -> list[slice]:
    """Where N images are cut into parts for workers; all are one on a GPU."""
    count = len(images)
    size = max(1, min(PART, count // FINE)) if images.device.type == "cpu" else count
    return [slice(start, start + size) for start in range(0, count, size)]


def optimise(
    model: nn.Module,
    images: Tensor,
    features: Tensor,
    targets: Tensor,
    steps: int,
    lr: float,
    ground: Tensor | float = 0.0,
) -> Tensor:
    """[OC] = σ(Σ_v softmax(β*)_v **B**^(v)), β* maximising the target logit of ξ ⊙ H_β: (N, h, w).

    H_β = s(Up(Σ_v softmax(β)_v **B**^(v))): bilinear upscaling, then min-max scaling per image.
    `images` (N, 3, H, W) normalised; `features` (N, C, h, w), rectified; `targets` (N,); `ground`,
    of the function of that name: what ξ ⊙ H_β hides shows (0: the images are ξ). Adam on β
    alone from a uniform start. As its authors' code, an image stops early when a tenth of the steps
    left its score lower than before. Deliberately unlike it: each image stops by its own score, not
    by the batch's sum; β* is the best β met, not the last; a constant map is masked by 0, not by
    0/0. Raises ValueError for fewer than one step and a learning rate that isn't above 0.
    """
    if steps < 1:
        raise ValueError(f"steps: got {steps}; takes 1 or more")
    if not 0 < lr < float("inf"):
        raise ValueError(f"lr: got {lr}; takes a number above 0")
    own = {"dtype": features.dtype, "device": features.device}
    beta = torch.zeros(features.shape[:2], requires_grad=True, **own)
    adam = torch.optim.Adam([beta], lr=lr)
    best_beta = beta.detach().clone()
    best_score = torch.full((len(images),), -torch.inf, **own)
    last_check = best_score.clone()
    active = torch.arange(len(images), device=images.device)
    for step in range(steps + 1):
        with torch.enable_grad():
            mask = _unit(_up(_combine(beta[active], features[active]), images))
            shown = masked(images[active], mask, ground)
            shown = shown.contiguous(memory_format=torch.channels_last)  # the faster layout
            score = _scores(model, shown).gather(1, targets[active, None])[:, 0].to(beta.dtype)
            total = score.sum()
        value = score.detach()
        better = value > best_score[active]
        best_score[active[better]] = value[better]
        best_beta[active[better]] = beta.detach()[active[better]]
        if step == steps:
            break
        beta.grad = -torch.autograd.grad(total, beta)[0]
        adam.step()
        if step % max(1, steps // 10) == 0:
            going = value >= last_check[active]
            last_check[active] = value
            active = active[going]
            if not len(active):
                break
    return _combine(best_beta, features)


@torch.no_grad()
def average_drop(
    model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, hidden: str = "black"
) -> dict[str, float]:
    """How a map does as a mask, in percent, over N images.

    As Zhang et al. (2024), after Chattopadhay et al. (2018). With p the target's softmax
    probability for ξ and o the one for ξ ⊙ s(Up(map)): `average_drop` is the mean of max(p - o, 0)
    / p (lower is better), `average_increase` the share of images with o > p (higher is better).
    `images` (N, 3, H, W) normalised, raw `maps` (N, h, w), `targets` (N,), `hidden` as of `ground`.
    """
    shown = masked(images, _unit(_up(maps, images)), ground(model, images, hidden))
    before, after = (
        _scores(model, x).softmax(1).gather(1, targets[:, None])[:, 0].double()
        for x in (images, shown)
    )
    drop = (before - after).clamp_min(0) / before.clamp_min(torch.finfo(torch.float64).tiny)
    return {
        "average_drop": 100 * float(drop.mean()),
        "average_increase": 100 * float((after > before).double().mean()),
    }


def _scores(model: nn.Module, images: Tensor) -> Tensor:
    """The logits; of a network behind a wall, from the rows that its head sees alone."""
    return model.scores([images]) if isinstance(model, Classifier) else model(images)


def _combine(beta: Tensor, features: Tensor) -> Tensor:
    return torch.einsum("nc,nchw->nhw", beta.softmax(1), features)


def _up(maps: Tensor, images: Tensor) -> Tensor:
    return nn.functional.interpolate(maps[:, None], images.shape[2:], mode="bilinear")


def _unit(maps: Tensor) -> Tensor:
    """s(·): each map onto [0, 1]; a constant one onto 0, where the authors' division gives NaN."""
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
