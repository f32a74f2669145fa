"""Definitions 1-7 against pytorch-grad-cam and our Opti-CAM, Figure 3, and the paper's slips.

Rows as in checks.py.
"""

import contextlib
import io
import math
from collections.abc import Callable

import numpy as np
import torch
from torchvision.models.vgg import VGG16_Weights, cfgs

from walls.network.architecture import VGG16
from walls.theory import formulas, laws
from walls.theory.checks import ERRORS, EXACT, WIDTH, Rows, dead_pixel, masked_cnn, parts, relative
from walls.theory.cnn import CNN
from walls.theory.formulas import Array


def library_map(method: str, model: CNN, image: Array, target: int = 0) -> tuple[Array, Array]:
    """pytorch-grad-cam's coefficients, (V,) or (V, h, w), and its raw map before σ and any scaling,
    (h, w).
    """
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x, targets, layer = (
        torch.from_numpy(image)[None, None],
        [ClassifierOutputTarget(target)],
        model.features[-1],
    )
    silent = contextlib.redirect_stderr(io.StringIO())  # its progress bars
    with getattr(library, method.replace("++", "PlusPlus"))(model, [layer]) as cam, silent:
        cam.activations_and_grads(x)[0, target].backward()
        kept = cam.activations_and_grads
        b, gradient = kept.activations[0].numpy(), kept.gradients[0].numpy()
        raw = cam.get_cam_image(x, layer, targets, b, gradient, False)[0]
        local = method in ("HiResCAM", "LayerCAM")
        coefficients = (
            gradient[0]
            if local
            else np.asarray(cam.get_cam_weights(x, layer, targets, b, gradient))[0]
        )
    return coefficients, raw


CAUSES = {
    "GradCAM": "none",
    "XGradCAM": "sum for mean: hw; plus 1e-7",
    "GradCAM++": "sum for mean: hw; g², g³ for ∂², ∂³; plus 1e-6",
    "HiResCAM": "none",
    "ScoreCAM": "Up with aligned corners",
    "AblationCAM": "scores in float32",
}


def definitions(
    image: Array, kernel: int, pool: int, tau: float, seed: int, filters: int = 8
) -> Rows:
    """Definitions 1-5 and 7 by their formulas against pytorch-grad-cam, L = 1 and 2.

    `factor`: the library's coefficient over the definition's; `difference`: between the sums Σ α B
    with that factor and the deviations named in `cause` undone; `as it is`: between the sums as
    they come (both scaled to largest size 1).
    """
    rows: Rows = {}
    for depth in (1, 2):
        model = masked_cnn(image, filters, kernel, pool, depth, tau, seed)
        f, weights, net = parts(model, image)
        ours = laws.definitions(image, f, weights, pool)
        same = ours | {
            "ScoreCAM": laws.definitions(image, f, weights, pool, align_corners=True)["ScoreCAM"]
        }
        gradient, l1 = ours["HiResCAM"], net["B"].sum((1, 2))
        below = (
            2 * gradient**2 + l1[:, None, None] * gradient**3 + 1e-6
        )  # the library's guards: 10^-6, and 10^-7
        same["GradCAM++"] = (np.maximum(gradient, 0) ** 3 / below).mean((1, 2))
        same["XGradCAM"] = (gradient * net["B"]).mean((1, 2)) / (l1 + 1e-7)
        rounded = 1e-6 * (1 + np.abs(ours["AblationCAM"]).max())  # float32, over y
        tolerance = {"AblationCAM": rounded, "ScoreCAM": 1e-4}
        for method, cause in CAUSES.items():
            coefficients, raw = library_map(method, model, image)
            factor = float(net["B"][0].size) if "hw" in cause else 1.0
            again, plain = (laws.weighted_sum(c[method], net["B"]) for c in (same, ours))
            again *= factor
            difference = relative(again, raw)
            row = {"factor": _factor(coefficients, ours[method]), "difference": difference}
            row["difference as it is"] = relative(
                plain / np.abs(plain).max(), raw / np.abs(raw).max()
            )
            holds = difference <= tolerance.get(method, EXACT)
            rows[f"{method}, L = {depth}"] = row | {"cause": cause, "holds": bool(holds)}
    return rows


def _factor(theirs: Array, ours: Array) -> float:
    """The least-squares factor between two sets of coefficients."""
    return float((theirs * ours).sum() / (ours * ours).sum())


def opticam(image: Array, kernel: int, pool: int, tau: float, seed: int, steps: int = 300) -> Rows:
    """Definition 6 for V = 2, where softmax(β) = (p, 1 - p): what `opticam.optimise` reaches,
    against a grid over p.

    The score isn't concave in β, so ascent promises a local maximum no worse than its start
    (`holds`), and the gap to the best on the grid, as a share of the scores' range, may be large
    for another seed.
    """
    from walls.saliency.opticam import optimise

    x = torch.from_numpy(image)[None, None]
    candidates = (masked_cnn(image, 2, kernel, pool, 1, tau, seed + trial) for trial in range(100))
    model = next(m for m in candidates if m.features(x).amax((2, 3)).min() > 0)  # both filters fire
    f, weights, net = parts(model, image)
    found = (
        optimise(model, x, model.features(x).detach(), torch.tensor([0]), steps, 0.1)[0]
        .detach()
        .numpy()
    )
    first, second = net["B"]

    def score(mixed: Array) -> float:
        mask = laws.unit(laws.upsample(mixed[None], image.shape))[0]
        return float(formulas.forward(image * mask, f, weights, pool)["a"][-1][0])

    grid = [score(p * first + (1 - p) * second) for p in np.linspace(0, 1, 501)]
    reached, span = score(found), max(grid) - min(grid)
    p = np.linalg.lstsq((first - second).reshape(-1, 1), (found - second).ravel(), rcond=None)[
        0
    ].item()
    beside = [score(q * first + (1 - q) * second) for q in (max(p - 0.002, 0), min(p + 0.002, 1))]
    row = {
        "score": reached,
        "uniform β": grid[250],
        "best on a grid": max(grid),
        "gap": (max(grid) - reached) / span,
    }
    row["holds"] = bool(reached >= grid[250] - 0.01 * span and reached >= max(beside) - 0.01 * span)
    return {"Opti-CAM, L = 1": row}


def figure_3(
    image: Array, kernel: int, pool: int, tau: float, filters: int, depth: int, seed: int
) -> tuple[Array, Rows]:
    """GradCAM's raw map (h, w) of one masked [CNN] with ten logits, for the predicted one, as in
    the authors' release.

    The row: that the logits stay bit-identical when noise replaces the dead zone, and what GradCAM
    gives it.
    """
    size = formulas.sizes(image, kernel, pool)
    model = CNN(
        image.shape, filters, kernel, pool, (WIDTH,) * (depth - 1) + (10,), tau=tau, seed=seed
    )
    x = torch.from_numpy(image)[None, None]
    replaced = x.clone()
    dead = replaced[:, :, size.wall + kernel - 1 :]
    dead.copy_(
        torch.rand(dead.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    )
    same = torch.equal(model(x), model(replaced))
    values = np.maximum(library_map("GradCAM", model, image, int(model(x).argmax()))[1], 0)
    below, whole = values[size.wall :], max(np.linalg.norm(values), np.finfo(float).tiny)
    row = {"dead rows of ξ": dead.shape[2], "dead rows of B": len(below), "logits unchanged": same}
    row |= {
        "positive there": float((below > 0).mean()),
        "μ of the raw map": float(np.linalg.norm(below) / whole),
    }
    return values, {"GradCAM in the dead zone": row | {"holds": same and bool(below.any())}}


def slips(image: Array, kernel: int, pool: int, tau: float, seed: int) -> Rows:
    """Each slip of the paper with its number; `holds`: the corrected statement does."""
    model = masked_cnn(image, 8, kernel, pool, 1, tau, seed)
    _, weights, net = parts(model, image)
    b = model.features(torch.from_numpy(image)[None, None]).detach().requires_grad_()
    ours = formulas.gradcam_coefficients(weights, net["a"], net["B"][0].size)
    pooled = torch.nn.functional.max_pool2d(b, pool)
    w = torch.from_numpy(weights[0])
    scores = (w * pooled.relu()).sum(), (w * pooled).sum()  # with σ on h_0 = C', and without
    found = (
        torch.autograd.grad(y, b, retain_graph=True)[0][0].mean((1, 2)).numpy() for y in scores
    )
    literal, right = (round(relative(alpha, ours), 9) for alpha in found)
    rows: Rows = {
        "Eq. 3: σ on C' itself, α off by": {"paper": literal, "ours": right, "holds": right == 0}
    }
    i, j = dead_pixel(image, kernel, pool)
    i, j = (
        min(i, image.shape[0] - kernel - 1),
        min(j, image.shape[1] - kernel - 1),
    )  # where k + 1 rows exist
    variance = formulas.covariance(image, kernel, 2.0)[
        i * net["B"].shape[2] + j, i * net["B"].shape[2] + j
    ]
    sample = np.random.default_rng(seed).normal(0, 2.0, (20_000, kernel * kernel))
    sampled = float((sample @ image[i : i + kernel, j : j + kernel].ravel()).var())
    narrow, wide = (float((image[i : i + k, j : j + k] ** 2).sum()) for k in (kernel, kernel + 1))
    close = bool(abs(sampled / variance - 1) < ERRORS * math.sqrt(2 / 20_000))
    corrected = {"ours": float(variance), "sampled": sampled, "holds": close}
    rows["Eq. 8: variance at τ = 2, without τ²"] = {"paper": narrow} | corrected
    rows["Eq. 8: the same with i:i+k, k + 1 rows"] = {"paper": 4 * wide} | corrected
    entries = float(model.features[0].weight[0].numel())
    rows["Lemma 2: independent entries of F"] = {
        "paper": float(kernel),
        "ours": entries,
        "holds": entries == kernel**2,
    }
    rows["Prop. 1's proof: windows misplaced by i'"] = _misplaced(*net["C"].shape[1:], pool)
    rows["Prop. 1's proof: maxima per window, Σ D"] = _ties(net["B"], pool)
    silent, patch = 0.5**4, image[i : i + kernel, j : j + kernel].ravel()
    a = np.random.default_rng(seed).normal(size=(20_000, 4, patch.size)) @ patch
    sampled = float((a <= 0).all(axis=1).mean())
    close = abs(sampled - silent) <= ERRORS * math.sqrt(silent * (1 - silent) / 20_000)
    rows["Thm. 1's proof: P(Y = 0) at V = 4"] = {
        "paper": 0.0,
        "ours": silent,
        "sampled": sampled,
        "holds": close,
    }
    rows["Def. 3: share of 0/0; for exp(f), α"] = _literal_definition_3(tau, seed)
    standard, changed = (
        float([c for c in layers if c != "M"][-1]) for layers in (cfgs["D"], VGG16)
    )
    rows["Sec. 3.1: VGG16's last channels"] = {
        "paper": standard,
        "ours": changed,
        "holds": changed == 256,
    }
    published = round(VGG16_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]["acc@5"], 1)
    return rows | {
        "Fig. 5: top-5 of the unmasked [VGG]": {
            "paper": 87.0,
            "ours": published,
            "holds": published == 90.4,
        }
    }


def _misplaced(rows: int, columns: int, pool: int) -> dict[str, float | bool]:
    """(i', j') := ((i - 1)/k' + 1, (i - 1 mod k') + 1) numbers windows in reading order only if k'
    is w'.
    """
    i = np.arange(rows * columns)
    order = np.indices((rows, columns)).reshape(2, -1)
    literal, right = (
        float(((i // width, i % width) != order).any(axis=0).mean()) for width in (pool, columns)
    )
    return {"paper": literal, "ours": right, "holds": right == 0}


def _ties(b: Array, pool: int) -> dict[str, float | bool]:
    """The indicators 1{max = entry} of one window add up to 1 only without ties; a silent window
    has k'².
    """
    v, rows, columns = b.shape
    windows = b.reshape(v, rows // pool, pool, columns // pool, pool)
    count = (windows == windows.max(axis=(2, 4), keepdims=True)).sum(axis=(2, 4))
    spread = (
        laws.feature_gradient(b, np.ones(count.shape), pool).reshape(windows.shape).sum(axis=(2, 4))
    )
    return {
        "paper": float(count.mean()),
        "ours": float(spread.mean()),
        "holds": bool((spread == 1).all()),
    }


def _literal_definition_3(tau: float, seed: int) -> dict[str, float | bool]:
    """Second and third derivatives of f and exp(f) by repeated autograd, on a 5×5 image with one
    2×2 filter.
    """
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
                value = (
                    torch.autograd.grad(value, t, create_graph=True)[0]
                    if value.requires_grad
                    else torch.zeros(())
                )
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
    ours = float(laws.gradcam_plus_plus(gradient, np.array([l1]))[0])
    difference = abs(literal - ours) / max(abs(ours), 1e-300)
    holds = bool(undefined.all() and difference <= 1e-10)
    share = float(undefined.mean())
    return {
        "paper": share,
        "ours": ours,
        "sampled": float(literal),
        "difference": difference,
        "holds": holds,
    }
