"""Monte Carlo for [CNN] at initialisation: many networks at once, on torch, against which
formulas.py is compared.

Every function draws fresh filters and weights from a `seed` and returns numpy arrays; nothing here
uses the formulas it is meant to check. Samples are float32 (a standard error is 10⁴ times its
rounding), sums over draws float64.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor

from walls.base.progress import track
from walls.theory import formulas
from walls.theory.formulas import Array
from walls.theory.laws import FilterDraws


def _chunks(draws: int, elements: int, budget: int = 2**22) -> Iterator[int]:
    """Chunk lengths adding up to `draws`, about `budget` floats each: small enough for the
    cache.
    """
    step = max(1, min(draws, budget // max(1, elements)))
    with track(total=draws, desc="drawing networks", unit="network") as bar:
        for start in range(0, draws, step):
            yield min(step, draws - start)
            bar.update(min(step, draws - start))


def _patches(image: ArrayLike, kernel: int) -> tuple[Tensor, np.ndarray]:
    """The distinct patches of ξ, (k², P) float32, and each position's index among them, (h, w)."""
    patches = formulas.patches(formulas.as_image(image), kernel)
    distinct, index = np.unique(patches.reshape(-1, kernel * kernel), axis=0, return_inverse=True)
    return torch.from_numpy(distinct.T.copy()).float(), index.reshape(patches.shape[:2])


def gradcam(
    image: ArrayLike,
    filters: Sequence[int],
    kernel: int,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    masked_rows: int | None = None,
) -> dict[int, tuple[Array, Array]]:
    """Mean and standard error of [GC], L = 1, over `draws` networks: {V: ((h, w), (h, w))}.

    Definition 1 with α_v = (1/hw) Σ W^(v), every weight drawn. The networks with fewer filters are
    the first filters of those with more, so one pass serves every V; equal patches share their
    draws' B.
    """
    size = formulas.sizes(image, kernel, pool, masked_rows)
    patches, index = _patches(image, kernel)
    counts = sorted(filters)
    random = torch.Generator().manual_seed(seed)
    totals = torch.zeros(len(counts), 2, patches.shape[1], dtype=torch.float64)
    for length in _chunks(draws, counts[-1] * patches.shape[1]):
        score = torch.zeros(length, patches.shape[1])
        for level, (low, high) in enumerate(zip([0, *counts], counts, strict=False)):
            f = torch.randn(length, high - low, len(patches), generator=random) * tau
            w = torch.randn(length, high - low, size.seen, generator=random) * tau
            alpha = w.sum(2, keepdim=True) / size.positions
            score += (alpha.mT @ (f @ patches).relu_()).squeeze(1)
            gc = score.relu().double()
            totals[level] += torch.stack([gc.sum(0), gc.square().sum(0)])
    return {v: _moments(total, draws, index) for v, total in zip(counts, totals, strict=True)}


def _moments(total: Tensor, draws: int, index: np.ndarray) -> tuple[Array, Array]:
    """Mean and its standard error (n - 1) from sums and sums of squares, put back at their
    positions.
    """
    mean = total[0] / draws
    variance = (total[1] / draws - mean.square()).clamp(min=0) * draws / (draws - 1)
    return mean.numpy()[index], (variance / draws).sqrt().numpy()[index]


def _networks(
    image: Array, filters: int, kernel: int, pool: int, tau: float, draws: int, size, random
):
    """Chunks of random convolutions: B (D, V, h, w) and the seen part of C (D, V, n), float32."""
    patches, index = _patches(image, kernel)
    index = torch.from_numpy(index)
    for length in _chunks(draws, filters * index.numel()):
        f = torch.randn(length, filters, len(patches), generator=random) * tau
        b = (f @ patches).relu_()[:, :, index]
        yield b, torch.nn.functional.max_pool2d(b[:, :, : size.wall], pool).flatten(2)


def gradcam_by_depth(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    width: int,
    depth: int,
    draws: int,
    seed: int,
    masked_rows: int | None = None,
) -> dict[int, tuple[Array, Array]]:
    """Mean and standard error of [GC] for L = 1 … depth, hidden layers of `width`: {L: ((h, w), (h,
    w))}.

    Each L has its own last layer on top of the shared hidden layers; α by the backward pass of Eq.
    3.
    """
    size = formulas.sizes(image, kernel, pool, masked_rows)
    index = _patches(image, kernel)[1]
    random = torch.Generator().manual_seed(seed)
    totals = torch.zeros(depth, 2, *index.shape, dtype=torch.float64)

    def weights(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=random) * tau

    for b, c in _networks(
        formulas.as_image(image), filters, kernel, pool, tau, draws, size, random
    ):
        length = len(b)
        summed, hidden, gated = (
            weights(length, 1, filters, size.seen).sum(3),
            c.flatten(1)[:, :, None],
            [],
        )
        for level in range(depth):
            if level == 1:
                dense = weights(length, width, filters, size.seen)
                hidden, jacobian = (
                    dense.flatten(2) @ hidden,
                    dense.sum(3),
                )  # W^(1) C', and W^(1) summed over positions
            elif level > 1:
                dense = weights(length, width, width)
                hidden, jacobian = dense @ hidden.relu(), dense @ gated[-1]
            if level:
                gated.append(jacobian * (hidden > 0))
                summed = weights(length, 1, width) @ gated[-1]
            gc = (
                (summed / size.positions @ b.flatten(2))
                .relu()
                .reshape(length, *index.shape)
                .double()
            )
            totals[level] += torch.stack([gc.sum(0), gc.square().sum(0)])
    positions = np.arange(index.size).reshape(index.shape)
    return {
        level + 1: _moments(total.flatten(1), draws, positions)
        for level, total in enumerate(totals)
    }


def filter_draws(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    pixel: tuple[int, int],
) -> FilterDraws:
    """Random filters' statistics at `pixel` for laws.py's laws; the lower half masked."""
    size = formulas.sizes(image, kernel, pool)
    random = torch.Generator().manual_seed(seed)
    parts = []
    for b, c in _networks(
        formulas.as_image(image), filters, kernel, pool, tau, draws, size, random
    ):
        parts.append(torch.stack([b[:, :, *pixel], c.norm(dim=2), b.sum((2, 3))]).double())
    return FilterDraws(*torch.cat(parts, dim=1).numpy(), size.seen, size.positions, tau)


def methods(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    pixels: Sequence[int],
) -> dict[str, np.ndarray]:
    """Scores of `draws` networks at flat positions `pixels`: {method: (draws, P)}; L = 1, the lower
    half masked.

    Every weight of W is drawn; ∇_B f by max pooling's own argmax; then Definitions 1-4 and 7,
    LayerCAM, and the undivided drop Σ (y - y_v) B^(v). ScoreCAM and Opti-CAM, whose score needs no
    law, are left out.
    """
    size = formulas.sizes(image, kernel, pool)
    random = torch.Generator().manual_seed(seed)
    found: dict[str, list[Tensor]] = {}
    for b, c in _networks(
        formulas.as_image(image), filters, kernel, pool, tau, draws, size, random
    ):
        w = torch.randn(len(b), filters, size.seen, generator=random) * tau
        places = torch.nn.functional.max_pool2d(b[:, :, : size.wall], pool, return_indices=True)[1]
        gradient = torch.zeros_like(b).flatten(2).scatter_(2, places.flatten(2), w)
        b, s = b.flatten(2), b.sum((2, 3)).clamp(min=torch.finfo(torch.float32).tiny)
        drop = (w * c).sum(2)
        coefficients = {
            "GradCAM": gradient.mean(2),
            "XGradCAM": (b * gradient).mean(2) / s,
            "GradCAM++": (gradient.relu() / (2 + s[:, :, None] * gradient.relu())).mean(2),
            "AblationCAM": drop / drop.sum(1, keepdim=True),
            "AblationCAM, undivided": drop,
        }
        at, slope = b[:, :, pixels], gradient[:, :, pixels]
        scores = {name: (alpha[:, :, None] * at).sum(1) for name, alpha in coefficients.items()}
        scores |= {"HiResCAM": (slope * at).sum(1), "LayerCAM": (slope.relu() * at).sum(1)}
        for name, score in scores.items():
            found.setdefault(name, []).append(
                score.relu().nan_to_num(0.0)
            )  # y = 0: no filter fires
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}
