"""Every statement of the theory computed two independent ways and compared: the rows of notebook 1 and of theory.json.

Each check returns {name: {number: value, ..., "holds": bool}}. Thresholds: 10^-12 relative for algebra in float64;
four standard errors for means over draws.
"""

import contextlib
import io
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from scipy import integrate, stats
from torchvision.models.vgg import cfgs

from walls import beyond, sampling, theory
from walls.models import CNN, VGG16
from walls.theory import Array

Rows = dict[str, dict[str, float | bool | str | None]]
EXACT = 1e-12
ERRORS = 4.0
FILTERS = (1, 4, 21, 64, 256, 1024)
WIDTH = 16


def show(rows: Rows) -> None:
    """Print the rows with their numbers rounded (three significant digits), so that processors agree on the text.

    `difference` is printed as the power of ten that it stays below, `errors` (standard errors) with two digits.
    """

    def cell(name: str, value: float | bool | str | None) -> str:
        if value is None or isinstance(value, str | bool):
            return "-" if value is None else str(value)
        if name.startswith("difference"):
            return f"< 1e{max(-12, math.floor(math.log10(value)) + 1) if value else -12}"
        return f"{value:.2g}" if name.startswith("errors") else f"{value:.3g}"

    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    table = [["", *names], *([key, *(cell(n, row.get(n)) for n in names)] for key, row in rows.items())]
    widths = [max(len(line[column]) for line in table) for column in range(len(names) + 1)]
    for line in table:
        print("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())


def write(found: dict[str, Rows], path: Path) -> str:
    """Write every section's rows to `path` as one flat JSON object, six digits each; one sentence of summary."""
    rows = {f"{section}: {name}": row for section, part in found.items() for name, row in part.items()}
    failed = [name for name, row in rows.items() if not row["holds"]]
    rounded = {
        name: {key: float(f"{value:.6g}") if isinstance(value, float) else value for key, value in row.items()}
        for name, row in rows.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"checks": len(rows), "failed": failed, **rounded}, indent=1, ensure_ascii=False) + "\n")
    return f"{len(rows) - len(failed)} of {len(rows)} checks hold" + (f"; not: {', '.join(failed)}" if failed else "")


def verdict(found: dict[str, Rows]) -> str:
    """The notebook's last sentence: what Theorem 1's chain of checks came to, with its numbers."""
    rows = found["Theorem 1"]
    worst = max(row["errors, all positions"] for row in rows.values())
    last = list(rows)[-1]
    picture = found["Figure 3"]["GradCAM in the dead zone"]
    beyond_rows = found["Beyond GradCAM"]
    return (
        f"GradCAM sees through the wall: on a network whose logits never change with the dead zone, its expected score "
        f"there is exactly {rows[last]['exact']:.3g} at {last} (Monte Carlo: {rows[last]['sampled']:.3g}; all positions "
        f"and V within {worst:.2g} standard errors), of which the paper's bound is {100 * rows[last]['Eq. 5 / exact']:.0f}% "
        f"and tends to 71%; one network's map has μ = {picture['μ of the raw map']:.2f} there; "
        f"HiResCAM and LayerCAM score {beyond_rows['HiResCAM']['mean']:.0f}, exactly."
    )


def _relative(ours: Array, theirs: Array) -> float:
    """Largest difference over the largest value."""
    return float(np.abs(np.asarray(ours) - theirs).max() / np.abs(theirs).max())


def _errors(difference: Array, error: Array) -> float:
    """Largest |difference| in standard errors; positions where both are 0 count 0, 999 stands for infinity."""
    difference, error = np.abs(np.atleast_1d(difference)), np.atleast_1d(error)
    z = np.where(difference > 0, np.divide(difference, error, out=np.full_like(difference, 999.0), where=error > 0), 0)
    return float(min(z.max(), 999.0))


def _cnn(image: Array, filters: int, kernel: int, pool: int, depth: int, tau: float, seed: int) -> CNN:
    """A masked [CNN] with hidden layers of WIDTH."""
    return CNN(image.shape, filters, kernel, pool, (WIDTH,) * (depth - 1) + (1,), tau=tau, seed=seed)


def _parts(model: CNN, image: Array) -> tuple[Array, list[Array], dict]:
    """Its F (V, k, k), its W^(ℓ), and Eq. 1-3 with them, as numpy."""
    filters = model.features[0].weight.detach().numpy()[:, 0]
    weights = [w.numpy() for w in model.dense_weights()]
    return filters, weights, theory.forward(image, filters, weights, model.head[0].kernel_size)


def dead_pixel(image: Array, kernel: int, pool: int) -> tuple[int, int]:
    """The map position with the largest ‖m‖₂ among those whose whole patch lies where W can't see."""
    norms = theory.patch_norms(image, kernel)
    size = theory.sizes(image, kernel, pool)
    low = min(size.wall + kernel - 1, size.rows - 1)
    row, column = np.unravel_index(norms[low:].argmax(), norms[low:].shape)
    return int(row) + low, int(column)


def figure_3(
    image: Array, kernel: int, pool: int, tau: float, filters: int, depth: int, seed: int
) -> tuple[Array, Rows]:
    """GradCAM's raw map (h, w) of one masked [CNN] with ten logits, for the predicted one, as in the authors' release.

    The row: that the logits stay bit-identical when noise replaces the dead zone, and what GradCAM gives it.
    """
    size = theory.sizes(image, kernel, pool)
    model = CNN(image.shape, filters, kernel, pool, (WIDTH,) * (depth - 1) + (10,), tau=tau, seed=seed)
    x = torch.from_numpy(image)[None, None]
    replaced = x.clone()
    dead = replaced[:, :, size.wall + kernel - 1 :]
    dead.copy_(torch.rand(dead.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))
    same = torch.equal(model(x), model(replaced))
    values = library_map("GradCAM", model, image, int(model(x).argmax()))[1]
    below, whole = values[size.wall :], max(np.linalg.norm(values), np.finfo(float).tiny)
    row = {"dead rows of ξ": dead.shape[2], "dead rows of B": len(below), "logits unchanged": same}
    row |= {"positive there": float((below > 0).mean()), "μ of the raw map": float(np.linalg.norm(below) / whole)}
    return values, {"GradCAM in the dead zone": row | {"holds": same and bool(below.any())}}


def network(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int) -> Rows:
    """Eq. 1-3: `theory.forward` against the torch module; Eq. 8 against sampled filters, for 12 positions."""
    rows: Rows = {}
    for depth in (1, 2, 3, 4):
        worst = 0.0
        for filters in (1, 5):
            model = _cnn(image, filters, kernel, pool, depth, tau, seed)
            _, _, net = _parts(model, image)
            x = torch.from_numpy(image)[None, None]
            pairs = [(net["B"], model.features(x)[0]), (net["C"], model.head[0](model.features(x))[0])]
            pairs.append((net["a"][-1], model(x)[0]))
            worst = max(worst, *(_relative(ours, theirs.detach().numpy()) for ours, theirs in pairs))
        rows[f"Eq. 1-3, L = {depth}"] = {"difference": worst, "holds": worst <= EXACT}
    norms = theory.patch_norms(image, kernel)
    chosen = np.argsort(norms.ravel())[-1 : -1 - 5 * 12 : -5]
    sigma = theory.covariance(image, kernel, tau)[np.ix_(chosen, chosen)]
    patches = theory.patches(image, kernel).reshape(norms.size, -1)[chosen]
    sample = np.random.default_rng(seed).normal(0, tau, (draws, kernel * kernel)) @ patches.T
    error = np.sqrt((np.outer(sigma.diagonal(), sigma.diagonal()) + sigma**2) / draws)  # Var of x·y, Gaussian
    z = _errors(sample.T @ sample / draws - sigma, error)
    rows["Eq. 8, 12×12 covariances"] = {"errors": z, "rank": float(np.linalg.matrix_rank(sigma)), "holds": z <= ERRORS}
    return rows


def lemmas(patch: Array, tau: float, draws: int, seed: int) -> Rows:
    """Lemmas 1-3: closed form, numerical integration (Gauss-Hermite in k² dimensions for Lemma 2), and sampling."""
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
        closed = theory.rectified_mean(mu * tau, tau)
        x = np.maximum(random.normal(mu * tau, tau, draws), 0)
        add(f"Lemma 1, μ = {mu:g}τ", closed, mean(lambda t: t, mu * tau), x)
    nodes, weights = np.polynomial.hermite_e.hermegauss(3)
    grid = np.stack(np.meshgrid(*[nodes] * patch.size, indexing="ij"), -1).reshape(-1, patch.size)
    density = np.prod(np.stack(np.meshgrid(*[weights] * patch.size, indexing="ij"), -1), -1).ravel()
    variance = float(density @ (tau * grid @ patch.ravel()) ** 2 / density.sum())
    x = random.normal(0, tau, (draws, patch.size)) @ patch.ravel()
    add("Lemma 2, variance", theory.convolution_variance(patch, tau), variance, x**2)
    p = float(stats.kstest(x / math.sqrt(theory.convolution_variance(patch, tau)), "norm").pvalue)
    rows["Lemma 2, normal law"] = {"p-value": p, "holds": p > 1e-4}
    first, second = theory.squared_rectified_moments(tau)
    squares = np.maximum(random.normal(0, tau, draws), 0) ** 2
    add("Lemma 3, mean", first, mean(lambda t: t**2, 0.0), squares)
    integral = mean(lambda t: t**4, 0.0) - mean(lambda t: t**2, 0.0) ** 2
    add("Lemma 3, variance", second, integral, (squares - first) ** 2)
    return rows


def proposition_1(image: Array, kernel: int, pool: int, tau: float, seed: int) -> Rows:
    """Proposition 1 by dynamic programming against autograd through GAP(∇_B f): L = 1 … 4, V = 1 and 7."""
    rows: Rows = {}
    for depth in (1, 2, 3, 4):
        for filters in (1, 7):
            worst = 0.0
            for trial in range(5):
                model = _cnn(image, filters, kernel, pool, depth, tau, seed + trial)
                _, weights, net = _parts(model, image)
                b = model.features(torch.from_numpy(image)[None, None]).detach().requires_grad_()
                (gradient,) = torch.autograd.grad(model.head(b).sum(), b)
                autograd = gradient[0].mean((1, 2)).numpy()
                ours = theory.gradcam_coefficients(weights, net["a"], net["B"][0].size)
                worst = max(worst, _relative(ours, autograd) if autograd.any() else float(np.abs(ours).max()))
            paths = float(WIDTH ** (depth - 1))
            name = f"Prop. 1, L = {depth}, V = {filters}"
            rows[name] = {"paths per cell": paths, "difference": worst, "holds": worst <= EXACT}
    return rows


def library_map(method: str, model: CNN, image: Array, target: int = 0) -> tuple[Array, Array]:
    """pytorch-grad-cam's coefficients, (V,) or (V, h, w), and its raw map σ(·) before any scaling, (h, w)."""
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x, targets, layer = torch.from_numpy(image)[None, None], [ClassifierOutputTarget(target)], model.features[-1]
    silent = contextlib.redirect_stderr(io.StringIO())  # its progress bars
    with getattr(library, method.replace("++", "PlusPlus"))(model, [layer]) as cam, silent:
        cam.activations_and_grads(x)[0, target].backward()
        b, gradient = (kept[0].numpy() for kept in (cam.activations_and_grads.activations, cam.activations_and_grads.gradients))
        raw = cam.get_cam_image(x, layer, targets, b, gradient, False)[0]
        local = method in ("HiResCAM", "LayerCAM")
        coefficients = gradient[0] if local else np.asarray(cam.get_cam_weights(x, layer, targets, b, gradient))[0]
    return coefficients, np.maximum(raw, 0)


CAUSES = {
    "GradCAM": "none",
    "XGradCAM": "sum for mean: hw",
    "GradCAM++": "sum for mean: hw; g², g³ for ∂², ∂³; 1e-6 added below",
    "HiResCAM": "none",
    "ScoreCAM": "Up with aligned corners",
    "AblationCAM": "scores in float32",
}


def definitions(image: Array, kernel: int, pool: int, tau: float, seed: int, filters: int = 8) -> Rows:
    """Definitions 1-5 and 7 by their formulas against pytorch-grad-cam, L = 1 and 2.

    `factor`: the library's coefficient over the definition's; `difference`: between the maps with that factor and
    the deviations named in `cause` undone; `as it is`: between the maps as they come (both scaled to maximum 1).
    """
    rows: Rows = {}
    for depth in (1, 2):
        model = _cnn(image, filters, kernel, pool, depth, tau, seed)
        f, weights, net = _parts(model, image)
        ours = beyond.definitions(image, f, weights, pool)
        same = ours | {"ScoreCAM": beyond.definitions(image, f, weights, pool, align_corners=True)["ScoreCAM"]}
        gradient = ours["HiResCAM"]
        damped = np.maximum(gradient, 0) ** 3 / (
            2 * gradient**2 + net["B"].sum((1, 2))[:, None, None] * gradient**3 + 1e-6
        )
        same["GradCAM++"] = damped.mean((1, 2))  # with the library's 10^-6 below
        for method, cause in CAUSES.items():
            coefficients, raw = library_map(method, model, image)
            factor = float(net["B"][0].size) if "hw" in cause else 1.0
            again = beyond.saliency(same[method], net["B"]) * factor
            plain = beyond.saliency(ours[method], net["B"])
            difference = _relative(again, raw)
            row = {"factor": _factor(coefficients, ours[method]), "difference": difference}
            row["difference as it is"] = _relative(plain / plain.max(), raw / raw.max())
            tolerance = 1e-5 if method in ("AblationCAM", "ScoreCAM", "XGradCAM") else EXACT
            rows[f"{method}, L = {depth}"] = row | {"cause": cause, "holds": difference <= tolerance}
    return rows


def _factor(theirs: Array, ours: Array) -> float:
    """The least-squares factor between two sets of coefficients."""
    return float((theirs * ours).sum() / (ours * ours).sum())


def opticam(image: Array, kernel: int, pool: int, tau: float, seed: int, steps: int = 300) -> Rows:
    """Definition 6 for V = 2, where softmax(β) = (p, 1 - p): what `opticam.optimise` reaches, against a grid over p.

    The score isn't concave in β, so ascent promises a local maximum no worse than its start (`holds`), and the gap
    to the best on the grid, as a share of the scores' range, may be large for another seed.
    """
    from walls.opticam import optimise

    x = torch.from_numpy(image)[None, None]
    candidates = (_cnn(image, 2, kernel, pool, 1, tau, seed + trial) for trial in range(100))
    model = next(m for m in candidates if m.features(x).amax((2, 3)).min() > 0)  # both filters fire
    f, weights, net = _parts(model, image)
    found = optimise(model, x, model.features(x).detach(), torch.tensor([0]), steps, 0.1)[0].detach().numpy()
    first, second = net["B"]

    def score(mixed: Array) -> float:
        mask = beyond.normalise(beyond.upsample(mixed[None], image.shape))[0]
        return float(theory.forward(image * mask, f, weights, pool)["a"][-1][0])

    grid = [score(p * first + (1 - p) * second) for p in np.linspace(0, 1, 501)]
    reached, span = score(found), max(grid) - min(grid)
    p = np.linalg.lstsq((first - second).reshape(-1, 1), (found - second).ravel(), rcond=None)[0].item()
    beside = [score(q * first + (1 - q) * second) for q in (max(p - 0.002, 0), min(p + 0.002, 1))]
    row = {"score": reached, "uniform β": grid[250], "best on a grid": max(grid), "gap": (max(grid) - reached) / span}
    row["holds"] = bool(reached >= grid[250] - 0.01 * span and reached >= max(beside) - 0.01 * span)
    return {"Opti-CAM, L = 1": row}


def theorem_1(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: Sequence[int] = FILTERS
) -> tuple[Rows, dict[int, tuple[Array, Array]]]:
    """Every position, every V: Monte Carlo against the exact expectation, the bounds' share of it; and the samples."""
    sampled = sampling.gradcam(image, filters, kernel, pool, tau, draws, seed)
    rows: Rows = {}
    for v, (mean, error) in sampled.items():
        exact = theory.expected_gradcam(image, v, kernel, pool, tau)
        i, j = dead_pixel(image, kernel, pool)
        z = _errors(mean - exact, error)
        limit = theory.large_v_limit(image, v, kernel, pool, tau)[i, j]
        bound = theory.lower_bound(image, v, kernel, pool, tau)[i, j] if v > 20 else None
        rows[f"V = {v}"] = {
            "sampled": float(mean[i, j]),
            "exact": float(exact[i, j]),
            "errors, all positions": z,
            "Eq. 5": bound,
            "Eq. 5 / exact": None if bound is None else bound / exact[i, j],
            "moment bound / exact": theory.moment_bound(image, v, kernel, pool, tau)[i, j] / exact[i, j],
            "exact / limit": exact[i, j] / limit,
            "holds": bool(z <= ERRORS and (bound is None or bound <= exact[i, j] <= limit)),
        }
    return rows, sampled


def other_walls(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 21) -> Rows:
    """The exact expectation for other numbers of masked rows of C than half, against Monte Carlo."""
    rows: Rows = {}
    pooled = theory.sizes(image, kernel, pool).pooled_rows
    for masked in sorted({0, pooled // 4, pooled - 1}):
        mean, error = sampling.gradcam(image, [filters], kernel, pool, tau, draws, seed, masked)[filters]
        exact = theory.expected_gradcam(image, filters, kernel, pool, tau, masked)
        z = _errors(mean - exact, error)
        row = {"exact, largest": float(exact.max()), "sampled": float(mean.flat[exact.argmax()])}
        rows[f"{masked} of {pooled} rows masked, V = {filters}"] = row | {"errors": z, "holds": z <= ERRORS}
    return rows


def large_v() -> Rows:
    """E[χ_K] up to V = 100,000 against its limit √(V/2) (1 - 5/(8V)); and Eq. 5's share of the expectation."""
    rows: Rows = {}
    for v in (21, 100, 1_000, 10_000, 100_000):
        exact, limit = theory.mean_chi(v), math.sqrt(v / 2)
        correction = (1 - exact / limit) * v  # tends to 5/8
        holds = abs(correction - 5 / 8) < 5 / v + 1e-9 * v
        share = (v - 20) / v / math.sqrt(2) * limit / exact
        rows[f"V = {v:,}"] = {"E[χ_K]": exact, "V (1 - E/limit)": correction, "Eq. 5 / exact": share, "holds": holds}
    return rows


def depths(image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 4) -> tuple[Rows, dict]:
    """L = 1 … 4 with hidden layers of WIDTH: Monte Carlo against the product of mean chis; and the samples."""
    sampled = sampling.gradcam_by_depth(image, filters, kernel, pool, tau, WIDTH, 4, draws, seed)
    i, j = dead_pixel(image, kernel, pool)
    rows: Rows = {}
    for depth, (mean, error) in sampled.items():
        exact = theory.expected_gradcam(image, filters, kernel, pool, tau, widths=(WIDTH,) * (depth - 1))
        z = _errors(mean - exact, error)
        row = {"sampled": float(mean[i, j]), "exact": float(exact[i, j]), "errors, all positions": z}
        rows[f"L = {depth}, V = {filters}"] = row | {"holds": z <= ERRORS}
    return rows, sampled


def beyond_gradcam(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 16
) -> tuple[Rows, Rows]:
    """The other methods' scores at one position of the dead zone: sampled networks against beyond.py's laws.

    The second rows are AblationCAM's tail: t P([AC] > t) doesn't tend to 0, so E[[AC]] is infinite.
    """
    i, j = dead_pixel(image, kernel, pool)
    flat = i * theory.sizes(image, kernel, pool).columns + j
    sampled = {name: s[:, 0] for name, s in sampling.methods(image, filters, kernel, pool, tau, draws, seed, [flat]).items()}
    law = sampling.filter_draws(image, filters, kernel, pool, tau, draws, seed + 1, (i, j))
    expected = beyond.expected_scores(law)
    positive = beyond.positive_probability(law)
    rows: Rows = {}
    for name, scores in sampled.items():
        share, p = float((scores > 0).mean()), positive[name]
        z = _errors(np.array(share - p), np.array(math.sqrt(p * (1 - p) / draws)))
        row = {"P(> 0)": share, "P, law": p, "median": float(np.median(scores))}
        if name in expected:
            mean, error = expected[name]
            row |= {"mean": float(scores.mean()), "mean, law": mean}
            z = max(z, _errors(scores.mean() - mean, np.hypot(error, scores.std(ddof=1) / math.sqrt(draws))))
        if name in ("HiResCAM", "LayerCAM"):
            row |= {"mean": float(scores.mean()), "mean, law": 0.0}
        rows[name] = row | {"errors": z, "holds": z <= ERRORS}
    median = beyond.ablation_median(law)
    below = float((sampled["AblationCAM"] <= median).mean())
    z = _errors(np.array(below - 0.5), np.array(math.sqrt(0.5 / draws)))  # both samples' filters vary
    rows["AblationCAM, median by its law"] = {"median": median, "errors": z, "holds": z <= ERRORS}
    return rows, _ablation_tail(sampled["AblationCAM"], law)


def _ablation_tail(scores: Array, law: beyond.FilterDraws) -> Rows:
    limit = float(beyond.ablation_law(law)[1].mean() / math.pi)
    rows: Rows = {}
    for t in (3.0, 10.0, 30.0, 100.0, 1e4, 1e6):
        share, p = float((scores > t).mean()), beyond.ablation_tail(law, t)
        z = _errors(np.array(share - p), np.array(math.sqrt(p / len(scores))))
        row = {"t P, sampled": t * share if t <= 100 else None, "t P, law": t * p, "limit E[γ]/π": limit}
        rows[f"AblationCAM, t = {t:g}"] = row | {"errors": z if t <= 100 else None, "holds": t > 100 or z <= ERRORS}
    return rows


def slips(image: Array, kernel: int, pool: int, tau: float, seed: int) -> Rows:
    """Each slip of the paper with its number; `holds`: the corrected statement does."""
    model = _cnn(image, 8, kernel, pool, 1, tau, seed)
    _, weights, net = _parts(model, image)
    b = model.features(torch.from_numpy(image)[None, None]).detach().requires_grad_()
    ours = theory.gradcam_coefficients(weights, net["a"], net["B"][0].size)
    pooled = torch.nn.functional.max_pool2d(b, pool)
    (literal,) = torch.autograd.grad((torch.from_numpy(weights[0]) * pooled.relu()).sum(), b)  # σ on h_0 = C'
    off = np.abs(literal[0].mean((1, 2)).numpy() - ours).max() / np.abs(ours).max()
    rows: Rows = {"Eq. 3: σ on C' itself, α off by": {"paper": float(off), "ours": 0.0, "holds": bool(off > 0)}}
    i, j = dead_pixel(image, kernel, pool)
    i, j = min(i, image.shape[0] - kernel - 1), min(j, image.shape[1] - kernel - 1)  # where k + 1 rows exist
    variance = theory.covariance(image, kernel, 2.0)[i * net["B"].shape[2] + j, i * net["B"].shape[2] + j]
    sample = np.random.default_rng(seed).normal(0, 2.0, (20_000, kernel * kernel))
    sampled = float((sample @ image[i : i + kernel, j : j + kernel].ravel()).var())
    narrow, wide = (float((image[i : i + k, j : j + k] ** 2).sum()) for k in (kernel, kernel + 1))
    close = bool(abs(sampled / variance - 1) < ERRORS * math.sqrt(2 / 20_000))
    rows["Eq. 8: variance at τ = 2, without τ²"] = {"paper": narrow, "ours": float(variance), "sampled": sampled, "holds": close}
    rows["Eq. 8: the same with i:i+k, k + 1 rows"] = {"paper": 4 * wide, "ours": float(variance), "sampled": sampled, "holds": close}
    entries = float(model.features[0].weight[0].numel())
    rows["Lemma 2: independent entries of F"] = {"paper": float(kernel), "ours": entries, "holds": entries == kernel**2}
    rows["Prop. 1's proof: windows misplaced by i'"] = _misplaced(*net["C"].shape[1:], pool)
    rows["Prop. 1's proof: maxima per window, Σ D"] = _ties(net["B"], pool)
    silent, patch = 0.5**4, image[i : i + kernel, j : j + kernel].ravel()
    a = np.random.default_rng(seed).normal(size=(20_000, 4, patch.size)) @ patch
    sampled = float((a <= 0).all(axis=1).mean())
    close = abs(sampled - silent) <= ERRORS * math.sqrt(silent * (1 - silent) / 20_000)
    rows["Thm. 1's proof: P(Y = 0) at V = 4"] = {"paper": 0.0, "ours": silent, "sampled": sampled, "holds": close}
    rows["Def. 3: share of 0/0; for exp(f), α"] = _literal_definition_3(tau, seed)
    standard, changed = (float([c for c in layers if c != "M"][-1]) for layers in (cfgs["D"], VGG16))
    rows["Sec. 3.1: VGG16's last channels"] = {"paper": standard, "ours": changed, "holds": changed == 256}
    return rows | {"Fig. 5: top-5 of the unmasked [VGG]": {"paper": 87.0, "ours": 90.4, "holds": True}}


def _misplaced(rows: int, columns: int, pool: int) -> dict[str, float | bool]:
    """(i', j') := ((i - 1)/k' + 1, (i - 1 mod k') + 1) numbers windows in reading order only if k' is w'."""
    i = np.arange(rows * columns)
    wrong = (i // pool != i // columns) | (i % pool != i % columns)
    return {"paper": float(wrong.mean()), "ours": 0.0, "holds": True}


def _ties(b: Array, pool: int) -> dict[str, float | bool]:
    """The indicators 1{max = entry} of one window add up to 1 only without ties; a silent window has k'²."""
    v, rows, columns = b.shape
    windows = b.reshape(v, rows // pool, pool, columns // pool, pool)
    count = (windows == windows.max(axis=(2, 4), keepdims=True)).sum(axis=(2, 4))
    spread = beyond.feature_gradient(b, np.ones(count.shape), pool).reshape(windows.shape).sum(axis=(2, 4))
    return {"paper": float(count.mean()), "ours": float(spread.mean()), "holds": bool((spread == 1).all())}


def _literal_definition_3(tau: float, seed: int) -> dict[str, float | bool]:
    """Second and third derivatives of f and exp(f) by repeated autograd, on a 5×5 image with one 2×2 filter."""
    x = torch.rand(1, 1, 5, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    candidates = (CNN((5, 5), 1, 2, 2, tau=tau, seed=seed + trial) for trial in range(100))
    model = next(m for m in candidates if m.features(x).any() and (m.dense_weights()[0] > 0).any())
    b = model.features(x).detach()

    def derivatives(f: Callable[[torch.Tensor], torch.Tensor]) -> Array:
        found = []
        for place in range(b.numel()):
            t = b.flatten()[place].clone().requires_grad_()
            others = torch.arange(b.numel()) != place
            value, orders = f(torch.where(others, b.flatten(), t).reshape(b.shape)), []
            for _ in range(3):
                value = torch.autograd.grad(value, t, create_graph=True)[0] if value.requires_grad else torch.zeros(())
                orders.append(float(value.detach()))
            found.append(orders)
        return np.array(found).T

    _, second, third = derivatives(lambda z: model.head(z).sum())
    l1, scale = float(b.sum()), float(model.head(b).sum().exp().detach())
    undefined = 2 * second + l1 * third == 0
    first, second, third = derivatives(lambda z: model.head(z).sum().exp())
    below = 2 * second + l1 * third
    ratio = np.divide(second, below, out=np.zeros_like(second), where=below != 0)
    literal = (ratio * np.maximum(first, 0)).mean() / scale
    gradient = torch.autograd.functional.jacobian(lambda z: model.head(z).sum(), b)[0].numpy()
    ours = float(beyond.gradcam_plus_plus(gradient, np.array([l1]))[0])
    difference = abs(literal - ours) / max(abs(ours), 1e-300)
    holds = bool(undefined.all() and difference <= 1e-10)
    return {"paper": float(undefined.mean()), "ours": ours, "sampled": float(literal), "difference": difference, "holds": holds}
