"""Definitions 1-7 against pytorch-grad-cam and our Opti-CAM, and Figure 3's network."""

import contextlib
import io

import numpy as np
import torch

from walls.theory import formulas, laws
from walls.theory.cnn import CNN
from walls.theory.formulas import Array
from walls.theory.model_checks import HIDDEN, masked_cnn, parts
from walls.theory.results import EXACT, Rows, relative

CAUSES = {
    "GradCAM": "none",
    "XGradCAM": "sum for mean: hw; plus 1e-7",
    "GradCAM++": "sum for mean: hw; g², g³ for ∂², ∂³; plus 1e-6",
    "HiResCAM": "none",
    "ScoreCAM": "Up with aligned corners",
    "AblationCAM": "scores in float32",
}


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
        image.shape, filters, kernel, pool, (HIDDEN,) * (depth - 1) + (10,), tau=tau, seed=seed
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
