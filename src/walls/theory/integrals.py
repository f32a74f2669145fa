"""Second ways to the theory's closed forms, and what has none: numerical integrals.

Nothing here uses the formulas that it is meant to check. Lengths are in units of τ‖m‖.
"""

import itertools
import math
from collections.abc import Callable

import numpy as np
from scipy import integrate
from scipy.special import ndtr

from walls.theory.formulas import Array


def _integral(f: Callable[[float], float], low: float, high: float) -> float:
    return integrate.quad(f, low, high, epsabs=0, epsrel=1e-11, limit=2000)[0]


def mean_root(filters: int) -> float:
    """E[√Y]/(τ‖m‖) by Laplace's transform: ∫ (1 - E[exp(-tY)]) t^(-3/2) dt / (2√π).

    E[exp(-tY)] is the V-th power of E[exp(-tZ⁺²)] = ½ + ½ (1 + 2t)^(-½). With t = s².
    """

    def integrand(s: float) -> float:
        one = math.log1p(0.5 * math.expm1(-0.5 * math.log1p(2 * s * s)))
        return -math.expm1(filters * one) * 2 / (s * s)

    scale = 1 / math.sqrt(filters)
    edges = [1e-12 * scale, 0.1 * scale, scale, 10 * scale, math.inf]
    parts = [_integral(integrand, a, b) for a, b in itertools.pairwise(edges)]
    return sum(parts) / (2 * math.sqrt(math.pi))


def share_above_half(filters: int) -> float:
    """P(Y ≥ ½ E[Y]) by inverting Y's characteristic function (Gil-Pelaez), for V ≥ 20.

    ½ + (1/π) ∫ Im(e^(-itx) φ(t)) / t dt with x = V/4 and φ(t) = (½ + ½ (1 - 2it)^(-½))^V. φ tends
    to 2^-V and not to 0: up to about that much the integral is cut off.
    """
    t = np.linspace(0, 60 / math.sqrt(filters), 200_001)[1:]
    transform = np.exp(filters * np.log(0.5 + 0.5 / np.sqrt(1 - 2j * t)) - 1j * t * filters / 4)
    limit = filters / 2 - filters / 4  # Im(…)/t at t = 0: E[Y] - x
    values = np.concatenate([[limit], transform.imag / t])
    return 0.5 + float(integrate.simpson(values, dx=t[0])) / math.pi


def largest_logit(correlation: float, classes: int) -> tuple[float, float]:
    """P(X > 0) and E[σ(X)]/E[σ(X₁)] where X goes with the largest of K logits.

    (X_c, y_c) are K independent pairs of standard normal variables, correlated within a pair; over
    their two-dimensional density: K ∫∫_{x > 0} φ₂(x, y) Φ(y)^(K-1), without and with a factor x.
    """
    below = math.sqrt(1 - correlation**2)
    x, x_weights = np.polynomial.legendre.leggauss(400)
    y, y_weights = 9 * x, 9 * x_weights
    x, x_weights = 5 * (x + 1), 5 * x_weights
    gap = (x[:, None] - correlation * y) / below
    density = np.exp(-(gap**2 + y**2) / 2) / (2 * math.pi * below)
    weights = classes * ndtr(y) ** (classes - 1) * y_weights * density
    chance, mean = (float((x_weights * power) @ weights.sum(axis=1)) for power in (1, x))
    return chance, mean * math.sqrt(2 * math.pi)


def uniform_mean(patch: Array, tau: float) -> float:
    """E[σ(F ⋆ m)] for F uniform with variance τ²: ∫₀^∞ (1 - ∏ sin(cmt)/(cmt)) t^-2 dt / π, c = √3τ.

    It is half of E|A|, by A's characteristic function. In the units of ξ.
    """
    entries = math.sqrt(3) * tau * np.ravel(patch)
    period = math.pi / float(np.abs(entries).sum())
    integrand: Callable[[float], float] = lambda t: (
        (1 - float(np.prod(np.sinc(entries * t / math.pi)))) / (t * t)
    )
    far = 400 * period
    near = sum(_integral(integrand, max(i, 1e-9) * period, (i + 1) * period) for i in range(400))
    return (near + 1 / far) / math.pi
