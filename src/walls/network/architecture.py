"""The paper's [VGG], masked or baseline."""

from numbers import Integral

import torch
from torch import nn

from walls.base.normalisation import MEAN, STD
from walls.network import geometry
from walls.network.classifier import Classifier, WallLinear

# VGG16's convolutions; "M" is a 2×2 max-pooling. The paper drops the last pooling and narrows the
# last convolution to 256 channels ("256×14×14").
VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 256)


def vgg(
    width: float,
    dense: int,
    classes: int,
    batch_norm: bool,
    wall_rows: int,
    *,
    image_size: int = 224,
    dropout: float = 0.5,
) -> Classifier:
    """The paper's [VGG]: VGG16 without its last max-pooling, behind a wall.

    It has `width` times VGG16's channels.

    `width` 1 and `dense` 4096 are the paper's; `wall_rows` 9 its masked model, 0 its baseline.
    Convolutions start as torchvision's VGG (He, fan out); dense layers as torch's default. Raises
    ValueError for a size that is none, and where the wall leaves no dead zone, naming the heights
    that do.
    """
    for name, value, least in (
        ("dense", dense, 1),
        ("classes", classes, 1),
        ("wall_rows", wall_rows, 0),
    ):
        if not isinstance(value, Integral) or value < least:
            raise ValueError(f"{name}: got {value!r}; takes a whole number, {least} or more")
    if not 0 < width <= 64:
        raise ValueError(f"width: got {width!r}; takes a number above 0 and up to 64 (1 is VGG16)")
    if not 0 <= dropout <= 1:
        raise ValueError(f"dropout: got {dropout!r}; takes a number from 0 to 1")
    layers: list[nn.Module] = []
    channels = 3
    for entry in VGG16:
        if isinstance(entry, str):  # "M"
            layers.append(nn.MaxPool2d(2))
            continue
        out = max(1, round(entry * width))
        conv = nn.Conv2d(channels, out, 3, padding=1)
        nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        nn.init.zeros_(conv.bias)
        layers += [conv, nn.BatchNorm2d(out)] if batch_norm else [conv]
        # In place, as torchvision's: a quarter of the time goes into its copies.
        layers.append(nn.ReLU(inplace=True))
        channels = out
    features = nn.Sequential(*layers)
    rows = geometry.dead_zone(features, image_size, wall_rows).map_rows
    head = nn.Sequential(
        WallLinear(channels, rows, rows, dense, wall_rows),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(dense, dense),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Linear(dense, classes),
    )
    config = {
        "architecture": "vgg",
        "width": width,
        "dense": dense,
        "classes": classes,
        "batch_norm": batch_norm,
        "wall_rows": wall_rows,
        "image_size": image_size,
        "dropout": dropout,
    }
    return Classifier(features, head, wall_rows, config, normalised=(MEAN, STD))


def seeded(seed: int, **kwargs) -> Classifier:
    """`vgg(**kwargs)` with weights drawn from `seed`; torch's global generator stays as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return vgg(**kwargs)
