"""Which class is explained: a random one above any backbone, and the predicted one of [CNN]."""

import math

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from walls.network import zoo
from walls.network.behind import behind
from walls.theory import formulas, integrals, laws, sampling
from walls.theory.formulas import Array
from walls.theory.model_checks import dead_pixel
from walls.theory.results import ERRORS, EXACT, Rows, errors, relative
from walls.theory.theorem_checks import one_percent

# Random weights; a residual network, and one with squeeze-and-excitation.
BACKBONES = {"ResNet18": "torchvision:resnet18@none", "RegNetY": "torchvision:regnet_y_400mf@none"}
CLASSES = (1, 2, 10, 100, 1000)
SIMULATED = 10  # more logits than these are not drawn


def pooling_heads(image: Array, tau: float, draws: int, seed: int) -> Rows:
    """The theorem for global pooling on two backbones behind a wall, two thirds of 96 rows seen.

    `sampled` and `exact` at the hidden position with the largest ‖B‖; `errors` over the mean, E[X²]
    and the share of positive scores at all positions; `difference`: α by automatic differentiation
    against w/(hw); µ: of the mean map, and of the map of ‖B‖.
    """
    rows: Rows = {}
    picture = interpolate(torch.from_numpy(image)[None, None], size=(96, 96), mode="bilinear")
    for name, network in BACKBONES.items():
        backbone = zoo.get(network, seed=seed, num_classes=500).network.double()
        model = behind(backbone, 64, image_rows=96)
        linear = [layer for layer in backbone.modules() if isinstance(layer, nn.Linear)][-1]
        found = sampling.pooled_classes(
            model, linear, picture.expand(-1, 3, -1, -1), tau, 6 * draws, seed
        )
        features, seen = found["features"], found["features"].shape[1] * 2 // 3
        exact, variance = formulas.pooled_scores(features, tau)
        square = 2 * (variance + exact**2)  # E[X²] = 2 E[σ(X)²]
        lit, count = exact > 0, int(found["draws"])
        share = np.where(lit, found["positive"] - 0.5, found["positive"])
        z = max(
            errors(found["mean"] - exact, found["error"]),
            errors(found["square"] - square, found["square error"]),
            errors(share, np.full_like(share, 0.5 / math.sqrt(count))),
        )
        alpha = found["weight"] / features[0].size
        at = np.unravel_index(exact[seen:].argmax() + seen * exact.shape[1], exact.shape)
        apart = relative(found["alpha"], alpha)
        rows[f"{name}, {len(features)} features"] = {
            "sampled": float(found["mean"][at]),
            "exact": float(exact[at]),
            "errors": z,
            "1% in errors": one_percent(exact, found["error"]),
            "P(> 0)": float(found["positive"][at]),
            "difference": apart,
            "µ, sampled": _share(found["mean"], seen),
            "µ, exact": _share(np.linalg.norm(features, axis=0), seen),
            "holds": bool(z <= ERRORS and apart <= EXACT),
        }
    return rows


def _share(values: Array, wall: int) -> float:
    """µ of a map before upscaling: the l2 norm of its rows from `wall` on over its whole norm."""
    return float(np.linalg.norm(values[wall:]) / np.linalg.norm(values))


def predicted_class(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> tuple[Rows, dict[int, dict[str, float]]]:
    """The score at the dead pixel for the largest of K logits: simulated networks against the law.

    Both have the same filters, so `errors` is of their paired difference. `difference`: the law's
    two means over the largest logit against a two-dimensional integral, at the mean ρ; where K is
    1 or 2 to the closed forms too. `of a fixed class`: over the exact expectation of Theorem 1.
    Besides the rows, the simulated points {K: {"P(> 0)", "factor"}}.
    """
    pixel = dead_pixel(image, kernel, pool)
    drawn = [count for count in CLASSES if 1 < count <= SIMULATED]
    scores, law = sampling.predicted(
        image, filters, kernel, pool, tau, drawn, 3 * draws, seed, pixel
    )
    rho, fixed = laws.alignment(law), laws.fixed_class(law)
    middle, exact = float(rho.mean()), _exact(image, kernel, pool, tau, filters)[pixel]
    rows: Rows = {}
    points: dict[int, dict[str, float]] = {}
    for count in CLASSES:
        chance, factor = laws.largest_logit(rho, count)
        chance = chance * (fixed > 0)
        row = {"ρ": middle, "P, law": float(chance.mean()), "law": float((factor * fixed).mean())}
        row["of a fixed class"] = row["law"] / exact
        apart = _from_integrals(middle, count)
        holds = apart <= 1e-9
        if count in scores:
            x = np.maximum(scores[count], 0)
            pairs = np.stack([x - factor * fixed, (x > 0) - chance])
            spread = pairs.std(axis=1, ddof=1) / math.sqrt(len(x))
            z = errors(pairs.mean(axis=1), spread)
            row |= {"P(> 0)": float((x > 0).mean()), "sampled": float(x.mean()), "errors": z}
            row["1% in errors"] = float(0.01 * row["law"] / spread[0])
            points[count] = {"P(> 0)": row["P(> 0)"], "factor": row["sampled"] / exact}
            holds = holds and z <= ERRORS
        rows[f"K = {count}, V = {filters}"] = row | {"difference": apart, "holds": bool(holds)}
    return rows, points


def _exact(image: Array, kernel: int, pool: int, tau: float, filters: int) -> Array:
    return formulas.expected_gradcam(image, filters, kernel, pool, tau)


def _from_integrals(rho: float, classes: int) -> float:
    """How far `laws.largest_logit` lies from integrals, and from its closed forms for K = 1, 2.

    K = 2: P = ½ + arcsin(ρ/√2)/π and E over that of a fixed class 1 + ρ/√2.
    """
    ours = np.ravel(laws.largest_logit(np.array([rho]), classes))
    others = [integrals.largest_logit(rho, classes)]
    if classes == 1:
        others.append((0.5, 1.0))
    if classes == 2:
        turn = rho / math.sqrt(2)
        others.append((0.5 + math.asin(turn) / math.pi, 1 + turn))
    return max(relative(ours, np.array(other)) for other in others)


def predicted_curves(
    image: Array, kernel: int, pool: int, tau: float, draws: int, seed: int, filters: int = 8
) -> dict[str, Array]:
    """The law at the dead pixel for K = 1 … 1000: {"K", "P(> 0)", "factor"}, (K,) each."""
    pixel = dead_pixel(image, kernel, pool)
    law = sampling.filter_draws(image, filters, kernel, pool, tau, draws, seed, pixel)
    counts = np.unique(np.geomspace(1, 1000, 40).astype(int))
    fixed, rho = laws.fixed_class(law), laws.alignment(law)
    both = [laws.largest_logit(rho, int(count)) for count in counts]
    chances = np.array([(chance * (fixed > 0)).mean() for chance, _ in both])
    factors = np.array([(factor * fixed).mean() / fixed.mean() for _, factor in both])
    return {"K": counts, "P(> 0)": chances, "factor": factors}
