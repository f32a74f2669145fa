"""Definitions 1-7 against pytorch-grad-cam and our Opti-CAM, and Figure 3's network."""

import contextlib
import io
from collections.abc import Callable

import numpy as np
import torch

from walls.saliency.opticam import optimise
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
    """pytorch-grad-cam's coefficients, (V,) or (V, h, w), and its map (h, w) before σ."""
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    x, targets = torch.from_numpy(image)[None, None], [ClassifierOutputTarget(target)]
    layer = model.features[-1]
    silent = contextlib.redirect_stderr(io.StringIO())  # its progress bars
    with getattr(library, method.replace("++", "PlusPlus"))(model, [layer]) as cam, silent:
        cam.activations_and_grads(x)[0, target].backward()
        kept = cam.activations_and_grads
        b, gradient = kept.activations[0].numpy(), kept.gradients[0].numpy()
        raw = cam.get_cam_image(x, layer, targets, b, gradient, False)[0]
        if method in ("HiResCAM", "LayerCAM"):  # position by position
            return gradient[0], raw
        coefficients = np.asarray(cam.get_cam_weights(x, layer, targets, b, gradient))[0]
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
    """Definition 6 for V = 2, softmax(β) = (p, 1 - p): `opticam.optimise` against a grid.

    The score isn't concave in β, so ascent promises no more than the local maximum that climbing a
    grid over p from its uniform start reaches, `climbed`. Two networks, whose climbs lead to either
    side and gain a tenth of the scores' range at least: doing nothing fails both. `gap`: what is
    missing to the best on the grid, as a share of that range.
    """
    rows: Rows = {}
    for side in ("first", "second"):
        model, score, climbed, grid = _with_a_climb(image, kernel, pool, tau, seed, side)
        x = torch.from_numpy(image)[None, None]
        features = model.features(x).detach()
        found = optimise(model, x, features, torch.tensor([0]), steps, 0.1)[0].detach().numpy()
        reached, span = score(found), max(grid) - min(grid)
        near = climbed - 0.01 * span <= reached <= max(grid) + 0.01 * span
        rows[f"Opti-CAM, L = 1, towards the {side} filter"] = {
            "score": reached,
            "uniform β": grid[len(grid) // 2],
            "climbed": climbed,
            "best on a grid": max(grid),
            "gap": (max(grid) - reached) / span,
            "holds": bool(near),
        }
    return rows


def _with_a_climb(
    image: Array, kernel: int, pool: int, tau: float, seed: int, side: str
) -> tuple[CNN, Callable[[Array], float], float, list[float]]:
    """A [CNN] of two filters, Definition 6's score of a mixed map, its climb's end, the grid."""
    for trial in range(200):
        model = masked_cnn(image, 2, kernel, pool, 1, tau, seed + trial)
        f, weights, net = parts(model, image)
        first, second = net["B"]
        if not (first.any() and second.any()):
            continue

        def score(mixed: Array, f: Array = f, weights: list[Array] = weights) -> float:
            mask = laws.unit(laws.upsample(mixed[None], image.shape))[0]
            return float(formulas.forward(image * mask, f, weights, pool)["a"][-1][0])

        shares = np.linspace(0, 1, 201)
        grid = [score(p * first + (1 - p) * second) for p in shares]
        middle = at = len(grid) // 2
        step = 1 if grid[middle + 1] > grid[middle - 1] else -1
        while 0 <= at + step < len(grid) and grid[at + step] > grid[at]:
            at += step
        gain = (grid[at] - grid[middle]) / ((max(grid) - min(grid)) or 1)
        if gain >= 0.1 and (at > middle) == (side == "first"):
            return model, score, grid[at], grid
    raise ValueError(f"seed: got {seed}; takes one near a [CNN] whose score climbs to that side")


def figure_3(
    image: Array, kernel: int, pool: int, tau: float, filters: int, depth: int, seed: int
) -> tuple[Array, Rows]:
    """GradCAM's raw map (h, w) of one masked [CNN] with ten logits, for the predicted one.

    As in the authors' release. The row: that the logits stay bit-identical when noise replaces the
    dead zone, and change when it replaces the rest; what GradCAM gives the dead zone; `difference`:
    the library's map to Proposition 1's.
    """
    size = formulas.sizes(image, kernel, pool)
    layers = (HIDDEN,) * (depth - 1) + (10,)
    model = CNN(image.shape, filters, kernel, pool, layers, tau=tau, seed=seed)
    x, start = torch.from_numpy(image)[None, None], size.wall + kernel - 1
    random = torch.Generator().manual_seed(seed)
    noise = torch.rand(x.shape, generator=random, dtype=torch.float64)
    below, above = (
        torch.cat([upper[:, :, :start], lower[:, :, start:]], dim=2)
        for upper, lower in ((x, noise), (noise, x))
    )
    same = torch.equal(model(x), model(below)) and not torch.equal(model(x), model(above))
    target = int(model(x).argmax())
    sums = library_map("GradCAM", model, image, target)[1]
    _, weights, net = parts(model, image)
    weights[-1] = weights[-1][target : target + 1]
    alpha = formulas.gradcam_coefficients(weights, net["a"], size.positions)
    apart = relative(laws.weighted_sum(alpha, net["B"]), sums)
    values = np.maximum(sums, 0)
    hidden, whole = values[size.wall :], max(np.linalg.norm(values), np.finfo(float).tiny)
    row = {
        "dead rows of ξ": x.shape[2] - start,
        "dead rows of B": len(hidden),
        "logits unchanged": same,
        "difference": apart,
        "positive there": float((hidden > 0).mean()),
        "µ of the raw map": float(np.linalg.norm(hidden) / whole),
    }
    holds = same and apart <= EXACT and bool(hidden.any())
    return values, {"GradCAM in the dead zone": row | {"holds": holds}}
