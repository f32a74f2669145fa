"""Small networks for `walls.behind`, and how it refuses one."""

import pytest
import torch
from torch import nn

from walls.network.behind import behind
from walls.network.classifier import Classifier, WallLinear


class Plain(nn.Module):
    """A network with a residual by-pass, a map of 1/4 the size.

    Global pooling and a linear head.
    """

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        count = x.shape[0]
        x = self.stem(x)
        x = x + self.inner(x)
        return self.fc(self.block(x).mean((2, 3)).view(count, -1))


class Dynamic(Plain):
    """One whose forward depends on the image's values: it can't be traced."""

    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


def seeded(kind=Plain, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def refused(*args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        behind(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def small(classes: int = 4, seed: int = 0) -> Classifier:
    """A network behind a wall of its own, of 32 × 32 pixels, whose layers work in place."""
    torch.manual_seed(seed)
    features = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1),
        nn.ReLU(inplace=True),
    )
    head = nn.Sequential(WallLinear(16, 16, 16, 32, wall_rows=9), nn.ReLU(), nn.Linear(32, classes))
    return Classifier(features, head, 9).eval()
