"""GradCAM over all the classes of a trained network, beside the theorem for random classifiers.

Above global average pooling and one linear layer, α = w/(hw) for class weights w. Over random
classifiers w ~ N(0, τ²) the mean map is then τ‖B_ij‖₂/(hw√(2π)), at every position, seen or hidden,
whatever the backbone (notebook 1). A trained classifier's rows are not random; `over_classes` says
how far its mean over the classes is from that.
"""

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from walls.base.seeds import stream
from walls.network.behind import behind
from walls.network.classifier import Classifier

SEEN, HIDDEN = "seen", "hidden"
TRAINED, RANDOM = "trained", "random"


@dataclass(frozen=True)
class OverClasses:
    """GradCAM's mean map over all classes, per image, and what random classifiers would give.

    `mean`, `expected`: (N, h, w); `positive`: the share of classes with a positive score; `square`:
    the mean square of Σ α B over the one expected, (N, h, w) too; `class_positive`,
    `class_square`: the same two of every class, over the positions of all images, seen in the first
    row and hidden in the second, (2, K); `wall`: the first hidden row; `tau`: the root mean square
    of the classifier's weights; `classes`: how many.
    """

    mean: np.ndarray
    expected: np.ndarray
    positive: np.ndarray
    square: np.ndarray
    class_positive: np.ndarray
    class_square: np.ndarray
    wall: int
    tau: float
    classes: int

    def ratio(self) -> np.ndarray:
        """The mean map over the expected one, (N, h, w); NaN where no feature answers."""
        return _over(self.mean, self.expected)

    def table(self) -> pd.DataFrame:
        """A row for the seen part and one for the hidden part, over all images' positions.

        `ratio`, `ratio sd`: mean and standard deviation (n - 1) of `ratio`; `positive`, `square`:
        the mean share of classes with a positive score, and mean square over the expected one;
        `positive sd`, `square sd`: how far the classes are apart, each over all positions;
        `positions`: how many with any feature.
        """
        parts = {SEEN: np.s_[:, : self.wall], HIDDEN: np.s_[:, self.wall :]}
        rows = {}
        for number, (name, part) in enumerate(parts.items()):
            ratio = self.ratio()[part]
            lit = np.isfinite(ratio)
            rows[name] = {
                "ratio": float(ratio[lit].mean()),
                "ratio sd": float(ratio[lit].std(ddof=1)),
                "positive": float(self.positive[part][lit].mean()),
                "positive sd": float(self.class_positive[number].std(ddof=1)),
                "square": float(self.square[part][lit].mean()),
                "square sd": float(self.class_square[number].std(ddof=1)),
                "positions": int(lit.sum()),
            }
        return pd.DataFrame(rows).T

    def activity(self) -> tuple[np.ndarray, np.ndarray]:
        """µ of each image's mean map and of its expected one, before upscaling: (N,) each."""
        hidden, whole = (
            [np.linalg.norm(maps[:, low:], axis=(1, 2)) for maps in (self.mean, self.expected)]
            for low in (self.wall, 0)
        )
        return hidden[0] / whole[0], hidden[1] / whole[1]


def _over(values: np.ndarray, whole: np.ndarray) -> np.ndarray:
    return np.divide(values, whole, out=np.full_like(whole, np.nan), where=whole > 0)


def over_classes(
    network: nn.Module, upper: Tensor, lower: Tensor, *, drawn: int | None = None
) -> OverClasses:
    """GradCAM's raw maps of a network behind a stacked wall, averaged over all its classes.

    `upper` (N, C, H, W), whole normalised images, are seen; `lower`, below them, are hidden. α is
    by automatic differentiation of the head on the first image, and the same for all, as is tested:
    ValueError where the head isn't global average pooling and one linear layer, so that logits
    aren't ⟨hw α, mean of **B** over the seen rows⟩ and a constant; and for other shapes. `drawn`: a
    seed, with which as many random classes are drawn instead, α ~ N(0, τ²/(hw)²) of the same τ.
    """
    if upper.shape != lower.shape or upper.ndim != 4:
        raise ValueError(
            f"lower: got shape {tuple(lower.shape)} below {tuple(upper.shape)}; takes as many "
            "images (N, C, H, W) of the same size"
        )
    model = behind(network, image_rows=2 * upper.shape[2])
    with torch.no_grad():
        features = model.cut(torch.cat([upper, lower], dim=2))[0]
    wall = model.zone().rows[-1]
    alpha = _coefficients(model, features[:1])
    _check_head(model, features, alpha, wall)
    root = float(alpha.double().square().mean().sqrt())
    if drawn is not None:
        normal = stream(drawn, "classes").standard_normal(tuple(alpha.shape))
        alpha = root * torch.from_numpy(normal).to(alpha)
    maps, counts, squares, lit = [], [], [], torch.zeros(2)
    for one in features:  # (K, h·w) at a time
        scores = (alpha @ one.flatten(1)).double()
        norm = one.flatten(1).double().norm(dim=0)
        positive, square = (scores > 0).double(), (scores / norm / root).square()
        mean = [scores.relu().mean(0), root * norm / math.sqrt(2 * math.pi), positive.mean(0)]
        maps.append(torch.stack([*mean, square.mean(0)]).reshape(4, *one.shape[1:]))
        for into, values in ((counts, positive), (squares, square.nan_to_num(0))):
            into.append(_parts(values, one.shape[2] * wall))
        lit += _parts((norm > 0).double()[None], one.shape[2] * wall)[:, 0]
    mean, expected, positive, square = torch.stack(maps, dim=1).numpy()
    own, own_square = [
        (torch.stack(each).sum(0) / lit[:, None]).numpy() for each in (counts, squares)
    ]
    tau = root * features[0, 0].numel()
    return OverClasses(mean, expected, positive, square, own, own_square, wall, tau, len(alpha))


def trained_and_random(
    network: nn.Module, upper: Tensor, lower: Tensor, seed: int = 0
) -> dict[str, OverClasses]:
    """`over_classes` of the trained classifier, and of as many random classes of the same τ."""
    return {
        TRAINED: over_classes(network, upper, lower),
        RANDOM: over_classes(network, upper, lower, drawn=seed),
    }


def wide(found: dict[str, OverClasses]) -> pd.DataFrame:
    """Their tables as text, one below the other."""
    parts = []
    for over in found.values():
        table = over.table()
        cells = {
            "mean map / expected, by position": _spread(table, "ratio"),
            "P(score > 0), by class": _spread(table, "positive"),
            "mean square / expected, by class": _spread(table, "square"),
            "positions": table["positions"].astype(int),
        }
        parts.append(pd.DataFrame(cells))
    return pd.concat(parts, keys=list(found))


def _spread(table: pd.DataFrame, name: str) -> pd.Series:
    """Mean ± standard deviation."""
    return table.apply(lambda row: f"{row[name]:.2f} ± {row[f'{name} sd']:.2f}", axis=1)


def _parts(values: Tensor, seen: int) -> Tensor:
    """Sums over the first `seen` positions and over the others, of values (K, h·w): (2, K)."""
    return torch.stack([values[:, :seen].sum(1), values[:, seen:].sum(1)])


def _coefficients(model: Classifier, features: Tensor, at_once: int = 100) -> Tensor:
    """α of every class on one image's **B** (1, V, h, w), GAP(∇_B y_c) by autograd: (K, V)."""
    leaf = features.detach().clone().requires_grad_()
    logits = model.logits(leaf)[0]
    parts = []
    for some in torch.eye(len(logits), dtype=logits.dtype).split(at_once):
        gradient = torch.autograd.grad(logits, leaf, some, True, is_grads_batched=True)[0]
        parts.append(gradient[:, 0].mean((2, 3)))
    return torch.cat(parts)


def _check_head(model: Classifier, features: Tensor, alpha: Tensor, wall: int) -> None:
    """ValueError unless logits = ⟨hw α, mean of **B** over the seen rows⟩ + a constant.

    On the images' features, on these with their channels in reverse order, on 100 times both with
    either sign (where a unit behind its bias shows that it isn't linear), and on none.
    """
    turned = torch.cat([features, features.flip(1)])
    none = torch.zeros_like(features[:1])
    tried = torch.cat([turned, 100 * turned, -100 * turned, none])
    linear = tried[:, :, :wall].mean((2, 3)) * features[0, 0].numel() @ alpha.T
    with torch.no_grad():
        left = model.logits(tried) - linear
    if (left - left[-1:]).abs().max() > 1e-3 * linear.abs().max():
        raise ValueError(
            "network: its head isn't global average pooling and one linear layer; takes one whose "
            "is, as a ResNet's"
        )
