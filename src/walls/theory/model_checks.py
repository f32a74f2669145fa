"""[CNN] itself: Eq. 1-3 and 8, Lemmas 1-3 and Proposition 1, computed two ways."""

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy import integrate, stats

from walls.theory import formulas
from walls.theory.cnn import CNN
from walls.theory.formulas import Array
from walls.theory.results import ERRORS, EXACT, Rows, errors, relative

HIDDEN = 16  # neurons in a hidden layer


def masked_cnn(
    image: Array,
    filters: int,
    kernel: int,
    pool: int,
    depth: int,
    tau: float,
    seed: int,
    masked_rows: int | None = None,
) -> CNN:
    """A masked [CNN] with hidden layers of HIDDEN."""
    layers = (HIDDEN,) * (depth - 1) + (1,)
    return CNN(image.shape, filters, kernel, pool, layers, masked_rows, tau, seed)


def parts(model: CNN, image: Array) -> tuple[Array, list[Array], dict]:
    """Its F (V, k, k), its W^(ℓ), and Eq. 1-3 with them, as numpy."""
    filters = model.features[0].weight.detach().numpy()[:, 0]
    weights = [w.numpy() for w in model.dense_weights()]
    return filters, weights, formulas.forward(image, filters, weights, model.head[0].kernel_size)


def dead_pixel(image: Array, kernel: int, pool: int) -> tuple[int, int]:
    """The position with the largest ‖m‖₂ among those whose whole patch lies where W can't see."""
    norms = formulas.patch_norms(image, kernel)
    size = formulas.sizes(image, kernel, pool)
    low = min(size.wall + kernel - 1, size.rows - 1)
    row, column = np.unravel_index(norms[low:].argmax(), norms[low:].shape)
    return int(row) + low, int(column)


def network(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int) -> Rows:
    """Eq. 1-3: `formulas.forward` against torch's module; Eq. 8 against filters, 12 positions."""
    rows: Rows = {}
    for depth in (1, 2, 3, 4):
        worst = 0.0
        for filters in (1, 5):
            model = masked_cnn(image, filters, kernel, pool, depth, tau, seed)
            _, _, net = parts(model, image)
            x = torch.from_numpy(image)[None, None]
            pairs = [
                (net["B"], model.features(x)[0]),
                (net["C"], model.head[0](model.features(x))[0]),
            ]
            pairs.append((net["a"][-1], model(x)[0]))
            worst = max(worst, *(relative(ours, theirs.detach().numpy()) for ours, theirs in pairs))
        rows[f"Eq. 1-3, L = {depth}"] = {"difference": worst, "holds": worst <= EXACT}
    norms = formulas.patch_norms(image, kernel)
    chosen = np.argsort(norms.ravel())[-1 : -1 - 5 * 12 : -5]
    sigma = formulas.covariance(image, kernel, tau)[np.ix_(chosen, chosen)]
    patches = formulas.patches(image, kernel).reshape(norms.size, -1)[chosen]
    sample = np.random.default_rng(seed).normal(0, tau, (draws, kernel * kernel)) @ patches.T
    variances = sigma.diagonal()
    error = np.sqrt((np.outer(variances, variances) + sigma**2) / draws)  # of x·y, both Gaussian
    z = errors(sample.T @ sample / draws - sigma, error)
    rows["Eq. 8, 12×12 covariances"] = {
        "errors": z,
        "rank": float(np.linalg.matrix_rank(sigma)),
        "holds": z <= ERRORS,
    }
    return rows


def lemmas(patch: Array, tau: float, draws: int, seed: int) -> Rows:
    """Lemmas 1-3: closed form, numerical integration (Lemma 2: Fourier transform), sampling."""
    random = np.random.default_rng(seed)
    rows: Rows = {}

    def add(name: str, closed: float, integral: float, sample: Array) -> None:
        z = errors(sample.mean() - closed, sample.std(ddof=1) / math.sqrt(len(sample)))
        difference = abs(closed - integral) / closed
        holds = difference <= 1e-8 and z <= ERRORS
        rows[name] = {"closed form": closed, "difference": difference, "errors": z, "holds": holds}

    def mean(power: Callable[[float], float], mu: float) -> float:
        density = stats.norm(mu, tau).pdf
        low, high = max(0.0, mu - 12 * tau), max(0.0, mu) + 12 * tau
        return integrate.quad(lambda x: power(x) * density(x), low, high, epsabs=0, epsrel=1e-12)[0]

    for mu in (-1.0, 0.0, 0.7):
        closed = formulas.rectified_mean(mu * tau, tau)
        x = np.maximum(random.normal(mu * tau, tau, draws), 0)
        add(f"Lemma 1, μ = {mu:g}τ", closed, mean(lambda t: t, mu * tau), x)
    norm = math.sqrt(formulas.convolution_variance(patch, tau))
    x = random.normal(0, tau, (draws, patch.size)) @ patch.ravel()
    turns = [
        integrate.quad(
            lambda f, m=m: math.cos(m * f / norm) * stats.norm.pdf(f, 0, tau), -9 * tau, 9 * tau
        )[0]
        for m in patch.ravel()
    ]
    add("Lemma 2, E[cos(x/τ‖m‖)]", math.exp(-0.5), math.prod(turns), np.cos(x / norm))
    p = float(stats.kstest(x / norm, "norm").pvalue)
    rows["Lemma 2, normal law"] = {"p-value": p, "holds": p > 1e-4}
    first, second = formulas.squared_rectified_moments(tau)
    squares = np.maximum(random.normal(0, tau, draws), 0) ** 2
    add("Lemma 3, mean", first, mean(lambda t: t**2, 0.0), squares)
    integral = mean(lambda t: t**4, 0.0) - mean(lambda t: t**2, 0.0) ** 2
    add("Lemma 3, variance", second, integral, (squares - first) ** 2)
    return rows


def proposition_1(image: Array, kernel: int, pool: int, tau: float, seed: int) -> Rows:
    """Proposition 1 by dynamic programming against autograd through GAP(∇_B f), L = 1 … 4."""
    rows: Rows = {}
    for depth in (1, 2, 3, 4):
        for filters in (1, 7):
            worst = 0.0
            for trial in range(5):
                model = masked_cnn(image, filters, kernel, pool, depth, tau, seed + trial)
                _, weights, net = parts(model, image)
                b = model.features(torch.from_numpy(image)[None, None]).detach().requires_grad_()
                (gradient,) = torch.autograd.grad(model.head(b).sum(), b)
                autograd = gradient[0].mean((1, 2)).numpy()
                ours = formulas.gradcam_coefficients(weights, net["a"], net["B"][0].size)
                worst = max(worst, relative(ours, autograd))
            paths = float(HIDDEN ** (depth - 1))
            name = f"Prop. 1, L = {depth}, V = {filters}"
            rows[name] = {"paths per cell": paths, "difference": worst, "holds": worst <= EXACT}
    return rows
