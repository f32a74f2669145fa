"""Monte Carlo for [CNN] at initialisation: many networks at once, on torch.

Every function draws fresh filters and weights from a `seed` and returns numpy arrays; nothing here
uses the formulas it is meant to check. Samples are float32 (a standard error is 10⁴ times its
rounding), sums over draws float64. Scores go through automatic differentiation (`given_filters`,
`predicted`, `methods`), or are integrated over the last layer, whose share is then exact
(`feature_norms`, `path_norms`).
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import ArrayLike
from torch import Tensor, nn
from torch.nn.functional import conv2d, max_pool2d, pad

from walls.base.progress import track
from walls.network.classifier import Classifier
from walls.theory import formulas
from walls.theory.formulas import Array, Sizes
from walls.theory.laws import FilterDraws


def _chunks(draws: int, elements: int, budget: int = 2**19) -> Iterator[int]:
    """Chunk lengths that add up to `draws`, about `budget` floats each, which fit a cache."""
    step = max(1, min(draws, budget // max(1, elements)))
    with track(total=draws, desc="drawing networks", unit="network") as bar:
        for start in range(0, draws, step):
            yield min(step, draws - start)
            bar.update(min(step, draws - start))


def _entries(shape: Sequence[int], tau: float, law: str, random: torch.Generator) -> Tensor:
    """Independent weights of variance τ², "normal" or "uniform"."""
    if law == "uniform":
        return (torch.rand(*shape, generator=random) * 2 - 1) * (3**0.5 * tau)
    return torch.randn(*shape, generator=random) * tau


def _patches(image: ArrayLike, kernel: int) -> tuple[Tensor, np.ndarray]:
    """The distinct patches of ξ, (k², P) float32, and each position's index among them, (h, w).

    A patch of an image with channels, (3, H, W), has 3k² entries.
    """
    channels = np.atleast_3d(np.asarray(image).T).T  # (H, W) becomes (1, H, W)
    patches = np.stack([formulas.patches(formulas.as_image(one), kernel) for one in channels], 2)
    rows = patches.reshape(patches.shape[0] * patches.shape[1], -1)
    distinct, index = np.unique(rows, axis=0, return_inverse=True)
    return torch.from_numpy(distinct.T.copy()).float(), index.reshape(patches.shape[:2])


def _moments(total: Tensor, draws: int, index: np.ndarray) -> tuple[Array, Array]:
    """Mean and its standard error (n - 1) from sums and sums of squares, put at their positions."""
    mean = total[0] / draws
    variance = (total[1] / draws - mean.square()).clamp(min=0) * draws / (draws - 1)
    return mean.numpy()[index], (variance / draws).sqrt().numpy()[index]


def feature_norms(
    image: ArrayLike,
    filters: int,
    kernel: int,
    tau: float,
    draws: int,
    seed: int,
    law: str = "normal",
    pixel: tuple[int, int] = (0, 0),
) -> tuple[Array, Array, Array]:
    """‖B_ij‖₂ = √Y over `draws` sets of filters: mean (h, w), its standard error, and Y at `pixel`.

    By Eq. 12 the expected score is this mean times τ√n/(hw√(2π)): what W adds is integrated. Equal
    patches share their draws.
    """
    patches, index = _patches(image, kernel)
    random = torch.Generator().manual_seed(seed)
    total = torch.zeros(2, patches.shape[1], dtype=torch.float64)
    there = []
    for length in _chunks(draws, filters * patches.shape[1]):
        f = _entries((length * filters, len(patches)), tau, law, random)
        y = (f @ patches).relu_().square_()
        y = y.view(length, filters, -1).sum(1) if filters > 1 else y
        total += torch.stack([part.sum(0, dtype=torch.float64) for part in (y.sqrt(), y)])
        there.append(y[:, index[pixel]].double())
    return (*_moments(total, draws, index), torch.cat(there).numpy())


def given_filters(
    image: Array,
    filters: Array,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    masked_rows: int | None = None,
    law: str = "normal",
    pixel: tuple[int, int] = (0, 0),
) -> tuple[Array, Array, Array]:
    """[GC] of one set of filters (V, k, k), L = 1, over W: mean (h, w), its error, X at `pixel`.

    Every weight of W is drawn and its masked rows set to zero; α is GAP(∇_B f) by automatic
    differentiation through max pooling, of W and of -W (whose α is the other's negative), so that
    the mean of both σ(X) is |X|/2.
    """
    size = formulas.sizes(image, filters.shape[-1], pool, masked_rows)
    random = torch.Generator().manual_seed(seed)
    x = torch.from_numpy(formulas.as_image(image))[None, None]
    b = conv2d(x, torch.from_numpy(filters)[:, None]).relu().float()
    total, there = torch.zeros(2, size.positions, dtype=torch.float64), []
    for length in _chunks(draws, b.numel()):
        w = _dense(length, len(filters), size, tau, law, random)
        alpha = _gradient(b.expand(length, -1, -1, -1), w, pool).mean((2, 3))
        score = (alpha @ b[0].flatten(1)).double()
        total += torch.stack([score.abs().sum(0) / 2, score.square().sum(0) / 4])
        there.append(score.reshape(length, size.rows, size.columns)[:, *pixel])
    positions = np.arange(size.positions).reshape(size.rows, size.columns)
    return (*_moments(total, draws, positions), torch.cat(there).numpy())


def _dense(
    draws: int, filters: int, size: Sizes, tau: float, law: str, random: torch.Generator
) -> Tensor:
    """W^(1), (draws, V, h', w'), with zeros in the masked rows."""
    seen = size.pooled_rows - size.masked_rows
    w = _entries((draws, filters, seen, size.pooled_columns), tau, law, random)
    return pad(w, (0, 0, 0, size.masked_rows))


def _gradient(b: Tensor, w: Tensor, pool: int) -> Tensor:
    """∇_B f of every network by automatic differentiation, (D, V, h, w)."""
    b = b.clone().requires_grad_()
    return torch.autograd.grad((max_pool2d(b, pool) * w).sum(), b)[0]


def _networks(
    image: ArrayLike,
    filters: int,
    kernel: int,
    tau: float,
    draws: int,
    random: torch.Generator,
    share: int = 1,
) -> Iterator[Tensor]:
    """Chunks of random convolutions: B (D, V, h, w), float32; `share`: floats held per one of B."""
    patches, index = _patches(image, kernel)
    index = torch.from_numpy(index)
    for length in _chunks(draws, share * filters * index.numel()):
        f = _entries((length, filters, len(patches)), tau, "normal", random)
        yield (f @ patches).relu_()[:, :, index]


def path_norms(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    width: int,
    depth: int,
    draws: int,
    seed: int,
    start: int = 0,
) -> dict[int, tuple[Array, Array]]:
    """Mean and standard error of ‖p^(L-1)‖ for L = 1 … depth, lower half masked: {L: both}.

    At every third position from `start` on, row by row. p^(0) = u and p^(ℓ) = 1{a^(ℓ) > 0} ⊙ W^(ℓ)
    p^(ℓ-1): all layers but the last, whose weights are integrated: the expected score is
    τ/(hw√(2π)) times this. It takes Proposition 1 for granted.
    """
    size = formulas.sizes(image, kernel, pool)
    random = torch.Generator().manual_seed(seed)
    places = torch.arange(start, size.positions, 3)
    totals = torch.zeros(depth, 2, len(places), dtype=torch.float64)
    for b in _networks(image, filters, kernel, tau, draws, random):
        c = max_pool2d(b[:, :, : size.wall], pool).flatten(1)[:, :, None]
        b = b.flatten(2)[:, :, places]
        energy = size.seen * torch.eye(filters).expand(len(b), -1, -1)  # ‖p‖² = bᵀ energy b
        for level in range(depth):
            if level == 1:
                dense = _entries((len(b), width, filters, size.seen), tau, "normal", random)
                hidden, path = dense.flatten(2) @ c, dense.sum(3)
            elif level > 1:
                dense = _entries((len(b), width, width), tau, "normal", random)
                hidden, path = dense @ hidden.relu(), dense @ path
            if level:
                path = path * (hidden > 0)
                energy = path.mT @ path
            norm = (b * (energy @ b)).sum(1).clamp(min=0)
            parts = [part.sum(0, dtype=torch.float64) for part in (norm.sqrt(), norm)]
            totals[level] += torch.stack(parts)
    order = np.arange(len(places))
    return {level + 1: _moments(total, draws, order) for level, total in enumerate(totals)}


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
    networks = _networks(image, filters, kernel, tau, draws, random)
    return _filter_draws([_statistics(b, pool, size, pixel) for b in networks], size, tau)


def _statistics(b: Tensor, pool: int, size: Sizes, pixel: tuple[int, int]) -> Tensor:
    """b_v, c_v, s_v and the sum of c_v's cells, (4, D, V), of features (D, V, h, w)."""
    c = max_pool2d(b[:, :, : size.wall], pool).flatten(2)
    return torch.stack([b[:, :, *pixel], c.norm(dim=2), b.sum((2, 3)), c.sum(2)]).double()


def _filter_draws(statistics: Sequence[Tensor], size: Sizes, tau: float) -> FilterDraws:
    b, c, s, total = torch.cat(list(statistics), dim=1).numpy()
    return FilterDraws(b, c, s, size.seen, size.positions, tau, total)


def predicted(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    classes: Sequence[int],
    draws: int,
    seed: int,
    pixel: tuple[int, int],
) -> tuple[dict[int, Array], FilterDraws]:
    """Σ_v α_v B^(v) at `pixel` for the largest of K logits, {K: (draws,)}; L = 1.

    The lower half is masked and every weight drawn; the first K logits of a network with more are
    those of one with K. The largest logit's gradient is by automatic differentiation. Beside them
    the same networks' filters.
    """
    size = formulas.sizes(image, kernel, pool)
    random = torch.Generator().manual_seed(seed)
    found: dict[int, list[Tensor]] = {}
    statistics = []
    for b in _networks(image, filters, kernel, tau, draws, random, share=1 + max(classes) // 8):
        statistics.append(_statistics(b, pool, size, pixel))
        features, seen = b.clone().requires_grad_(), size.wall // pool
        pooled = max_pool2d(features, pool)[:, :, :seen].flatten(1)
        w = _entries((len(b), max(classes), pooled.shape[1]), tau, "normal", random)
        logits = (w @ pooled[:, :, None])[:, :, 0]
        for count in classes:
            largest = logits[:, :count].max(dim=1).values.sum()
            gradient = torch.autograd.grad(largest, features, retain_graph=True)[0]
            score = (gradient.mean((2, 3)) * b[:, :, *pixel]).sum(1)
            found.setdefault(count, []).append(score)
    scores = {count: torch.cat(parts).double().numpy() for count, parts in found.items()}
    return scores, _filter_draws(statistics, size, tau)


def pooled_classes(
    model: Classifier, linear: nn.Linear, image: Tensor, tau: float, draws: int, seed: int
) -> dict[str, Array]:
    """[GC] of `draws` random classes at least on one image's **B**, α by automatic differentiation.

    `linear`, the model's last layer, is drawn anew until there are enough classes, from N(0, τ²).
    Returns (h, w) each: `mean` and its `error`, of σ(X) and σ(-X), which is w's and -w's; `square`,
    E[X²], and its error `square error`; `positive`, the share of X > 0; and **B** as `features`
    (V, h, w), `alpha` and `weight` of the last classes (K, V).
    """
    features = model.cut(image)[0].detach()
    context, rounds = model.cut(image)[1], -(-draws // linear.out_features)
    b, random = features[0].flatten(1), torch.Generator().manual_seed(seed)
    each = torch.eye(linear.out_features, dtype=features.dtype)
    total = torch.zeros(4, b.shape[1], dtype=torch.float64)
    for _ in range(rounds):
        nn.init.normal_(linear.weight, std=tau, generator=random)
        leaf = features.clone().requires_grad_()
        logits = model.logits(leaf, context)[0]
        gradient = torch.autograd.grad(logits, leaf, each, is_grads_batched=True)[0]
        alpha = gradient[:, 0].mean((2, 3))
        x = alpha @ b
        size = x.abs() / 2
        total += torch.stack([part.sum(0) for part in (size, size**2, x**4, (x > 0).double())])
    count, shape = rounds * len(each), features.shape[2:]
    positions = np.arange(b.shape[1]).reshape(shape)
    mean, error = _moments(total[:2], count, positions)
    square, square_error = _moments(torch.stack([4 * total[1], total[2]]), count, positions)
    found = {"mean": mean, "error": error, "square": square, "square error": square_error}
    found["positive"] = (total[3] / count).numpy()[positions]
    found["draws"] = np.array(count)
    found |= {"alpha": alpha.numpy(), "weight": linear.weight.detach().numpy().copy()}
    return found | {"features": features[0].numpy()}


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
    """Scores of `draws` networks at flat positions `pixels`: {method: (draws, P)}; L = 1.

    Every weight of W is drawn and its lower half set to zero; ∇_B f by automatic differentiation,
    over all of B; then Definitions 1-4 and 7, LayerCAM, and the undivided drop Σ (y - y_v) B^(v).
    ScoreCAM and Opti-CAM, whose score needs no law, are left out.
    """
    size = formulas.sizes(image, kernel, pool)
    random = torch.Generator().manual_seed(seed)
    smallest = torch.finfo(torch.float32).tiny
    found: dict[str, list[Tensor]] = {}
    for b in _networks(image, filters, kernel, tau, draws, random):
        w = _dense(len(b), filters, size, tau, "normal", random)
        gradient = _gradient(b, w, pool).flatten(2)
        drop = (w * max_pool2d(b, pool)).sum((2, 3))
        b, s = b.flatten(2), b.sum((2, 3)).clamp(min=smallest)
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
        for name, score in scores.items():  # y = 0, where no filter fires, is taken as 0
            found.setdefault(name, []).append(score.relu().nan_to_num(0.0))
    return {name: torch.cat(parts).double().numpy() for name, parts in found.items()}
