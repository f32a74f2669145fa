"""What a preset needs, by its operations and by what was measured once (benchmarks/)."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from walls.base import params
from walls.network import architecture, classifier
from walls.sources.kinds import SOURCES

PYTHON, ENVIRONMENT = 1e9, 7e9  # bytes: a process that has loaded torch; .venv
PICTURE = 50e3  # bytes of an image of 224 × 224, as PNG


@dataclass(frozen=True)
class Needs:
    """Of all trainings together: images times epochs, operations; bytes of memory, of disk."""

    passes: int
    operations: float
    memory: float
    disk: float


def read(file: Path) -> params.Params:
    """A preset's parameters, whether or not the folders it names are there."""
    return params.Params.model_validate(params.read(file))


def needs(preset: params.Params) -> Needs:
    """What training a preset's networks takes; nothing is computed but shapes.

    Operations: forward and, twice as many, backward, a multiply-add counting 2. Memory: every
    layer's output of a batch (rectified in place), the weights, their gradient and momentum. Disk:
    the images, unless they stay where they lie; the weights three times (an output, DVC's cache, a
    checkpoint with its momentum); .venv.
    """
    train, val = preset.data.train_images, preset.data.val_images
    source = SOURCES[preset.data.name]
    if source.class_images:
        every, held_out = (round(count * preset.data.classes) for count in source.class_images)
        train, val = train or every, val or held_out
    passes = 0 if preset.model.checkpoint else (train or 0) * preset.train.epochs
    networks = [network(preset, rows) for rows in (preset.wall.rows, 0)]
    times = (1 + len(preset.train.again), 1)  # the masked network and the baseline are trained
    work = sum(
        3 * count * passes * operations(model, preset.image_size)
        for model, count in zip(networks, times, strict=True)
    )
    weights = [sum(p.numel() for p in model.parameters()) for model in networks]
    outputs = max(_outputs(model, preset.image_size) for model in networks)
    bytes_each = 4 if preset.train.precision == "float32" else 2
    batch = preset.train.batch_size / preset.train.accumulate if passes else preset.cams.batch_size
    images = (train or 0) + (val or 0) if source.writes else 0
    pictures = 2 * PICTURE * images * (preset.image_size / 224) ** 2
    memory = PYTHON + 12 * max(weights) + batch * outputs * bytes_each
    stored = sum(16 * count * own for own, count in zip(weights, times, strict=True))
    return Needs(sum(times) * passes, work, memory, ENVIRONMENT + stored + pictures)


def network(preset: params.Params, wall_rows: int) -> classifier.Classifier:
    """A preset's network, without memory for its weights."""
    with torch.device("meta"):
        return architecture.vgg(
            preset.model.width,
            preset.model.dense,
            preset.data.classes,
            preset.model.batch_norm,
            wall_rows,
            image_size=preset.image_size,
            dropout=preset.model.dropout,
        ).eval()


def operations(model: classifier.Classifier, image_size: int) -> int:
    """Operations of one image's forward pass, of the rows that the head can see."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.scores([torch.empty(1, 3, image_size, image_size, device="meta")])
    return counter.get_total_flops()


def cores_seconds(work: float, benchmarks: Path) -> float:
    """Seconds that operations of training take on two cores.

    The pace is that of the default's training (benchmarks/training.csv).
    """
    measured = pd.read_csv(benchmarks / "training.csv", index_col="part")
    pace = measured.loc["loader and step together", "drawn"]
    default = read(benchmarks.parent / "presets" / "critters.yaml")
    masked = network(default, default.wall.rows)
    return work / (3 * operations(masked, default.image_size) * pace)


def gpu_seconds(work: float, benchmarks: Path) -> float:
    """Seconds that operations of training take on a GPU, at the measured pace (benchmarks/gpu.csv).

    It was measured on steps of the paper's masked network at its full width, in bfloat16.
    """
    measured = pd.read_csv(benchmarks / "gpu.csv")
    rows = (measured["subject"] == "ours") & (measured["what"] == "images/s")
    pace = measured[rows & (measured["setting"] == "bfloat16")]["median"].iloc[0]
    paper = read(benchmarks.parent / "presets" / "imagenet.yaml")
    return work / (3 * operations(network(paper, paper.wall.rows), paper.image_size) * pace)


def map_seconds(benchmarks: Path) -> float:
    """Seconds that Table 1's eight maps of one image take on two cores.

    The network has the paper's width (benchmarks/cams.csv).
    """
    measured = pd.read_csv(benchmarks / "cams.csv")
    rows = (measured["geometry"] == "paper") & (measured["methods"] == "Table 1's eight")
    return float(measured[rows]["ours"].median())


def _outputs(model: classifier.Classifier, image_size: int) -> int:
    """Numbers that the layers before the head put out for one image at full height.

    Layers that work in place are not counted.
    """
    x, count = torch.empty(1, 3, image_size, image_size, device="meta"), 0
    with torch.no_grad():
        for layer in model.features:
            x = layer(x)
            count += 0 if isinstance(layer, nn.ReLU) else x.numel()
    return count
