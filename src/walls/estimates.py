"""What a preset needs, estimated from its operations and from what was measured once (benchmarks/)."""

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from walls import models, params

# A class's images where data.train_images and data.val_images are null; of ImageNet, a thousandth of all.
IMAGES = {"imagenet": (1281.167, 50), "tiny-imagenet": (500, 50)}
GPU = 100e12  # operations a second: what we assume a data-centre GPU sustains in 16 bits; not measured
PYTHON, ENVIRONMENT = 1e9, 7e9  # bytes: a process that has loaded torch; .venv
PICTURE = 50e3  # bytes of an image of 224 × 224, as PNG


@dataclass(frozen=True)
class Needs:
    """Of both trainings together: images times epochs, operations; and bytes of memory and of disk."""

    passes: int
    operations: float
    memory: float
    disk: float


def read(file: Path) -> params.Params:
    """A preset's parameters, whether or not the folders it names are there."""
    from dvc.utils.serialize import parse_yaml

    return params.Params.model_validate(parse_yaml(file.read_text(encoding="utf-8"), file))


def needs(preset: params.Params) -> Needs:
    """What training a preset's two networks takes; nothing is computed but shapes.

    Operations: forward and, twice as many, backward, a multiply-add counting 2. Memory: every layer's output of a batch
    (rectified in place), the weights, their gradient and momentum. Disk: the images, unless they stay where they lie;
    the weights three times (an output, DVC's cache, a checkpoint with its momentum); .venv.
    """
    train, val = preset.data.train_images, preset.data.val_images
    if preset.data.name in IMAGES:
        every, held_out = (round(count * preset.data.classes) for count in IMAGES[preset.data.name])
        train, val = train or every, val or held_out
    passes = 0 if preset.model.checkpoint else (train or 0) * preset.train.epochs
    networks = [network(preset, rows) for rows in (preset.wall.rows, 0)]
    work = sum(3 * passes * operations(model, preset.image_size) for model in networks)
    weights = [sum(p.numel() for p in model.parameters()) for model in networks]
    outputs = max(_outputs(model, preset.image_size) for model in networks)
    bytes_each = 4 if preset.train.precision == "float32" else 2
    batch = preset.train.batch_size / preset.train.accumulate if passes else preset.cams.batch_size
    copied = preset.data.name in ("critters", "tiny-imagenet")
    pictures = 2 * PICTURE * ((train or 0) + (val or 0)) * (preset.image_size / 224) ** 2 if copied else 0
    memory = PYTHON + 12 * max(weights) + batch * outputs * bytes_each
    return Needs(2 * passes, work, memory, ENVIRONMENT + 16 * sum(weights) + pictures)


def network(preset: params.Params, wall_rows: int) -> models.Classifier:
    """A preset's network, without memory for its weights."""
    with torch.device("meta"):
        return models.vgg(preset.model.width, preset.model.dense, preset.data.classes, preset.model.batch_norm, wall_rows,
                          image_size=preset.image_size, dropout=preset.model.dropout).eval()  # fmt: skip


def operations(model: models.Classifier, image_size: int) -> int:
    """Operations of one image's forward pass, of the rows that the head can see."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(torch.empty(1, 3, image_size, image_size, device="meta"))
    return counter.get_total_flops()


def cores_seconds(work: float, benchmarks: Path) -> float:
    """Seconds that operations of training take on two cores, at the pace of the default's (benchmarks/training.md)."""
    measured = re.search(r"loader and step together *\| *([\d.]+)", (benchmarks / "training.md").read_text(encoding="utf-8"))
    default = read(benchmarks.parent / "presets" / "critters.yaml")
    masked = network(default, default.wall.rows)
    return work / (3 * operations(masked, default.image_size) * float(measured[1]))


def map_seconds(benchmarks: Path) -> float:
    """Seconds that Table 1's eight maps of one image take on two cores at the paper's width (benchmarks/cams.md)."""
    row = re.search(r"\| paper \| Table 1's eight \|(?:[^|]*\|){2} *([\d.]+)", (benchmarks / "cams.md").read_text())
    return float(row[1])


def _outputs(model: models.Classifier, image_size: int) -> int:
    """Numbers that the layers before the head put out for one image at full height, those in place not counted."""
    x, count = torch.empty(1, 3, image_size, image_size, device="meta"), 0
    with torch.no_grad():
        for layer in model.features:
            x = layer(x)
            count += 0 if isinstance(layer, nn.ReLU) else x.numel()
    return count
