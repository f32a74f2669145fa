"""The paper's Section 2 and Appendices B to D by formulas, with what is exact beyond them.

Symbols are the paper's: image ξ (H, W), V filters F (V, k, k), pooling k', maps A and B (V, h, w)
with h = H - k + 1, C (V, h', w') with h' = h / k', dense weights W^(1) (d_1, V, h', w') and W^(ℓ)
(d_ℓ, d_ℓ-1), d_L = 1; τ is a standard deviation. Everything here is numpy, float64; simulation is
in sampling.py, [CNN] as a torch module in cnn.py.
"""

import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import ArrayLike, NDArray
from scipy.special import chdtrc, gammaln, logsumexp, ndtr
from scipy.stats import binom

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Sizes:
    """(h, w) of A and B, (h', w') of C, and the pooled rows that W masks."""

    rows: int
    columns: int
    pooled_rows: int
    pooled_columns: int
    masked_rows: int

    @property
    def positions(self) -> int:
        """hw, what the global average pooling divides by."""
        return self.rows * self.columns

    @property
    def seen(self) -> int:
        """n, the cells of one C^(v) that W reads: h'w'/2 in Theorem 1."""
        return (self.pooled_rows - self.masked_rows) * self.pooled_columns

    @property
    def wall(self) -> int:
        """The first row of A and B that no score depends on."""
        return self.rows // self.pooled_rows * (self.pooled_rows - self.masked_rows)


def _whole(name: str, value: object, low: int) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < low:
        raise ValueError(f"{name}: got {value!r}; takes a whole number of at least {low}")
    return int(value)


def _scale(tau: object) -> float:
    if isinstance(tau, bool) or not isinstance(tau, Real) or not 0 < float(tau) < np.inf:
        raise ValueError(f"tau: got {tau!r}; takes a standard deviation above 0")
    return float(tau)


def as_image(image: ArrayLike) -> Array:
    """ξ as float64, (H, W). ValueError unless it is a grayscale image with values in [0, 1]."""
    try:
        image = np.asarray(image, dtype=np.float64)
    except (TypeError, ValueError):
        raise ValueError(
            "image: got what is no array of numbers; takes a grayscale image (H, W)"
        ) from None
    if image.ndim != 2:
        raise ValueError(f"image: got shape {image.shape}; takes a grayscale image (H, W)")
    if not (image.size and np.isfinite(image).all() and image.min() >= 0 and image.max() <= 1):
        raise ValueError("image: got values outside [0, 1]; takes grey values from 0 to 1")
    return image


def sizes(image: ArrayLike, kernel: int, pool: int, masked_rows: int | None = None) -> Sizes:
    """(h, w) = (H - k + 1, W - k + 1), (h', w') = (h, w) / k', and the masked rows of C.

    `masked_rows`: None, the lower half. ValueError where k exceeds the image, k' doesn't divide h
    and w, h' is odd and its lower half is meant, or masked_rows isn't 0 to h'.
    """
    if np.ndim(image) != 2:
        raise ValueError(f"image: got shape {np.shape(image)}; takes a grayscale image (H, W)")
    height, width = np.shape(image)
    kernel, pool = _whole("kernel", kernel, 1), _whole("pool", pool, 1)
    if kernel > min(height, width):
        raise ValueError(
            f"kernel: got {kernel}; takes at most {min(height, width)} on a {height}×{width} image"
        )
    rows, columns = height - kernel + 1, width - kernel + 1
    if rows % pool or columns % pool:
        raise ValueError(f"pool: got {pool}; takes a divisor of h = {rows} and w = {columns}")
    pooled = rows // pool
    if masked_rows is None:
        if pooled % 2:
            raise ValueError(
                f"masked_rows: h' = {pooled} is odd and has no lower half; takes 0 to {pooled}"
            )
        masked_rows = pooled // 2
    masked_rows = _whole("masked_rows", masked_rows, 0)
    if masked_rows > pooled:
        raise ValueError(f"masked_rows: got {masked_rows}; takes 0 to h' = {pooled}")
    return Sizes(rows, columns, pooled, columns // pool, masked_rows)


# Eq. 1-3 and 8: the network.


def patches(image: ArrayLike, kernel: int) -> Array:
    """m at every position: ξ_{i:i+k-1, j:j+k-1}, (h, w, k, k)."""
    return sliding_window_view(np.asarray(image, dtype=np.float64), (kernel, kernel))


def patch_norms(image: ArrayLike, kernel: int) -> Array:
    """‖m‖₂ at every position, (h, w)."""
    return np.linalg.norm(patches(image, kernel), axis=(2, 3))


def forward(
    image: ArrayLike, filters: Array, weights: Sequence[Array], pool: int
) -> dict[str, Any]:
    """Eq. 1-3: A (V, h, w), B = σ(A), C = max over k'×k', and a^(ℓ) = h_ℓ(C') for ℓ = 1 … L.

    h_1 = W^(1) C', without the σ that Eq. 3 puts on C' (its values don't change, its gradient does:
    see Eq. 3 in the notebook's slips). The score is a[-1].
    """
    a = np.einsum("ijpq,vpq->vij", patches(image, filters.shape[-1]), filters)  # Eq. 1
    b = np.maximum(a, 0)
    v, rows, columns = b.shape
    c = b.reshape(v, rows // pool, pool, columns // pool, pool).max(axis=(2, 4))  # Eq. 2
    hidden = [weights[0].reshape(len(weights[0]), -1) @ c.ravel()]  # Eq. 3
    for weight in weights[1:]:
        hidden.append(weight @ np.maximum(hidden[-1], 0))
    return {"A": a, "B": b, "C": c, "a": hidden}


def covariance(image: ArrayLike, kernel: int, tau: float) -> Array:
    """Eq. 8 with its τ²: Cov(A_ij, A_i'j') = τ² Tr(m_ij^T m_i'j'), (hw, hw), of rank at most k²."""
    flat = patches(as_image(image), kernel).reshape(-1, kernel * kernel)
    return _scale(tau) ** 2 * flat @ flat.T


# Lemmas 1-3.


def rectified_mean(mu: float, tau: float) -> float:
    """Lemma 1: E[X⁺] = μ Φ(μ/τ) + τ φ(μ/τ) for X ~ N(μ, τ²)."""
    z = mu / _scale(tau)
    return float(mu * ndtr(z) + tau * np.exp(-z * z / 2) / np.sqrt(2 * np.pi))


def convolution_variance(patch: ArrayLike, tau: float) -> float:
    """Lemma 2: the variance τ²‖m‖² of F ⋆ m, for k² independent entries of F ~ N(0, τ²)."""
    return float(_scale(tau) ** 2 * np.sum(np.square(patch)))


def squared_rectified_moments(tau: float) -> tuple[float, float]:
    """Lemma 3: mean τ²/2 and variance 5τ⁴/4 of (X⁺)² for X ~ N(0, τ²)."""
    return _scale(tau) ** 2 / 2, 5 / 4 * tau**4


def uniform_moments(patch: ArrayLike, tau: float) -> tuple[float, float]:
    """Mean ½τ²‖m‖² and variance (5/4 ‖m‖⁴ - 3/5 Σm⁴) τ⁴ of (A⁺)² for uniform filters.

    Their variance is τ², their fourth moment 9/5 τ⁴. A = F ⋆ m is symmetric: (A⁺)² has half of its
    moments.
    """
    squares = _scale(tau) ** 2 * np.square(patch)
    return float(squares.sum() / 2), float(1.25 * squares.sum() ** 2 - 0.6 * (squares**2).sum())


# Proposition 1.


def score_gradient(weights: Sequence[Array], hidden: Sequence[Array]) -> Array:
    """ρ, the gradient of the score with respect to C: (V, h', w').

    The paper's sum over all paths i_1 … i_{L-1} with 1{a^(1)_{i_1} > 0} ··· ∏ W, by dynamic
    programming: from the score downwards, ρ ← (ρ ⊙ 1{a^(ℓ) > 0}) W^(ℓ), which costs Σ d_ℓ d_{ℓ-1}
    instead of ∏ d_ℓ.
    """
    row = np.ones(1)
    for level in range(len(weights) - 1, -1, -1):
        gate = (
            1.0 if level == len(weights) - 1 else hidden[level] > 0
        )  # the last layer isn't rectified
        row = np.tensordot(row * gate, weights[level], axes=1)
    return row


def gradcam_coefficients(
    weights: Sequence[Array], hidden: Sequence[Array], positions: int
) -> Array:
    """Proposition 1, for V filters: α_v = (1/hw) Σ_{i',j'} ρ^(v)_{i'j'}, (V,). `positions`: hw."""
    return score_gradient(weights, hidden).sum(axis=(1, 2)) / positions


# Theorem 1 and the exact expectation.


def mean_chi(count: int) -> float:
    """E[χ_K], K ~ Binomial(n, ½): Σ_K C(n, K) 2^-n √2 Γ((K+1)/2) / Γ(K/2), n the `count`.

    Added in log space. A chi variable with K degrees of freedom is the norm of a standard normal
    vector in K dimensions; K = 0 adds 0. Between √(count/2) (1 - 5/(2 count)) and √(count/2);
    asymptotically √(count/2) (1 - 5/(8 count)).
    """
    count = _whole("count", count, 1)
    k = np.arange(1, count + 1)
    log_binomial = gammaln(count + 1) - gammaln(k + 1) - gammaln(count - k + 1) - count * np.log(2)
    log_chi = np.log(2) / 2 + gammaln((k + 1) / 2) - gammaln(k / 2)
    return float(np.exp(logsumexp(log_binomial + log_chi)))


def expected_gradcam(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    masked_rows: int | None = None,
    widths: Sequence[int] = (),
) -> Array:
    """E[[GC]] of [CNN] at initialisation, exactly: (h, w), float64.

    For L = 1, with n = (h' - masked_rows) w' cells seen: E[[GC]_ij] = τ² √n ‖m‖ / (hw √(2π)) ·
    E[χ_K], K ~ Binomial(V, ½). Hidden layers of `widths` d_1 … d_{L-1} multiply it by τ E[χ_K], K ~
    Binomial(d_ℓ, ½) each (there up to the event, of probability 2^-V at most, that no filter fires
    in the part that is seen). `masked_rows`: bottom rows of C that W^(1) masks, 0 to h'; None: the
    lower half, as in Theorem 1. ValueError as `sizes` and `as_image`, for V < 1 and for τ ≤ 0.
    """
    image, filters, tau = as_image(image), _whole("filters", filters, 1), _scale(tau)
    size = sizes(image, kernel, pool, masked_rows)
    scale = tau**2 * np.sqrt(size.seen / (2 * np.pi)) / size.positions * mean_chi(filters)
    for width in widths:
        scale *= tau * mean_chi(_whole("widths", width, 1))
    return scale * patch_norms(image, kernel)


def lower_bound(image: ArrayLike, filters: int, kernel: int, pool: int, tau: float) -> Array:
    """Theorem 1, Eq. 5: (V - 20)/√V · √(h'w'/(16π)) · τ²/(hw) · ‖m‖₂, (h, w).

    For L = 1 and the lower half masked. ValueError for V ≤ 20, where the theorem says nothing, and
    as `expected_gradcam`.
    """
    image, filters, tau = as_image(image), _whole("filters", filters, 1), _scale(tau)
    size = sizes(image, kernel, pool)
    if filters <= 20:
        raise ValueError(f"filters: got {filters}; the bound of Theorem 1 takes more than 20")
    cells = size.pooled_rows * size.pooled_columns
    scale = (
        (filters - 20) / np.sqrt(filters) * np.sqrt(cells / (16 * np.pi)) * tau**2 / size.positions
    )
    return scale * patch_norms(image, kernel)


def large_v_limit(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    masked_rows: int | None = None,
) -> Array:
    """√(V n / (4π)) τ²/(hw) ‖m‖₂, (h, w): what the expectation tends to, and never exceeds."""
    image, filters, tau = as_image(image), _whole("filters", filters, 1), _scale(tau)
    size = sizes(image, kernel, pool, masked_rows)
    return (
        np.sqrt(filters * size.seen / (4 * np.pi))
        * tau**2
        / size.positions
        * patch_norms(image, kernel)
    )


def moment_bound(
    image: ArrayLike,
    filters: int,
    kernel: int,
    pool: int,
    tau: float,
    masked_rows: int | None = None,
) -> Array:
    """A lower bound from the same two moments as Eq. 5: (1 - 5/(2V)) times `large_v_limit`.

    Tight for large V. From √y ≥ (3y - y²)/2 at y = Y/E[Y] and Lemma 3, E[y²] = 1 + 5/V. Positive
    for V ≥ 3.
    """
    return (1 - 5 / (2 * _whole("filters", filters, 1))) * large_v_limit(
        image, filters, kernel, pool, tau, masked_rows
    )


def share_above_half(filters: int) -> float:
    """Eq. 13's P(Y ≥ ½ E[Y]), exactly: Σ_K C(V, K) 2^-V P(χ²_K ≥ V/4); Chebyshev: 1 - 20/V."""
    k = np.arange(1, _whole("filters", filters, 1) + 1)
    return float(binom.pmf(k, filters, 0.5) @ chdtrc(k, filters / 4))


# Any backbone, with global average pooling and one linear layer above it.


def pooled_scores(features: ArrayLike, tau: float) -> tuple[Array, Array]:
    """Mean τ‖B_ij‖₂/(hw√(2π)) and variance of [GC]_ij over random classifiers, (h, w) each.

    **B** (V, h, w) is any backbone's; y = ⟨w, mean of B over what is seen⟩, w ~ N(0, τ²). So α =
    w/(hw) whatever is seen, and Σ_v α_v B^(v)_ij ~ N(0, s²) with s = τ‖B_ij‖₂/(hw): the score is
    positive in half of the classes, and its variance is s² (½ - 1/(2π)).
    """
    features = np.asarray(features, dtype=np.float64)
    if features.ndim != 3 or not features.size:
        raise ValueError(f"features: got shape {features.shape}; takes one image's (V, h, w)")
    spread = _scale(tau) * np.linalg.norm(features, axis=0) / features[0].size
    return spread / np.sqrt(2 * np.pi), spread**2 * (0.5 - 0.5 / np.pi)


# The image.


def load_image(name: str) -> Array:
    """A handwritten digit ξ as the authors' experiment takes it: (29, 29), in [0, 1].

    28×28, then one column added right and one row on top, so that 2×2 filters and 2×2 pooling give
    an even h'. "digits": a five of scikit-learn's, 8×8 scaled up bilinearly, no download. "mnist":
    a five of MNIST's test digits, read from `data/MNIST/raw` below the project's root or downloaded
    there. ValueError for others.
    """
    if name == "digits":
        from sklearn.datasets import load_digits
        from torch import from_numpy
        from torch.nn.functional import interpolate

        small = from_numpy(load_digits().images[32][None, None] / 16)
        digit = interpolate(small, size=(28, 28), mode="bilinear", align_corners=False)[
            0, 0
        ].numpy()
    elif name == "mnist":
        digit = _mnist() / 255
    else:
        raise ValueError(f"theory.image: got {name!r}; takes 'digits' or 'mnist'")
    return np.pad(digit.astype(np.float64), ((1, 0), (0, 1)))


def _mnist(index: int = 15) -> NDArray[np.uint8]:
    """One test digit, (28, 28); index 15 is a five."""
    from walls.base import paths

    folder = paths.root() / "data"
    archive = folder / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    if not archive.is_file():
        from torchvision.datasets import MNIST

        return MNIST(folder, train=False, download=True).data[index].numpy()
    with gzip.open(archive) as file:  # idx format: 16 header bytes, then 28×28 bytes an image
        return np.frombuffer(file.read(), np.uint8, count=784, offset=16 + 784 * index).reshape(
            28, 28
        )
