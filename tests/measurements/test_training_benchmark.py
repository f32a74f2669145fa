"""benchmarks.training: what is compared is the same mathematics."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from conftest import ROOT

from walls.images import transforms
from walls.network import architecture
from walls.training import loop
from walls.training.settings import Train

NETWORK = {"width": 0.0625, "dense": 16, "batch_norm": False, "dropout": 0.0}


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import training as module

    return module


def test_the_plain_loop_and_ours_take_the_same_steps(benchmark):
    """From the same weights, three steps: the same losses, and the mask keeps hidden weights at
    zero.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (4, 3, 128, 128), dtype=torch.uint8, generator=random)
    labels, flips = torch.tensor([0, 1, 2, 3]), torch.tensor([True, False, True, False])
    settings = benchmark.SETTINGS | {"lr": 0.1, "batch_size": 4, "precision": "float32"}
    plain = benchmark.Plain(torch.device("cpu"), "float32", 7, 128, settings, **NETWORK)
    ours = architecture.seeded(0, classes=benchmark.CLASSES, wall_rows=7, image_size=128, **NETWORK)
    first, *others = [layer for layer in plain.model[2:] if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        full = first.weight.reshape(len(first.weight), -1, 8, 8)
        assert not full[:, :, 1:].any() and full[:, :, :1].all()
        ours.head[0].weight.copy_(full[:, :, :1])
        ours.head[0].bias.copy_(first.bias)
        for mine, theirs in zip([ours.head[3], ours.head[6]], others, strict=True):
            mine.load_state_dict(theirs.state_dict())
    step = loop.Step(ours, Train(**settings), 3, Accelerator(cpu=True, mixed_precision="no"))
    ready = torch.stack(
        [image.flip(2) if flip else image for image, flip in zip(images, flips, strict=True)]
    )
    losses = [
        (
            float(step(iter([(images, labels, flips)]))),
            float(plain.step(transforms.normalise(ready), labels)),
        )
        for _ in range(3)
    ]
    np.testing.assert_allclose(*zip(*losses, strict=True), rtol=1e-5)
    assert losses[2][0] != losses[0][0]
    assert not plain.weight.reshape(16, -1, 8, 8)[:, :, 1:].any()


def test_quartiles_and_turns(benchmark):
    assert benchmark.quartiles(np.array([4.0, 1.0, 2.0, 3.0, 5.0])) == "3.0 [2.0, 4.0]"
    done: list[str] = []
    turns = benchmark.in_turns(
        [lambda: done.append("a"), lambda: done.append("b")], torch.device("cpu"), 0
    )
    assert turns.shape == (5, 2) and done == ["a", "b"] * 7 and (turns >= 0).all()
