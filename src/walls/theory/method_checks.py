"""The other methods' scores in the dead zone at initialisation: sampled against their laws."""

import math

import numpy as np

from walls.theory import formulas, laws, sampling
from walls.theory.formulas import Array
from walls.theory.model_checks import dead_pixel
from walls.theory.results import ERRORS, Rows, errors, relative


def beyond_gradcam(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> tuple[Rows, Rows]:
    """The other methods' scores at one dead position: sampled networks against laws.py's laws.

    The second rows are AblationCAM's tail: t P([AC] > t) doesn't tend to 0, so E[[AC]] is infinite.
    """
    i, j = dead_pixel(image, kernel, pool)
    flat = i * formulas.sizes(image, kernel, pool).columns + j
    scores = sampling.methods(image, filters, kernel, pool, tau, draws, seed, [flat])
    sampled = {name: score[:, 0] for name, score in scores.items()}
    law = sampling.filter_draws(image, filters, kernel, pool, tau, draws, seed + 1, (i, j))
    expected = laws.expected_scores(law)
    positive = laws.positive_probability(law)
    rows: Rows = {}
    for name, scores in sampled.items():
        share, p = float((scores > 0).mean()), positive[name]
        z = errors(np.array(share - p), np.array(math.sqrt(p * (1 - p) / draws)))
        row = {"P(> 0)": share, "P, law": p, "median": float(np.median(scores))}
        if name in expected:
            mean, error = expected[name]
            row |= {"mean": float(scores.mean()), "mean, law": mean}
            z = max(
                z,
                errors(
                    scores.mean() - mean, np.hypot(error, scores.std(ddof=1) / math.sqrt(draws))
                ),
            )
        if positive[name] == 0:
            row |= {"mean": float(scores.mean()), "mean, law": 0.0}
        rows[name] = row | {"errors": z, "holds": z <= ERRORS}
    median = laws.ablation_median(law)
    below = float((sampled["AblationCAM"] <= median).mean())
    z = errors(
        np.array(below - 0.5), np.array(math.sqrt(0.5 / draws))
    )  # both samples' filters vary
    rows["AblationCAM, median by its law"] = {"median": median, "errors": z, "holds": z <= ERRORS}
    return rows, _ablation_tail(sampled["AblationCAM"], law)


def _ablation_tail(scores: Array, law: laws.FilterDraws) -> Rows:
    """t P([AC] > t) against its limit E[γ]/π, γ² as what y leaves of the sum's variance.

    That is (Σ c²b² - (Σ c²b)²/Σ c²)/Σ c², by regression, and not by `laws.ablation_law`.
    """
    energy, mixed, both = ((law.c**2 * law.b**power).sum(axis=1) for power in (0, 1, 2))
    energy = np.maximum(energy, np.finfo(float).tiny)
    left = np.maximum(both / energy - (mixed / energy) ** 2, 0)
    limit = float(np.sqrt(left).mean() / math.pi)
    rows: Rows = {}
    for t in (3.0, 10.0, 30.0, 100.0, 1e4, 1e6):
        share, p = float((scores > t).mean()), laws.ablation_tail(law, t)
        z = errors(np.array(share - p), np.array(math.sqrt(p / len(scores))))
        row = {
            "t P, sampled": t * share if t <= 100 else None,
            "t P, law": t * p,
            "limit E[γ]/π": limit,
        }
        # Few draws lie beyond 100: there the law itself must come near its limit, from which it
        # differs as 1/t.
        row |= (
            {"errors": z, "difference": None}
            if t <= 100
            else {"errors": None, "difference": relative(t * p, limit)}
        )
        holds = z <= ERRORS if t <= 100 else row["difference"] <= 100 / t
        rows[f"AblationCAM, t = {t:g}"] = row | {"holds": holds}
    return rows


def method_maps(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> dict[str, Array]:
    """Each method's mean map (h, w) over `draws` networks; AblationCAM has no mean: the median."""
    shape = formulas.patch_norms(image, kernel).shape
    scores = sampling.methods(
        image, filters, kernel, pool, tau, draws, seed, range(shape[0] * shape[1])
    )
    middle = {name: np.median if name == "AblationCAM" else np.mean for name in scores}
    return {name: middle[name](values, axis=0).reshape(shape) for name, values in scores.items()}
