"""Theorem 1 and the exact expectation, for every number of filters, wall, depth and law of weights.

The expectation is in two steps, as the paper's proof: given the filters (Eq. 11), W is drawn and
scores go through automatic differentiation; then over the filters (Eq. 12). Each step draws enough
networks that an error of 1% would be `1% in errors` standard errors large.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import stats

from walls.theory import formulas, integrals, sampling
from walls.theory.formulas import Array
from walls.theory.model_checks import HIDDEN, dead_pixel, masked_cnn
from walls.theory.results import ERRORS, Rows, errors, relative

FILTERS = (1, 4, 21, 64, 256, 1024)
MORE = 40  # `draws` networks of 40 filters, or as many filters in more or fewer networks
INTEGRAL = 1e-8  # what numerical integration may be off


def _scale(image: Array, kernel: int, pool: int, tau: float, masked: int | None = None) -> float:
    """τ√n/(hw√(2π)) of Eq. 12, with n counted on the network's own weights."""
    model = masked_cnn(image, 1, kernel, pool, 1, tau, 0, masked)
    n = int((model.dense_weights()[0] != 0).sum())
    positions = math.prod(model.features[0](_batch(image)).shape[2:])
    return tau * math.sqrt(n / (2 * math.pi)) / positions


def _batch(image: Array):
    from torch import from_numpy

    return from_numpy(image)[None, None]


def one_percent(exact: Array, error: Array) -> float:
    """How many standard errors 1% of the exact value is, where it is fewest; 999 where no score."""
    lit = (exact > 0) & (error > 0)
    return float(np.min(0.01 * exact[lit] / error[lit], initial=999.0))


def given_filters(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 2
) -> Rows:
    """Eq. 11 for several walls: W drawn, α by autograd, against N(0, n τ² Y/(hw)²) everywhere.

    Also the exact expectation for that wall, against Eq. 12 with E[√Y] by numerical integration.
    """
    rows: Rows = {}
    size = formulas.sizes(image, kernel, pool)
    pixel = dead_pixel(image, kernel, pool)
    norms = formulas.patch_norms(image, kernel)
    pooled = size.pooled_rows
    walls = sorted({0, pooled // 2, pooled - 1})
    for masked, law in [*((masked, "normal") for masked in walls), (pooled // 2, "uniform")]:
        for trial in range(100):  # filters of which one answers in the dead zone
            f = np.random.default_rng([seed, trial]).normal(0, tau, (filters, kernel, kernel))
            a = np.einsum("ijpq,vpq->vij", formulas.patches(image, kernel), f)
            b = np.linalg.norm(np.maximum(a, 0), axis=0)
            if b[pixel] > 0:
                break
        mean, error, there = sampling.given_filters(
            image, f, pool, tau, 8 * draws, seed, masked, law, pixel
        )
        scale = _scale(image, kernel, pool, tau, masked)
        exact = scale * b
        z = errors(mean - exact, error)
        spread = exact[pixel] * math.sqrt(2 * math.pi)
        p = float(stats.kstest(there, "norm", (0, spread)).pvalue)
        whole = formulas.expected_gradcam(image, 21, kernel, pool, tau, masked)
        apart = relative(whole, scale * tau * norms * integrals.mean_root(21))
        name = f"{masked} of {pooled} rows masked" + (", W uniform" if law == "uniform" else "")
        rows[name] = {
            "sampled": float(mean[pixel]),
            "exact": float(exact[pixel]),
            "errors": z,
            "1% in errors": one_percent(exact, error),
            "p-value": p,
            "V = 21": float(whole[pixel]),
            "difference": apart,
            "holds": bool(z <= ERRORS and p > 1e-4 and apart <= INTEGRAL),
        }
    return rows


def theorem_1(
    image: Array,
    kernel: int,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    filters: Sequence[int] = FILTERS,
) -> tuple[Rows, dict[int, tuple[Array, Array]], dict[int, Array]]:
    """Every position, every V: the exact expectation against Monte Carlo and an integral.

    Besides the rows: the samples {V: (mean (h, w), error)}, and Y at the dead pixel, {V: (draws,)}.
    `difference`: to Eq. 12 with E[√Y] by Laplace's transform, and of both bounds to the limit.
    """
    i, j = dead_pixel(image, kernel, pool)
    scale, norms = _scale(image, kernel, pool, tau), formulas.patch_norms(image, kernel)
    rows: Rows = {}
    samples, energies = {}, {}
    for v in filters:
        count = max(200, MORE * draws // v)
        root, error, energies[v] = sampling.feature_norms(
            image, v, kernel, tau, count, seed, pixel=(i, j)
        )
        mean, error = samples[v] = scale * root, scale * error
        exact = formulas.expected_gradcam(image, v, kernel, pool, tau)
        z = errors(mean - exact, error)
        apart = relative(exact, scale * tau * norms * integrals.mean_root(v))
        limit = formulas.large_v_limit(image, v, kernel, pool, tau)[i, j]
        bound = formulas.lower_bound(image, v, kernel, pool, tau)[i, j] if v > 20 else None
        ours = formulas.moment_bound(image, v, kernel, pool, tau)[i, j]
        enclosed = ours <= exact[i, j] <= limit and (bound is None or bound <= exact[i, j])
        of_limit = exact[i, j] / limit, ours / limit
        apart = max(apart, relative(np.array(of_limit), np.array(_of_limit(v))))
        rows[f"V = {v}"] = {
            "sampled": float(mean[i, j]),
            "exact": float(exact[i, j]),
            "difference": apart,
            "errors": z,
            "1% in errors": one_percent(exact, error),
            "Eq. 5": bound,
            "Eq. 5 / exact": None if bound is None else bound / exact[i, j],
            "ours / exact": ours / exact[i, j],
            "exact / limit": exact[i, j] / limit,
            "holds": bool(z <= ERRORS and apart <= INTEGRAL and enclosed),
        }
    return rows, samples, energies


def _of_limit(filters: int) -> tuple[float, float]:
    """The expectation and the moment bound over the large-V limit, from an integral and Lemma 3."""
    mean, variance = formulas.squared_rectified_moments(1.0)
    second = 1 + variance / (filters * mean**2)  # E[y²] for y = Y/E[Y]
    return integrals.mean_root(filters) / math.sqrt(filters * mean), (3 - second) / 2


def chebyshev(
    image: Array, kernel: int, pool: int, tau: float, energies: Mapping[int, Array]
) -> Rows:
    """Eq. 13 at t = ½ E[Y]: Chebyshev's 1 - 20/V beside the true P(Y ≥ ½ E[Y]), V > 20.

    `exact` by chi-square laws, `difference` to the inverted characteristic function, `sampled` of Y
    at the dead pixel. `Eq. 5 / exact` is the bound's share of the expectation, and `with exact P`
    what it were with that P.
    """
    pixel, setting = dead_pixel(image, kernel, pool), (kernel, pool, tau)
    variance = (tau * formulas.patch_norms(image, kernel)[pixel]) ** 2
    rows: Rows = {}
    for v in (v for v in energies if 20 < v < 1000):
        said, p = 1 - 20 / v, formulas.share_above_half(v)
        share = float((energies[v] >= variance * v / 4).mean())
        z = errors(np.array(share - p), np.array(math.sqrt(max(p * (1 - p), 0) / len(energies[v]))))
        bound, exact = (
            f(image, v, *setting)[pixel] for f in (formulas.lower_bound, formulas.expected_gradcam)
        )
        apart = abs(p - integrals.share_above_half(v))
        left = math.sqrt(v / 4) / integrals.mean_root(v)  # √(½ E[Y]) over E[√Y]
        same = relative(bound / exact, said * left) <= INTEGRAL
        rows[f"Eq. 13, V = {v}"] = {
            "1 - 20/V": said,
            "exact": p,
            "sampled": share,
            "difference": apart,
            "errors": z,
            "Eq. 5 / exact": bound / exact,
            "with exact P": p * left,
            "holds": bool(z <= ERRORS and apart <= 1e-6 and said <= p and same),
        }
    return rows


def large_v() -> Rows:
    """E[χ_K] up to V = 100,000 against an integral, its limit √(V/2) (1 - 5/(8V)), and Eq. 5."""
    rows: Rows = {}
    for v in (21, 100, 1_000, 10_000, 100_000):
        exact, limit = formulas.mean_chi(v), math.sqrt(v / 2)
        apart = abs(exact / integrals.mean_root(v) - 1)
        correction = (1 - exact / limit) * v  # tends to 5/8
        close = abs(correction - 5 / 8) < 5 / v + 1e-9 * v
        rows[f"V = {v:,}"] = {
            "E[χ_K]": exact,
            "difference": apart,
            "V (1 - E/limit)": correction,
            "Eq. 5 / exact": (v - 20) / v / math.sqrt(2) * limit / exact,
            "holds": bool(apart <= INTEGRAL and close),
        }
    return rows


def other_weights(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int) -> Rows:
    """An image of three channels, and uniform filters: E[√Y] and Y's moments in Theorem 1.

    The channels are the digit, the digit upside down, and its negative. Uniform filters' `exact` is
    an integral for V = 1, and else the expansion √E[Y] (1 - Var(Y)/(8 E[Y]²)), right to 10^-4 at V
    = 64; `Gaussian`: for normal filters; `Var(Y)`: over that of normal filters.
    """
    pixel, scale = dead_pixel(image, kernel, pool), _scale(image, kernel, pool, tau)
    channels = np.stack([image, image[::-1], 1 - image])
    rows: Rows = {}
    for v in (4, 64):
        each = [formulas.expected_gradcam(one, v, kernel, pool, tau) for one in channels]
        exact = np.sqrt(np.square(each).sum(axis=0))
        count = max(200, MORE * draws // v)
        root, error, _ = sampling.feature_norms(channels, v, kernel, tau, count, seed)
        z = errors(scale * root - exact, scale * error)
        rows[f"RGB, V = {v}"] = {
            "sampled": float(scale * root[pixel]),
            "exact": float(exact[pixel]),
            "errors": z,
            "1% in errors": one_percent(exact, scale * error),
            "holds": z <= ERRORS,
        }
    patch = formulas.patches(image, kernel)[pixel]
    first, second = formulas.uniform_moments(patch, tau)
    normal = formulas.squared_rectified_moments(tau * float(np.linalg.norm(patch)))[1]
    for v in (1, 64):
        count = max(200, MORE * draws // v)
        root, error, y = sampling.feature_norms(
            image, v, kernel, tau, count, seed, "uniform", pixel
        )
        gaussian = formulas.expected_gradcam(image, v, kernel, pool, tau)[pixel]
        squares = (y - v * first) ** 2
        exact = scale * math.sqrt(v * first) * (1 - second / (8 * v * first**2))
        if v == 1:
            exact = scale * integrals.uniform_mean(patch, tau)
        apart = [y.mean() - v * first, squares.mean() - v * second, scale * root[pixel] - exact]
        spread = np.array([y.std(ddof=1), squares.std(ddof=1)]) / math.sqrt(count)
        z = errors(np.array(apart), np.append(spread, scale * error[pixel]))
        rows[f"uniform filters, V = {v}"] = {
            "sampled": float(scale * root[pixel]),
            "exact": exact,
            "Gaussian": float(gaussian),
            "Var(Y)": second / normal,
            "errors": z,
            "holds": z <= ERRORS,
        }
    return rows


def depths(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 4
) -> tuple[Rows, dict[int, tuple[float, float]]]:
    """L = 1 … 4 with hidden layers of HIDDEN: Monte Carlo against the product of mean chis.

    At every third position. `difference`: to the product of integrals. Besides the rows, the
    samples at the dead pixel, {L: (mean, error)}.
    """
    patches = formulas.patch_norms(image, kernel)
    flat = int(np.ravel_multi_index(dead_pixel(image, kernel, pool), patches.shape))
    start, at = flat % 3, flat // 3
    norms = sampling.path_norms(
        image, filters, kernel, pool, tau, HIDDEN, 4, 6 * draws, seed, start
    )
    scale = tau / (patches.size * math.sqrt(2 * math.pi))
    first = _scale(image, kernel, pool, tau) * tau * integrals.mean_root(filters)
    rows: Rows = {}
    samples = {}
    for depth, (norm, error) in norms.items():
        mean, error = scale * norm, scale * error
        samples[depth] = float(mean[at]), float(error[at])
        widths = (HIDDEN,) * (depth - 1)
        exact = formulas.expected_gradcam(image, filters, kernel, pool, tau, widths=widths)
        exact = exact.ravel()[start::3]
        product = first * (tau * integrals.mean_root(HIDDEN)) ** (depth - 1)
        apart = relative(exact, product * patches.ravel()[start::3])
        z = errors(mean - exact, error)
        rows[f"L = {depth}, V = {filters}"] = {
            "sampled": float(mean[at]),
            "exact": float(exact[at]),
            "difference": apart,
            "errors": z,
            "1% in errors": one_percent(exact, error),
            "holds": bool(z <= ERRORS and apart <= INTEGRAL),
        }
    return rows, samples


def expectation_curves(
    image: Array, kernel: int, pool: int, tau: float, at: tuple[int, int]
) -> dict[str, tuple[list[int], Array]]:
    """The exact expectation, its limit and both bounds at one position: {name: (V, values)}."""
    v = sorted({*np.unique(np.geomspace(1, 100_000, 60).astype(int)).tolist(), *FILTERS})
    lines: dict[str, Any] = {
        "exact expectation": (formulas.expected_gradcam, v),
        "large-V limit": (formulas.large_v_limit, v),
    }
    lines["moment bound, ours"] = (formulas.moment_bound, [x for x in v if x >= 3])
    lines["bound of Theorem 1 (Eq. 5)"] = (formulas.lower_bound, [x for x in v if x > 20])
    return {
        name: (xs, np.array([f(image, x, kernel, pool, tau)[at] for x in xs]))
        for name, (f, xs) in lines.items()
    }
