"""Every wall at once: a new head for every height, on the baseline's frozen features.

Not the paper's protocol, which trains the whole network behind its wall: this backbone never met
one. What it buys is all heights in minutes, since the features of the training images are computed
once.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor, nn

from walls.base import seeds
from walls.base.progress import track
from walls.images import loaders, transforms
from walls.network import architecture, certificate
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency import activity, evaluation, statistics
from walls.saliency.settings import Cams
from walls.sweep.settings import Sweep

ROOM, SPARE_ROOM = (
    1_500_000_000,
    500_000_000,
)  # bytes of features kept, of training and of validation images
BATCH, LR = 64, 1e-3  # a head's training: Adam, one cycle up to LR
COLUMNS = [
    "wall_rows",
    "dead_rows",
    "top1",
    "top1_low",
    "top1_high",
    "method",
    "mean",
    "std",
    "ci_low",
    "ci_high",
    "images",
    "empty",
    "uniform",
]


class Frozen(NamedTuple):
    """What the frozen backbone makes of images.

    The features (N, C, h, w) are of all rows and on the CPU; the labels are (N,).
    """

    features: Tensor
    labels: Tensor


@dataclass(frozen=True)
class Height:
    """One wall: its dead zone, its head's accuracy, every method's activity and raw maps.

    `accuracy` holds top1 and its 95% interval.
    """

    zone: DeadZone
    accuracy: dict[str, float]
    measured: pd.DataFrame  # as of evaluation.evaluate
    maps: dict[str, Tensor]  # {method: (N, h, w)}


@torch.no_grad()
def freeze(
    baseline: Classifier, manifest: pd.DataFrame, image_size: int, seed: int, room: int = ROOM
) -> Frozen:
    """g(ξ) of a manifest's images, each once and as it is.

    The images are centred and fitted, neither cropped nor flipped.

    Batch norm keeps its running statistics. float32 where that fits into `room` bytes; else
    bfloat16, and of the images as many as fit, the first of a permutation drawn from `seed`.
    """
    device = _device()
    backbone = copy.deepcopy(baseline.features).to(device, memory_format=torch.channels_last).eval()
    shape = backbone(torch.zeros(1, 3, image_size, image_size, device=device)).shape[1:]
    kind = torch.float32 if 4 * math.prod(shape) * len(manifest) <= room else torch.bfloat16
    count = min(len(manifest), room // (kind.itemsize * math.prod(shape)))
    kept = np.sort(seeds.stream(seed, "sweep").permutation(len(manifest))[:count])
    images = loaders.Images(manifest.iloc[kept], image_size)
    features = torch.empty(count, *shape, dtype=kind)
    batches = track(loaders.loader(images, BATCH, workers=0), desc="features", unit="batch")
    for part, (batch, _, flips) in zip(features.split(BATCH), batches, strict=True):
        part.copy_(backbone(transforms.on_device(batch, flips, device)))
    return Frozen(features, torch.from_numpy(images.labels))


def with_new_head(baseline: Classifier, wall_rows: int, seed: int) -> Classifier:
    """The baseline's own backbone, no copy, with an untrained head behind a wall.

    The network comes in evaluation mode.

    Raises ValueError where the wall leaves no dead zone.
    """
    config = {name: value for name, value in baseline.config.items() if name != "architecture"}
    network = architecture.seeded(seed, **config | {"wall_rows": wall_rows})
    network.features = baseline.features
    return network.eval()


def train_head(network: Classifier, frozen: Frozen, epochs: int, seed: int) -> None:
    """Train `network.head` in place on frozen features; its backbone isn't touched.

    Order and dropout are drawn from `seed` and the wall's height. Raises ValueError where the loss
    stops being finite.
    """
    device, random = _device(), seeds.stream(seed, "head", network.wall_rows)
    head = network.head.to(device).train()
    steps = epochs * math.ceil(len(frozen.labels) / BATCH)
    adam = torch.optim.Adam(head.parameters())
    # At least 2 steps, or it divides by zero.
    rates = torch.optim.lr_scheduler.OneCycleLR(adam, LR, max(steps, 2))
    bar = track(total=steps, desc=f"head behind {network.wall_rows} rows", unit="step")
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())), bar:
        torch.manual_seed(int(random.integers(2**63)))
        for _ in range(epochs):
            for batch in torch.from_numpy(random.permutation(len(frozen.labels))).split(BATCH):
                logits = head(frozen.features[batch].to(device, torch.float32))
                loss = nn.functional.cross_entropy(logits, frozen.labels[batch].to(device))
                adam.zero_grad()
                loss.backward()
                adam.step()
                rates.step()
                bar.update()
    if not torch.isfinite(loss):
        raise ValueError(
            f"sweep: the loss behind a wall of {network.wall_rows} "
            "rows is not finite; takes another baseline"
        )
    head.cpu().eval()


@torch.no_grad()
def accuracy(network: Classifier, frozen: Frozen) -> dict[str, float]:
    """Top-1 accuracy on frozen features, with its 95% interval (Wilson), in [0, 1].

    They are named top1, top1_low, top1_high.
    """
    parts = zip(frozen.features.split(BATCH), frozen.labels.split(BATCH), strict=True)
    right = sum(
        int((network.head(features.float()).argmax(1) == labels).sum())
        for features, labels in parts
    )
    return _share(right, len(frozen.labels))


def every_height(
    baseline: Classifier,
    heights: Sequence[int],
    train: Frozen,
    val: Frozen,
    images: Tensor,
    settings: Cams,
    sweep: Sweep,
    image_size: int,
    seed: int,
    resume: Path | None = None,
) -> list[Height]:
    """Every wall in turn: train its head, certify its dead zone, evaluate the methods.

    Each is certified on its very weights and evaluated on `images`.

    `images`: uint8 (N, 3, H, W), the same at every height. `resume`: as of evaluation.evaluate.
    Raises ValueError where a dead zone isn't certified.
    """
    found = []
    for rows in heights:
        network = with_new_head(baseline, rows, seed)
        train_head(network, train, sweep.epochs, seed)
        certificate.certify(network, image_size, transforms.normalise(images[:8]), seed).require()
        zone = network.zone(image_size)
        measured, maps = evaluation.evaluate(network, images, settings, zone, resume)
        found.append(Height(zone, accuracy(network, val), measured, maps))
    return found


def table(heights: Sequence[Height], seed: int, classes: pd.Series) -> pd.DataFrame:
    """Every wall's accuracy and every method's mean µ×100.

    It has a row per height and method, and the columns of sweep.csv.

    `classes`: the images'. `std` with n-1, `ci_low` and `ci_high` the mean's 95% interval over
    classes (statistics.summary); `uniform`: a uniform map's µ×100.
    """
    parts = [
        statistics.tabulate(of_classes(height.measured, classes), seed).assign(
            wall_rows=height.zone.wall_rows,
            dead_rows=height.zone.dead_rows,
            **height.accuracy,
            uniform=100 * activity.uniform_activity(height.zone.dead_share),
        )
        for height in heights
    ]
    return pd.concat(parts, ignore_index=True)[COLUMNS] if parts else pd.DataFrame(columns=COLUMNS)


def of_classes(measured: pd.DataFrame, classes: pd.Series) -> pd.DataFrame:
    """The activity of STACK-MIX images, each with its class."""
    own = measured["image"].map(dict(enumerate(classes)))
    return measured.assign(dataset="stack-mix", **{"class": own})


def trained(
    measured: pd.DataFrame, predictions: pd.DataFrame, wall: dict, seed: int, classes: pd.Series
) -> pd.DataFrame:
    """The same rows for the network that was trained as a whole behind its wall, if known.

    `measured`: its activity on the same images (evaluation.evaluate); `predictions`: loop.predict's
    table; `wall`: metrics/wall.json; `classes`: the images'.
    """
    top1 = _share((predictions["rank"] == 1).sum(), len(predictions))
    uniform = 100 * activity.uniform_activity(wall["dead_share"])
    found = statistics.tabulate(of_classes(measured, classes), seed)
    return found.assign(
        wall_rows=wall["wall_rows"], dead_rows=wall["dead_rows"], **top1, uniform=uniform
    )[COLUMNS]


def verdict(table: pd.DataFrame) -> str:
    """From the lowest wall to the highest: accuracy, and every method's mean µ×100; a sentence."""
    low, high = (table[table["wall_rows"] == end] for end in table["wall_rows"].agg(["min", "max"]))
    methods = zip(low["method"], low["mean"], high["mean"], strict=True)
    moved = ", ".join(f"{method} {before:.1f} to {after:.1f}" for method, before, after in methods)
    first, last = low.iloc[0], high.iloc[0]
    return (
        "With new heads on the baseline's frozen features, from a wall of "
        f"{first['wall_rows']} rows to one of {last['wall_rows']}: top-1 {first['top1']:.1%} to "
        f"{last['top1']:.1%}, and the mean µ×100 where the network can't see: {moved} (a uniform "
        f"map: {first['uniform']:.1f} to {last['uniform']:.1f})."
    )


def _share(right: int, images: int) -> dict[str, float]:
    if not images:
        return dict.fromkeys(("top1", "top1_low", "top1_high"), math.nan)
    low, high = stats.binomtest(int(right), images).proportion_ci(0.95, "wilson")
    return {"top1": float(right / images), "top1_low": float(low), "top1_high": float(high)}


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
