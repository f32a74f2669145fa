"""The laws beyond GradCAM: by integration, by hand and against sampled networks."""

import numpy as np
import pytest
from helpers.theory_setting import IMAGE, KERNEL, POOL, TAU
from scipy import integrate, stats

from walls.theory import (
    method_checks,
    sampling,
)
from walls.theory.laws import (
    FilterDraws,
    ablation_law,
    expected_scores,
    positive_probability,
    rectified_share,
)


@pytest.mark.parametrize("s", [0.0, 1e-3, 0.08, 0.09, 1.0, 50.0, 3000.0])
def test_rectified_share_by_integration(s):
    def integrand(w: float) -> float:
        return w / (2 + s * w) * stats.norm.pdf(w, 0, TAU)

    precise = {"points": [1e-3, 1e-2, 0.1], "epsabs": 0, "epsrel": 1e-11, "limit": 500}
    value = integrate.quad(integrand, 0, 14 * TAU, **precise)[0]
    assert float(rectified_share(s, TAU)) == pytest.approx(value, rel=1e-9)


def test_laws_beyond_gradcam_against_sampled_networks():
    rows, tail = method_checks.beyond_gradcam(IMAGE, KERNEL, POOL, TAU, 20_000, 4, filters=3)
    for name, row in (rows | tail).items():
        assert row["holds"], (name, row)
    assert tail["AblationCAM, t = 1e+06"]["t P, law"] == pytest.approx(
        tail["AblationCAM, t = 3"]["limit E[γ]/π"], rel=1e-4
    )
    assert rows["AblationCAM"]["P(> 0)"] > 0.55 and rows["GradCAM"]["P, law"] == 0.5 * (1 - 2**-3)
    assert rows["XGradCAM"]["mean"] > 0 and rows["GradCAM++"]["mean"] > 0
    laws = [sampling.filter_draws(IMAGE, v, KERNEL, POOL, TAU, 20_000, 7, (6, 2)) for v in (2, 8)]
    few, many = (expected_scores(law)["GradCAM++"] for law in laws)
    assert many[0] / few[0] == pytest.approx(4, rel=0.05)  # linear in V


def test_ablationcam_is_cauchy_given_the_filters():
    b, c = np.array([[0.3, 1.0, 0.0]]), np.array([[1.0, 0.5, 2.0]])
    (location,), (scale,) = ablation_law(FilterDraws(b, c, c, 6, 48, TAU))
    weights = TAU * c * np.random.default_rng(0).normal(size=(100_000, 3))
    ratio = (weights * b).sum(1) / weights.sum(1)
    assert stats.kstest(ratio, "cauchy", (location, scale)).pvalue > 1e-3
    assert stats.kstest(ratio, "cauchy", (location, 1.05 * scale)).pvalue < 1e-3  # it would see 5%


def test_laws_given_two_draws_of_filters_by_hand():
    """Two filters, two draws, τ = 2, n = 5, hw = 50: each law's mean and error |x - x'|/2."""
    b = np.array([[3.0, 4], [0, 6]])
    c = np.array([[1.0, 2], [0, 0.5]])
    s = np.array([[8.0, 4], [0, 3]])
    draws, half = FilterDraws(b, c, s, 5, 50, 2.0), 1 / np.sqrt(2 * np.pi)

    def share(t: float) -> float:
        return integrate.quad(lambda w: w / (2 + t * w) * stats.norm.pdf(w, 0, 2), 0, 28)[0]

    psi = np.vectorize(share)(s)
    given = {
        "GradCAM": [2 * np.sqrt(5) / 50 * half * root for root in (5, 6)],
        "XGradCAM": [2 / 50 * half * root for root in (np.hypot(3 / 8, 4 * 2 / 4), 6 * 0.5 / 3)],
        "GradCAM++": [5 / 50 * np.dot(x, p) for x, p in zip(b, psi, strict=True)],
        "AblationCAM, undivided": [2 * half * root for root in (np.hypot(3, 8), 3)],
    }
    found = expected_scores(draws)
    for name in found | given:
        mean, error = sum(given[name]) / 2, abs(np.diff(given[name])[0]) / 2
        assert found[name] == pytest.approx((mean, error), rel=1e-7), name
    chances = positive_probability(draws)
    assert (chances["ScoreCAM"], chances["GradCAM++"]) == pytest.approx((3 / 4, 1 - (33 / 64) ** 2))
    location, scale = (law.tolist() for law in ablation_law(draws))
    assert location == [pytest.approx(3.8), 6] and scale == [pytest.approx(0.4), 0]
