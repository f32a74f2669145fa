"""The authors' checkpoints, made up: their architecture, flat, and a pickle that runs code."""

import torch
from torch import nn
from torchvision.models import vgg16

CONFIG = {
    "width": 0.0625,
    "dense": 24,
    "classes": 5,
    "batch_norm": False,
    "wall_rows": 9,
    "image_size": 224,
    "dropout": 0.5,
}


def flat(width=0.0625, dense=24, classes=5, wall_rows=9, rows=14, seed=0):
    """Their network, built as they build it out of torchvision's, at any size; the wall is
    zeros.
    """
    torch.manual_seed(seed)
    with torch.device("meta"):  # torchvision's layers, not their 550 MB
        layers = list(vgg16(weights=None, init_weights=False).features)[:30]
    for index, old in enumerate(layers):
        if isinstance(old, nn.Conv2d):
            channels = [
                c if c == 3 else round(c * width) for c in (old.in_channels, old.out_channels)
            ]
            layers[index] = nn.Conv2d(*channels, 3, padding=1)
    layers[28] = nn.Conv2d(layers[28].in_channels, round(256 * width), 3, padding=1)
    channels = layers[28].out_channels
    dropped = [nn.ReLU(), nn.Dropout()]
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out")
    classifier = nn.Sequential(
        nn.Linear(channels * rows * rows, dense),
        *dropped,
        nn.Linear(dense, dense),
        *dropped,
        nn.Linear(dense, classes),
    )
    network = nn.Sequential(*layers, nn.Flatten(start_dim=1), classifier).eval()
    with torch.no_grad():
        classifier[0].weight.view(dense, channels, rows, rows)[:, :, rows - wall_rows :] = 0
    return network


class Code:
    """A pickle that would run something."""

    def __reduce__(self):
        return print, ("run!",)
