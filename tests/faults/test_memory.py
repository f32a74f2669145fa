"""Out of memory in an evaluation: half the batch, said once; the maps are the same."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT, environment
from torch import nn

from walls.network.classifier import Classifier, WallLinear
from walls.saliency import comparisons, evaluation
from walls.saliency.maps import saliency_maps
from walls.saliency.settings import Cams

METHODS = ["GradCAM", "ScoreCAM", "Opti-CAM", "AblationCAM", "HiResCAM"]
ERRORS = [
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8 GiB"
    ),
    RuntimeError(
        "[enforce fail at alloc_cpu.cpp:121] err == 0. DefaultCPUAllocator: can't allocate memory: "
        "you tried to allocate 1 bytes. Error code 12 (Cannot allocate memory)"
    ),
    MemoryError(),
]


def network(channels=8):
    """A network for images of 24 rows."""
    torch.manual_seed(0)
    features = nn.Sequential(
        nn.Conv2d(3, channels, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(channels, 8, 3, padding=1),
        nn.ReLU(),
    )
    head = nn.Sequential(WallLinear(8, 12, 12, 16, 8), nn.ReLU(), nn.Linear(16, 4))
    return Classifier(features, head, 8).eval()


def pictures(n):
    random = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (n, 3, 24, 24), generator=random, dtype=torch.uint8)


def settings(**changes):
    usual = {
        "methods": METHODS,
        "batch_size": 8,
        "precision": "float64",
        "opticam_steps": 2,
        "opticam_lr": 0.1,
    }
    return Cams(**usual | changes)


def evaluated(n):
    """The table and the maps of n pictures."""
    model = network()
    return evaluation.evaluate(model, pictures(n), settings(), model.zone(24))


def short_of_memory(monkeypatch, error, most):
    """A machine that holds `most` images at once; how many were asked of it."""
    asked, real = [], saliency_maps

    def maps(*arguments, batch_size, **options):
        asked.append(batch_size)
        if batch_size > most:
            raise error
        return real(*arguments, batch_size=batch_size, **options)

    for module in (comparisons, evaluation):
        monkeypatch.setattr(module, "saliency_maps", maps)
    return asked


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.slow
def test_half_the_batch_gives_the_same_table(monkeypatch, capsys, error):
    table, maps = evaluated(10)
    asked = short_of_memory(monkeypatch, error, most=2)
    capsys.readouterr()
    again, parts = evaluated(10)
    lines = capsys.readouterr().err.splitlines()
    said = [line.split("\r")[-1] for line in lines if "out of memory" in line]
    assert asked == [8, 4, 2, 2]  # images 1 to 8 in three tries, then 9 and 10
    assert said == [
        "out of memory with 8 images at once: goes on with 4 (cams.batch_size)",
        "out of memory with 4 images at once: goes on with 2 (cams.batch_size)",
    ]
    assert len(table) == 50 and table["mu"].max() > 0.1
    assert again.drop(columns=["mu", "mu_raw"]).equals(table.drop(columns=["mu", "mu_raw"]))
    for column in ("mu", "mu_raw"):
        np.testing.assert_allclose(again[column], table[column], rtol=0, atol=1e-9)
    for method in METHODS:
        torch.testing.assert_close(parts[method], maps[method], rtol=1e-9, atol=1e-12)


def test_a_single_image_that_does_not_fit_is_said(monkeypatch):
    asked = short_of_memory(monkeypatch, MemoryError(), most=0)
    with pytest.raises(ValueError, match=r"^out of memory with a single image at a time; takes "):
        evaluated(3)
    assert asked == [8, 4, 2, 1]


def test_another_error_is_raised_as_it_is(monkeypatch):
    asked = short_of_memory(monkeypatch, RuntimeError("a fault of ours"), most=0)
    with pytest.raises(RuntimeError, match="a fault of ours"):
        evaluated(3)
    assert asked == [8]


def test_tuning_opticam_halves_too(monkeypatch):
    monkeypatch.setattr(comparisons, "TUNED_LR", (0.1,))
    monkeypatch.setattr(comparisons, "TUNED_STEPS", (2,))
    table = comparisons.tune(network(), pictures(4), settings(), network().zone(24))
    asked = short_of_memory(monkeypatch, MemoryError(), most=4)
    again = comparisons.tune(network(), pictures(4), settings(), network().zone(24))
    assert asked == [8, 4] and np.allclose(table, again, rtol=0, atol=1e-9)


LIMITED = """
import resource
import sys

sys.path[:0] = ["tests", "tests/faults"]
from test_memory import network, pictures, settings
from walls.saliency import evaluation

model, images = network(channels=512), pictures(512)
zone, wanted = model.zone(24), settings(methods=["HiResCAM"], batch_size=512)
evaluation.evaluate(model, images[:1], wanted, zone)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 900 * 2**20,) * 2)
table, _ = evaluation.evaluate(model, images, wanted, zone)
print(len(table), table["mu"].max())
"""


@pytest.mark.long
@pytest.mark.skipif(sys.platform != "linux", reason="limits a process's memory as Linux does")
def test_a_process_whose_memory_is_limited_goes_on_with_less():
    """512 images' first activations alone are 512 × 512 × 24 × 24 × 8 B = 1.2 GB; there are 0.9."""
    done = subprocess.run(
        [sys.executable, "-c", LIMITED],
        cwd=ROOT,
        env=environment(ROOT) | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert "out of memory with 512 images" in done.stderr, done.stderr[-2000:]
    assert done.stdout.split() == ["512", "0.0"], done.stderr[-2000:]
