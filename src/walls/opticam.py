"""Opti-CAM (Definition 6 of the paper): the weights that make the masked image score best."""

import torch
from torch import Tensor, nn


def optimise(model: nn.Module, images: Tensor, features: Tensor, targets: Tensor, steps: int, lr: float) -> Tensor:
    """[OC] = σ(Σ_v softmax(β*)_v **B**^(v)), with β* maximising the target logit of ξ ⊙ H_β: (N, h, w).

    H_β = s(Up(Σ_v softmax(β)_v **B**^(v))): bilinear upscaling, then min-max scaling per image.
    `images` (N, 3, H, W) normalised; `features` (N, C, h, w), rectified; `targets` (N,). Adam on β alone from a
    uniform start. Images don't influence each other, and β* is the best β met, so more steps never hurt.
    """
    beta = torch.zeros(features.shape[:2], dtype=features.dtype, device=features.device, requires_grad=True)
    adam = torch.optim.Adam([beta], lr=lr)
    best_beta = beta.detach().clone()
    best_score = torch.full((len(images),), -torch.inf, dtype=features.dtype, device=features.device)
    for step in range(steps + 1):
        with torch.enable_grad():
            mask = _unit(nn.functional.interpolate(_combine(beta, features)[:, None], images.shape[2:], mode="bilinear"))
            score = model(images * mask).gather(1, targets[:, None])[:, 0]
            total = score.sum()
        better = score.detach() > best_score
        best_score = torch.where(better, score.detach(), best_score)
        best_beta[better] = beta.detach()[better]
        if step < steps:
            beta.grad = -torch.autograd.grad(total, beta)[0]
            adam.step()
    return _combine(best_beta, features)


def _combine(beta: Tensor, features: Tensor) -> Tensor:
    return (beta.softmax(1)[:, :, None, None] * features).sum(1)


def _unit(maps: Tensor) -> Tensor:
    """s(·): each map onto [0, 1]; a constant one onto 0, where the authors' division gives NaN."""
    low, high = maps.amin((1, 2, 3), keepdim=True), maps.amax((1, 2, 3), keepdim=True)
    return (maps - low) / (high - low).clamp_min(torch.finfo(maps.dtype).tiny)
