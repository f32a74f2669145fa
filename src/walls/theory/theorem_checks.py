"""Theorem 1 and the exact expectation, for every number of filters, wall and depth."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from walls.theory import formulas, sampling
from walls.theory.formulas import Array
from walls.theory.model_checks import HIDDEN, dead_pixel
from walls.theory.results import ERRORS, Rows, errors

FILTERS = (1, 4, 21, 64, 256, 1024)


def theorem_1(
    image: Array,
    kernel: int,
    pool: int,
    tau: float,
    draws: int,
    seed: int,
    filters: Sequence[int] = FILTERS,
) -> tuple[Rows, dict[int, tuple[Array, Array]]]:
    """Every position, every V: Monte Carlo against the exact expectation, the bounds' share of it;
    and the samples.
    """
    sampled = sampling.gradcam(image, filters, kernel, pool, tau, draws, seed)
    rows: Rows = {}
    for v, (mean, error) in sampled.items():
        exact = formulas.expected_gradcam(image, v, kernel, pool, tau)
        i, j = dead_pixel(image, kernel, pool)
        z = errors(mean - exact, error)
        limit = formulas.large_v_limit(image, v, kernel, pool, tau)[i, j]
        bound = formulas.lower_bound(image, v, kernel, pool, tau)[i, j] if v > 20 else None
        rows[f"V = {v}"] = {
            "sampled": float(mean[i, j]),
            "exact": float(exact[i, j]),
            "errors": z,
            "Eq. 5": bound,
            "Eq. 5 / exact": None if bound is None else bound / exact[i, j],
            "ours / exact": formulas.moment_bound(image, v, kernel, pool, tau)[i, j] / exact[i, j],
            "exact / limit": exact[i, j] / limit,
            "holds": bool(z <= ERRORS and (bound is None or bound <= exact[i, j] <= limit)),
        }
    return rows, sampled


def other_walls(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 21
) -> Rows:
    """The exact expectation for other numbers of masked rows of C than half, against Monte
    Carlo.
    """
    rows: Rows = {}
    pooled = formulas.sizes(image, kernel, pool).pooled_rows
    for masked in sorted({0, pooled // 4, pooled - 1}):
        mean, error = sampling.gradcam(image, [filters], kernel, pool, tau, draws, seed, masked)[
            filters
        ]
        exact = formulas.expected_gradcam(image, filters, kernel, pool, tau, masked)
        z = errors(mean - exact, error)
        row = {"exact, largest": float(exact.max()), "sampled": float(mean.flat[exact.argmax()])}
        rows[f"{masked} of {pooled} rows masked, V = {filters}"] = row | {
            "errors": z,
            "holds": z <= ERRORS,
        }
    return rows


def large_v() -> Rows:
    """E[χ_K] up to V = 100,000 against its limit √(V/2) (1 - 5/(8V)); and Eq. 5's share of the
    expectation.
    """
    rows: Rows = {}
    for v in (21, 100, 1_000, 10_000, 100_000):
        exact, limit = formulas.mean_chi(v), math.sqrt(v / 2)
        correction = (1 - exact / limit) * v  # tends to 5/8
        holds = abs(correction - 5 / 8) < 5 / v + 1e-9 * v
        share = (v - 20) / v / math.sqrt(2) * limit / exact
        rows[f"V = {v:,}"] = {
            "E[χ_K]": exact,
            "V (1 - E/limit)": correction,
            "Eq. 5 / exact": share,
            "holds": holds,
        }
    return rows


def depths(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 4
) -> tuple[Rows, dict[int, tuple[Array, Array]]]:
    """L = 1 … 4 with hidden layers of HIDDEN: Monte Carlo against the product of mean chis; and the
    samples.
    """
    sampled = sampling.gradcam_by_depth(image, filters, kernel, pool, tau, HIDDEN, 4, draws, seed)
    i, j = dead_pixel(image, kernel, pool)
    rows: Rows = {}
    for depth, (mean, error) in sampled.items():
        exact = formulas.expected_gradcam(
            image, filters, kernel, pool, tau, widths=(HIDDEN,) * (depth - 1)
        )
        z = errors(mean - exact, error)
        row = {"sampled": float(mean[i, j]), "exact": float(exact[i, j]), "errors": z}
        rows[f"L = {depth}, V = {filters}"] = row | {"holds": z <= ERRORS}
    return rows, sampled


def expectation_curves(
    image: Array, kernel: int, pool: int, tau: float, at: tuple[int, int]
) -> dict[str, tuple[list[int], Array]]:
    """The exact expectation, its limit and both bounds at one position against V: {name: (V,
    values)}.
    """
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
