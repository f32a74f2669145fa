"""Methods that score masked images or masked features: RISE and ReciproCAM.

Neither is 0 behind a wall: what lies there is scored by what the network sees beside it.
"""

import numpy as np
import torch
from torch import Tensor, nn

from walls.saliency.cut import Cut
from walls.saliency.registry import method
from walls.saliency.tensors import pixel_seed

CELLS = 7  # squares of a mask along the image's width
MASKS = 32  # of an image, summed at once


@method("RISE", by="Petsiuk et al., 2018", passes="200", costly=True, pixels=True)
def rise(cut: Cut, masks: int = 200, keep: float = 0.5) -> Tensor:
    """S = Σ_i p(ξ ⊙ M_i) M_i / (n E[M]), p the target's probability (Petsiuk et al., 2018, Eq. 6).

    n = `masks` random masks M_i (`random_masks`, E[M] = `keep`), drawn by the image's own pixels;
    ξ is the normalised image, as in its authors' code. Where a pixel's mask is independent of what
    the network sees, S tends to E[p(ξ ⊙ M)], a constant above 0: behind a wall RISE lights up
    whatever lies there. Raises ValueError for no mask, and `keep` outside of 0 to 1.
    """
    if masks < 1 or not 0 < keep < 1:
        raise ValueError(f"RISE: got {masks} masks, keep {keep}; takes 1 or more, between 0 and 1")
    return torch.stack([_rise(cut, image, masks, keep) for image in range(len(cut.images))])


def _rise(cut: Cut, number: int, masks: int, keep: float) -> Tensor:
    """RISE of the image of that number in its batch: (H, W)."""
    image = cut.images[number]
    height, width = image.shape[1:]
    drawn = random_masks(masks, (height, width), keep, pixel_seed(image))

    def masked(pairs: Tensor) -> Tensor:
        return drawn[pairs[:, 1].cpu(), None].to(image) * image

    pairs = torch.cartesian_prod(torch.tensor([number]), torch.arange(masks)).to(image.device)
    scores = cut.scores(masked, pairs, probability=True)
    total = torch.zeros(height, width, dtype=torch.float64, device=image.device)
    for some, mask in zip(scores.split(MASKS), drawn.split(MASKS), strict=True):
        total += torch.einsum("n,nhw->hw", some.double(), mask.to(image).double())
    return (total / (masks * keep)).to(image.dtype)


def random_masks(count: int, size: tuple[int, int], keep: float, seed: int) -> Tensor:
    """RISE's masks, (count, H, W) in [0, 1], each pixel's expectation being `keep`.

    Squares of ⌈W/7⌉ pixels a side, each 1 with probability `keep` and else 0, bilinearly upscaled
    and shifted by a random part of a square.
    """
    random = np.random.Generator(np.random.Philox(seed))
    cell = -(-size[1] // CELLS)
    rows, columns = (-(-side // cell) + 1 for side in size)
    grids = (random.random((count, rows, columns)) < keep).astype(np.float32)
    shifts = random.integers(0, cell, (count, 2))
    up = nn.functional.interpolate(
        torch.from_numpy(grids)[:, None],
        (rows * cell, columns * cell),
        mode="bilinear",
        align_corners=False,
    )[:, 0]
    return torch.stack(
        [
            one[top : top + size[0], left : left + size[1]]
            for one, (top, left) in zip(up, shifts.tolist(), strict=True)
        ]
    )


@method("ReciproCAM", by="Byun and Lee, 2024", passes="1, and the head's, one a position")
def reciprocam(cut: Cut, gaussian: bool = False) -> Tensor:
    """S_ij = p(f(**B** with all but position (i, j) set to 0)) (Byun and Lee, 2024).

    p is the target's probability. `gaussian`: the position's eight neighbours too, weighed by a
    3 × 3 Gaussian. h·w passes of the head, none of the backbone. A hidden position has the score
    of an empty map, f(0).
    """
    features = cut.features
    n, _, h, w = features.shape
    where = torch.eye(h * w).view(h * w, 1, h, w)
    if gaussian:
        line = torch.tensor([0.25, 0.5, 0.25])
        kernel = torch.outer(line, line)[None, None]
        where = nn.functional.conv2d(where, kernel, padding=1)
    where = where.to(features)

    def alone(pairs: Tensor) -> Tensor:
        image, position = pairs.unbind(1)
        return features[image] * where[position]

    pairs = torch.cartesian_prod(torch.arange(n), torch.arange(h * w)).to(features.device)
    return cut.head_scores(alone, pairs, probability=True).view(n, h, w)
