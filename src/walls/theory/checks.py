"""Every statement of the theory computed two independent ways and compared: the rows of notebook 1
and of theory.json.

Each check returns {name: {number: value, ..., "holds": bool}}. Thresholds: 10^-12 relative for
algebra in float64; four standard errors for means over draws.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import integrate, stats

from walls.base import files
from walls.theory import formulas, laws, sampling
from walls.theory.cnn import CNN
from walls.theory.formulas import Array

Rows = dict[str, dict[str, Any]]
EXACT = 1e-12
ERRORS = 4.0
FILTERS = (1, 4, 21, 64, 256, 1024)
WIDTH = 16


def show(rows: Rows) -> None:
    """Print the rows with their numbers rounded (three significant digits), so that processors
    agree on the text.

    `difference` is printed as the power of ten that it stays below, `errors` (standard errors) with
    two digits.
    """

    def cell(name: str, value: float | bool | str | None) -> str:
        if value is None or isinstance(value, str | bool):
            return "-" if value is None else str(value)
        if name.startswith("difference"):
            return f"< 1e{max(-12, math.floor(math.log10(value)) + 1) if value else -12}"
        return f"{value:.2g}" if name.startswith("errors") else f"{value:.3g}"

    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = [
        ["", *names],
        *([key, *(cell(n, row.get(n)) for n in names)] for key, row in rows.items()),
    ]
    widths = [max(len(line[column]) for line in table) for column in range(len(names) + 1)]
    for line in table:
        print(
            "  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip()
        )


def write(found: dict[str, Rows], path: Path) -> str:
    """Write every section's rows to `path` as one flat JSON object, six digits each; one sentence
    of summary.
    """
    rows = {
        f"{section}: {name}": row for section, part in found.items() for name, row in part.items()
    }
    failed = [name for name, row in rows.items() if not row["holds"]]
    rounded = {
        name: {
            key: float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in row.items()
        }
        for name, row in rows.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json({"checks": len(rows), "failed": failed, **rounded}, path)
    return f"{len(rows) - len(failed)} of {len(rows)} checks hold" + (
        f"; not: {', '.join(failed)}" if failed else ""
    )


def verdict(found: dict[str, Rows]) -> str:
    """The notebook's last sentence: what Theorem 1's chain of checks came to, with its numbers."""
    rows = found["Theorem 1"]
    worst = max(row["errors"] for row in rows.values())
    last = list(rows)[-1]
    picture = found["Figure 3"]["GradCAM in the dead zone"]
    beyond_rows = found["Beyond GradCAM"]
    return (
        "GradCAM sees through the wall: on a network whose logits never change with the dead "
        "zone, its expected score "
        f"there is exactly {rows[last]['exact']:.3g} at {last} (Monte Carlo: "
        f"{rows[last]['sampled']:.3g}; all "
        f"positions and V within {worst:.2g} standard errors), of which the paper's bound is "
        f"{100 * rows[last]['Eq. 5 / exact']:.0f}% and tends to 71%; one network's map has "
        f"μ = {picture['μ of the raw map']:.2f} there; HiResCAM and LayerCAM score "
        f"{beyond_rows['HiResCAM']['mean']:.0f}, exactly."
    )


def relative(ours: Array, theirs: Array) -> float:
    """Largest difference over the largest value; 0 where both are 0 throughout, 999 stands for
    infinity and NaN.
    """
    difference, scale = np.abs(np.asarray(ours) - theirs).max(), np.abs(theirs).max()
    share = difference / scale if scale else np.where(difference == 0, 0, 999)
    return float(np.nan_to_num(share, nan=999, posinf=999))


def _errors(difference: Array, error: Array) -> float:
    """Largest |difference| in standard errors; positions where both are 0 count 0, 999 stands for
    infinity and NaN.
    """
    difference, error = np.abs(np.atleast_1d(difference)), np.atleast_1d(error)
    z = np.where(
        difference == 0,
        0,
        np.divide(difference, error, out=np.full_like(difference, 999.0), where=error > 0),
    )
    return float(min(np.nan_to_num(z, nan=999).max(), 999.0))


def masked_cnn(
    image: Array, filters: int, kernel: int, pool: int, depth: int, tau: float, seed: int
) -> CNN:
    """A masked [CNN] with hidden layers of WIDTH."""
    return CNN(
        image.shape, filters, kernel, pool, (WIDTH,) * (depth - 1) + (1,), tau=tau, seed=seed
    )


def parts(model: CNN, image: Array) -> tuple[Array, list[Array], dict]:
    """Its F (V, k, k), its W^(ℓ), and Eq. 1-3 with them, as numpy."""
    filters = model.features[0].weight.detach().numpy()[:, 0]
    weights = [w.numpy() for w in model.dense_weights()]
    return filters, weights, formulas.forward(image, filters, weights, model.head[0].kernel_size)


def dead_pixel(image: Array, kernel: int, pool: int) -> tuple[int, int]:
    """The map position with the largest ‖m‖₂ among those whose whole patch lies where W can't
    see.
    """
    norms = formulas.patch_norms(image, kernel)
    size = formulas.sizes(image, kernel, pool)
    low = min(size.wall + kernel - 1, size.rows - 1)
    row, column = np.unravel_index(norms[low:].argmax(), norms[low:].shape)
    return int(row) + low, int(column)


def network(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int) -> Rows:
    """Eq. 1-3: `formulas.forward` against the torch module; Eq. 8 against sampled filters, for 12
    positions.
    """
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
    error = np.sqrt(
        (np.outer(sigma.diagonal(), sigma.diagonal()) + sigma**2) / draws
    )  # Var of x·y, Gaussian
    z = _errors(sample.T @ sample / draws - sigma, error)
    rows["Eq. 8, 12×12 covariances"] = {
        "errors": z,
        "rank": float(np.linalg.matrix_rank(sigma)),
        "holds": z <= ERRORS,
    }
    return rows


def lemmas(patch: Array, tau: float, draws: int, seed: int) -> Rows:
    """Lemmas 1-3: closed form, numerical integration (for Lemma 2 of its Fourier transform), and
    sampling.
    """
    random = np.random.default_rng(seed)
    rows: Rows = {}

    def add(name: str, closed: float, integral: float, sample: Array) -> None:
        z = _errors(sample.mean() - closed, sample.std(ddof=1) / math.sqrt(len(sample)))
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
    """Proposition 1 by dynamic programming against autograd through GAP(∇_B f): L = 1 … 4, V = 1
    and 7.
    """
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
            paths = float(WIDTH ** (depth - 1))
            name = f"Prop. 1, L = {depth}, V = {filters}"
            rows[name] = {"paths per cell": paths, "difference": worst, "holds": worst <= EXACT}
    return rows


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
        z = _errors(mean - exact, error)
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
        z = _errors(mean - exact, error)
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
    """L = 1 … 4 with hidden layers of WIDTH: Monte Carlo against the product of mean chis; and the
    samples.
    """
    sampled = sampling.gradcam_by_depth(image, filters, kernel, pool, tau, WIDTH, 4, draws, seed)
    i, j = dead_pixel(image, kernel, pool)
    rows: Rows = {}
    for depth, (mean, error) in sampled.items():
        exact = formulas.expected_gradcam(
            image, filters, kernel, pool, tau, widths=(WIDTH,) * (depth - 1)
        )
        z = _errors(mean - exact, error)
        row = {"sampled": float(mean[i, j]), "exact": float(exact[i, j]), "errors": z}
        rows[f"L = {depth}, V = {filters}"] = row | {"holds": z <= ERRORS}
    return rows, sampled


def beyond_gradcam(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> tuple[Rows, Rows]:
    """The other methods' scores at one position of the dead zone: sampled networks against
    laws.py's laws.

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
        z = _errors(np.array(share - p), np.array(math.sqrt(p * (1 - p) / draws)))
        row = {"P(> 0)": share, "P, law": p, "median": float(np.median(scores))}
        if name in expected:
            mean, error = expected[name]
            row |= {"mean": float(scores.mean()), "mean, law": mean}
            z = max(
                z,
                _errors(
                    scores.mean() - mean, np.hypot(error, scores.std(ddof=1) / math.sqrt(draws))
                ),
            )
        if positive[name] == 0:
            row |= {"mean": float(scores.mean()), "mean, law": 0.0}
        rows[name] = row | {"errors": z, "holds": z <= ERRORS}
    median = laws.ablation_median(law)
    below = float((sampled["AblationCAM"] <= median).mean())
    z = _errors(
        np.array(below - 0.5), np.array(math.sqrt(0.5 / draws))
    )  # both samples' filters vary
    rows["AblationCAM, median by its law"] = {"median": median, "errors": z, "holds": z <= ERRORS}
    return rows, _ablation_tail(sampled["AblationCAM"], law)


def _ablation_tail(scores: Array, law: laws.FilterDraws) -> Rows:
    limit = float(laws.ablation_law(law)[1].mean() / math.pi)
    rows: Rows = {}
    for t in (3.0, 10.0, 30.0, 100.0, 1e4, 1e6):
        share, p = float((scores > t).mean()), laws.ablation_tail(law, t)
        z = _errors(np.array(share - p), np.array(math.sqrt(p / len(scores))))
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


def method_maps(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> dict[str, Array]:
    """Each method's mean map (h, w) over `draws` networks; for AblationCAM, which has no mean, the
    median.
    """
    shape = formulas.patch_norms(image, kernel).shape
    scores = sampling.methods(
        image, filters, kernel, pool, tau, draws, seed, range(shape[0] * shape[1])
    )
    middle = {name: np.median if name == "AblationCAM" else np.mean for name in scores}
    return {name: middle[name](values, axis=0).reshape(shape) for name, values in scores.items()}
