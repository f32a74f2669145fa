"""Definitions 1-7 (Appendix A) on [CNN] by their formulas, and their laws at initialisation.

The laws are for L = 1 and hold at one position (i, j) of the dead zone, where HiResCAM and LayerCAM
are zero. They are exact in the dense weights and conditional on the filters F, so that what is left
is a mean over F alone. Per draw and filter v: b_v = B^(v)_ij, c_v = ‖C^(v)‖₂ over the n cells that
W reads, s_v = ‖B^(v)‖₁. Symbols as in formulas.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import dawsn, expi, ndtr
from scipy.special import softmax as _softmax

from walls.theory import formulas
from walls.theory.formulas import Array

# Definitions 1-7.


def feature_gradient(b: Array, rho: Array, pool: int) -> Array:
    """Eq. 9: ∇_B f = D ρ, (V, h, w): each ρ at the first maximum of its k'×k' window.

    The first one where several tie, in reading order, is what automatic differentiation takes, and
    makes D's columns add up to 1.
    """
    v, rows, columns = rho.shape
    windows = b.reshape(v, rows, pool, columns, pool).swapaxes(2, 3)
    windows = windows.reshape(v, rows, columns, pool * pool)
    places = np.arange(pool * pool) == windows.argmax(axis=3)[..., None]
    spread = (places * rho[..., None]).reshape(v, rows, columns, pool, pool)
    return spread.swapaxes(2, 3).reshape(b.shape)


def upsample(maps: Array, shape: tuple[int, int], align_corners: bool = False) -> Array:
    """Up(·): bilinear, (V, h, w) -> (V, H, W); pytorch-grad-cam's ScoreCAM has `align_corners`."""
    from torch import from_numpy
    from torch.nn.functional import interpolate

    batch, corners = from_numpy(maps)[None], align_corners
    return interpolate(batch, size=shape, mode="bilinear", align_corners=corners)[0].numpy()


def unit(maps: Array) -> Array:
    """s(·): each map's minimum to 0 and maximum to 1, (V, H, W); a constant map becomes 0."""
    low, high = maps.min(axis=(1, 2), keepdims=True), maps.max(axis=(1, 2), keepdims=True)
    return (maps - low) / np.where(high > low, high - low, 1)


def gradcam_plus_plus(gradient: Array, l1: Array) -> Array:
    """Definition 3 with g² and g³ for ∂²f and ∂³f: α_v = (1/hw) Σ σ(g) / (2 + ‖B‖₁ g), (V,).

    That is Definition 3 taken literally for exp(f), up to the positive factor exp(f): f is
    piecewise linear, so ∂ⁿ exp(f) = exp(f) gⁿ. For f itself both derivatives vanish and the ratio
    is 0/0.
    """
    rectified = np.maximum(gradient, 0)
    return (rectified / (2 + l1[:, None, None] * rectified)).mean(axis=(1, 2))


def xgradcam(gradient: Array, b: Array, l1: Array) -> Array:
    """Definition 2: α_v = (1/hw) Σ B g / ‖B‖₁, (V,). A dead filter (B = 0, hence 0/0) gets 0."""
    weighted = (b * gradient).mean(axis=(1, 2))
    return np.divide(weighted, l1, out=np.zeros_like(weighted), where=l1 > 0)


def definitions(
    image: Array, filters: Array, weights: Sequence[Array], pool: int, align_corners: bool = False
) -> dict[str, Array]:
    """Definitions 1-5 and 7 on [CNN]: the coefficients α, {method: (V,)}, HiResCAM's (V, h, w).

    `filters` (V, k, k), `weights` W^(1) (d_1, V, h', w'), …, W^(L) (1, d_L-1). ScoreCAM's baseline
    is ξ, as the paper suggests (any constant leaves the softmax as it is). Opti-CAM is solved for,
    not computed: see opticam.py.
    """

    def score(x: Array) -> float:
        return float(formulas.forward(x, filters, weights, pool)["a"][-1][0])

    def ablated(v: int) -> float:
        c = net["C"].copy()
        c[v] = 0
        hidden = weights[0].reshape(len(weights[0]), -1) @ c.ravel()
        for weight in weights[1:]:
            hidden = weight @ np.maximum(hidden, 0)
        return float(hidden[0])

    net = formulas.forward(image, filters, weights, pool)
    b, y = net["B"], float(net["a"][-1][0])
    gradient = feature_gradient(b, formulas.score_gradient(weights, net["a"]), pool)
    l1 = b.sum(axis=(1, 2))
    masks = unit(upsample(b, image.shape, align_corners))
    return {
        "GradCAM": gradient.mean(axis=(1, 2)),
        "XGradCAM": xgradcam(gradient, b, l1),
        "GradCAM++": gradcam_plus_plus(gradient, l1),
        "HiResCAM": gradient,
        "ScoreCAM": _softmax(np.array([score(image * mask) for mask in masks]) - y),
        "AblationCAM": np.array([(y - ablated(v)) / y for v in range(len(b))]),
    }


def weighted_sum(coefficients: Array, b: Array) -> Array:
    """Σ_v α_v B^(v), or Σ_v α_v ⊙ B^(v) where α has positions: (h, w). The score is its σ."""
    alpha = coefficients if coefficients.ndim == 3 else coefficients[:, None, None]
    return (alpha * b).sum(axis=0)


# The laws at initialisation.


def rectified_share(s: Array, tau: float) -> Array:
    """ψ(s) = E[W⁺ / (2 + s W⁺)] for W ~ N(0, τ²), s ≥ 0: (1/s) (½ - z G(z)/√π), z = √2/(τs).

    G(z) = ∫₀^∞ exp(-t²)/(t + z) dt = √π D(z) - ½ exp(-z²) Ei(z²), with Dawson's integral D and the
    exponential integral Ei. Where τs is small, z large and that difference cancels, ψ's alternating
    expansion in s.
    """
    s = np.asarray(s, dtype=np.float64)
    z = np.sqrt(2) / (tau * np.maximum(s, 0.06 / tau))
    integral = np.sqrt(np.pi) * dawsn(z) - 0.5 * np.exp(-(z**2)) * expi(z**2)
    exact = (0.5 - z * integral / np.sqrt(np.pi)) / np.maximum(s, 0.06 / tau)
    moment = [0.5, 1 / np.sqrt(2 * np.pi)]  # E[(W⁺/τ)^n]: m_n = (n - 1) m_{n-2}
    total, power = 0.0, tau / 2
    for n in range(1, 12):
        total = total + power * moment[n]
        moment.append(n * moment[n - 1])
        power = power * -s * tau / 2
    return np.where(tau * s < 0.06, total, exact)


@dataclass(frozen=True)
class FilterDraws:
    """Statistics of random filters at one position: b, c, s and the sum of c's cells, (draws, V).

    `seen`: n cells; `positions`: hw; τ.
    """

    b: Array
    c: Array
    s: Array
    seen: int
    positions: int
    tau: float
    total: Array | None = None


def _mean(values: Array) -> tuple[float, float]:
    """Mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))


def _half_normal(variance: Array) -> Array:
    """E[σ(X)] = √variance φ(0), Lemma 1 with μ = 0."""
    return np.sqrt(variance / (2 * np.pi))


def expected_scores(draws: FilterDraws) -> dict[str, tuple[float, float]]:
    """E[score] at the position, exact given F, and its standard error over F: {method: both}.

    GradCAM: Σ α_v b_v | F ~ N(0, n τ² Σ b²/(hw)²). XGradCAM: ~ N(0, τ² Σ (b c/s)²/(hw)²), dead
    filters adding 0. GradCAM++: n/(hw) Σ b ψ(s), linear in V. Undivided AblationCAM, Σ (y - y_v)
    b_v | F ~ N(0, τ² Σ (b c)²). AblationCAM itself has no expectation for V > 1: `ablation_law`.
    """
    d, tau = draws, draws.tau
    ratio = np.divide(d.c, d.s, out=np.zeros_like(d.c), where=d.s > 0)
    shared = d.seen / d.positions
    return {
        "GradCAM": _mean(tau / d.positions * np.sqrt(d.seen) * _half_normal((d.b**2).sum(1))),
        "XGradCAM": _mean(tau / d.positions * _half_normal(((d.b * ratio) ** 2).sum(1))),
        "GradCAM++": _mean(shared * (d.b * rectified_share(d.s, tau)).sum(1)),
        "AblationCAM, undivided": _mean(tau * _half_normal(((d.b * d.c) ** 2).sum(1))),
    }


def positive_probability(draws: FilterDraws) -> dict[str, float]:
    """P(score > 0) at the position: GradCAM, GradCAM++, ScoreCAM exact, others exact given F.

    GradCAM ½(1 - 2^-V): a centred Gaussian wherever some b_v > 0. XGradCAM and the drop: ½ P(some
    b_v c_v > 0). GradCAM++ 1 - (1 - ½(1 - 2^-n))^V: some active filter with one positive weight
    suffices. ScoreCAM and Opti-CAM 1 - 2^-V: a softmax is positive. HiResCAM and LayerCAM 0.
    AblationCAM: `ablation_law`.
    """
    v, seen = draws.b.shape[1], draws.seen
    both = float(((draws.b * draws.c) > 0).any(axis=1).mean() / 2)
    location, scale = ablation_law(draws)
    return {
        "GradCAM": 0.5 * (1 - 0.5**v),
        "XGradCAM": both,
        "GradCAM++": 1 - (1 - 0.5 * (1 - 0.5**seen)) ** v,
        "HiResCAM": 0.0,
        "LayerCAM": 0.0,
        "ScoreCAM": 1 - 0.5**v,
        "AblationCAM": float(1 - _cauchy(0.0, location, scale).mean()),
        "AblationCAM, undivided": both,
    }


def ablation_law(draws: FilterDraws) -> tuple[Array, Array]:
    """AblationCAM's Σ α_v b_v | F is Cauchy with location x₀ and scale γ, (draws,) each.

    x₀ = Σ c² b/Σ c² and γ² = Σ c² (b - x₀)²/Σ c²: α_v = S_v/Σ S_u with independent S_v ~ N(0,
    τ²c_v²), so the sum is a ratio of two Gaussians: Cauchy around their regression coefficient x₀ ≥
    0. Its expectation is infinite as soon as γ > 0, which takes V > 1. Where no filter fires in the
    part that is seen, y = 0 and the ratio is undefined: taken as 0.
    """
    weight = draws.c**2
    total = np.maximum(weight.sum(axis=1), np.finfo(float).tiny)
    location = (weight * draws.b).sum(axis=1) / total
    spread = (weight * (draws.b - location[:, None]) ** 2).sum(axis=1) / total
    return location, np.sqrt(spread)


def _cauchy(x: float, location: Array, scale: Array) -> Array:
    """P(Cauchy ≤ x); a step where the scale is 0."""
    steep = np.arctan2(x - location, scale) / np.pi + 0.5
    return np.where(scale > 0, steep, (x >= location).astype(float))


def ablation_tail(draws: FilterDraws, level: float) -> float:
    """P([AC] > level), exact given F; level · P tends to E[γ]/π > 0: E[[AC]] is infinite."""
    return float(1 - _cauchy(level, *ablation_law(draws)).mean())


def ablation_median(draws: FilterDraws) -> float:
    """The median of [AC] at the position, exact given F."""
    law = ablation_law(draws)
    below: Callable[[float], float] = lambda x: float(_cauchy(x, *law).mean()) - 0.5
    return 0.0 if below(0.0) >= 0 else float(brentq(below, 0.0, 1e6))


# The predicted class.


def alignment(draws: FilterDraws) -> Array:
    """ρ, the correlation given F of a class's score at the position and its logit: (draws,).

    The score is ⟨W_c, u⟩/(hw) with u = b_v in every seen cell, the logit ⟨W_c, C'⟩: ρ is the cosine
    of u and C', Σ b_v ΣC^(v) / (√(n Σ b²) √(Σ c²)). Neither has negative entries, so ρ ≥ 0. Where
    one of them is zero, so is ρ.
    """
    product = (draws.b * draws.total).sum(axis=1)
    length = np.sqrt(draws.seen * (draws.b**2).sum(axis=1) * (draws.c**2).sum(axis=1))
    return np.divide(product, length, out=np.zeros_like(product), where=length > 0)


def largest_logit(correlation: Array, classes: int) -> tuple[Array, Array]:
    """P(X > 0), and E[σ(X)] over a fixed class's, for the largest of K logits: (draws,) each.

    X/s = ρM + √(1 - ρ²)Z, where M is the largest of K standard normal variables, of density
    KφΦ^(K-1), and Z another one: P = E[Φ(r)], r = ρM/√(1 - ρ²), and E[σ(X)]/s = E[ρM Φ(r) +
    √(1 - ρ²) φ(r)] by Lemma 1. The mean over M by Gauss's rule. For K = 1: ½ and 1.
    """
    nodes, weights = np.polynomial.legendre.leggauss(120)
    m = np.concatenate([5 * nodes - 5, 5 * nodes + 5])  # apart at 0, where ρ = 1 has a step
    density = 5 * np.tile(weights, 2) * classes * np.exp(-(m**2) / 2) * ndtr(m) ** (classes - 1)
    rho = np.minimum(np.atleast_1d(correlation), 1 - 1e-12)[:, None]
    rest = np.sqrt(1 - rho**2)
    ratio = rho * m / rest
    mean = rho * m * ndtr(ratio) + rest * np.exp(-(ratio**2) / 2) / np.sqrt(2 * np.pi)
    return ndtr(ratio) @ density / np.sqrt(2 * np.pi), mean @ density


def fixed_class(draws: FilterDraws) -> Array:
    """E[[GC] | F] at the position for a fixed class, Theorem 1's: (draws,)."""
    energy = draws.seen * (draws.b**2).sum(axis=1)
    return draws.tau / draws.positions * _half_normal(energy)
