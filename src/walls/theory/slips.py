"""The paper's slips, each with its number."""

import math
from collections.abc import Callable

import numpy as np
import torch
from torchvision.models import VGG16_Weights

from walls.theory import formulas, laws
from walls.theory.cnn import CNN
from walls.theory.definition_checks import library_map
from walls.theory.formulas import Array
from walls.theory.model_checks import dead_pixel, masked_cnn, parts
from walls.theory.results import ERRORS, Rows, relative


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
    i, j = (min(at, side - kernel - 1) for at, side in zip((i, j), image.shape, strict=True))
    flat = i * net["B"].shape[2] + j  # a position where k + 1 rows exist
    variance = formulas.covariance(image, kernel, 2.0)[flat, flat]
    sample = np.random.default_rng(seed).normal(0, 2.0, (20_000, kernel * kernel))
    sampled = float((sample @ image[i : i + kernel, j : j + kernel].ravel()).var())
    narrow, wide = (float((image[i : i + k, j : j + k] ** 2).sum()) for k in (kernel, kernel + 1))
    close = bool(abs(sampled / variance - 1) < ERRORS * math.sqrt(2 / 20_000))
    corrected = {"ours": float(variance), "sampled": sampled, "holds": close}
    rows["Eq. 8: variance at τ = 2, without τ²"] = {"paper": narrow} | corrected
    rows["Eq. 8: the same with i:i+k, k + 1 rows"] = {"paper": 4 * wide} | corrected
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
    rows["Sec. 2.1: torch's convolution, variance × inputs"] = _default_initialisation(kernel, seed)
    rows["Sec. 3.3: HiResCAM by one weight a map, off by"] = _global_hirescam(model, image)
    return rows


def _default_initialisation(kernel: int, seed: int) -> dict[str, float | bool]:
    """torch's Conv2d draws uniformly of variance 1/(3 fan-in), He's initialisation of 2/fan-in.

    `paper` by torch's own He initialisation, `sampled` by its Conv2d, `ours` by the formula.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Conv2d(4, 20_000, kernel)
        fan_in = layer.weight[0].numel()
        default = layer.weight.detach().double()
        he = torch.nn.init.kaiming_uniform_(layer.weight, nonlinearity="relu").detach().double()
    found = [float(weights.square().mean()) * fan_in for weights in (he, default)]
    error = math.sqrt(0.8 / default.numel())  # of a uniform variable's mean square, relative
    close = all(abs(x / y - 1) <= ERRORS * error for x, y in zip(found, (2, 1 / 3), strict=True))
    return {"paper": found[0], "ours": 1 / 3, "sampled": found[1], "holds": close}


def _global_hirescam(model: CNN, image: Array) -> dict[str, float | bool]:
    """HiResCAM's map by pytorch-grad-cam against α ⊙ B by Definition 4, and by α's mean a map."""
    _, weights, net = parts(model, image)
    alpha = laws.feature_gradient(
        net["B"], formulas.score_gradient(weights, net["a"]), model.head[0].kernel_size
    )
    library = library_map("HiResCAM", model, image)[1]
    literal, right = (
        round(relative(laws.weighted_sum(a, net["B"]), library), 9)
        for a in (alpha.mean(axis=(1, 2)), alpha)
    )
    return {"paper": literal, "ours": right, "holds": right == 0 and literal > 0}


def beside_torchvision() -> Rows:
    """The paper's accuracies (Section 3.1, Figure 5) beside those of torchvision's VGG16.

    Numbers to read, not checks: both are other people's measurements.
    """
    published = VGG16_Weights.IMAGENET1K_V1.meta["_metrics"]["ImageNet-1K"]
    return {
        "torchvision's VGG16": {"top-1": published["acc@1"], "top-5": published["acc@5"]},
        "unmasked [VGG]": {"top-1": 71.5, "top-5": 90.4},
        "masked [VGG]": {"top-1": 66.5, "top-5": 87.0},
    }


def _misplaced(rows: int, columns: int, pool: int) -> dict[str, float | bool]:
    """(i', j') := ((i - 1)/k' + 1, (i - 1 mod k') + 1) is the i-th window only if k' is w'.

    Against where torch's `unfold` finds its i-th window, for windows of k' × k' cells.
    """
    height, width = rows * pool, columns * pool
    places = torch.arange(height * width, dtype=torch.float64).reshape(1, 1, height, width)
    first = torch.nn.functional.unfold(places, pool, stride=pool)[0, 0].long().numpy()
    torchs = np.stack([first // width // pool, first % width // pool])
    i = np.arange(rows * columns)
    literal, right = (
        float((np.stack([i // by, i % by]) != torchs).any(axis=0).mean()) for by in (pool, columns)
    )
    return {"paper": literal, "ours": right, "holds": right == 0}


def _ties(b: Array, pool: int) -> dict[str, float | bool]:
    """A window's indicators 1{max = entry} add up to 1 only without ties; a silent one has k'²."""
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
    """Second and third derivatives of f and exp(f) by autograd, 5×5 image, one 2×2 filter."""
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
