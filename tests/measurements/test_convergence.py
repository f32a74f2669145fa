"""benchmarks/convergence.py: µ of networks while they train, and of Theorem 1's at initialisation."""

import numpy as np
import pytest
import torch
from conftest import make_tiny

from benchmarks import convergence
from walls.images.transforms import normalise
from walls.saliency.activity import activity, upscale
from walls.theory import formulas


def test_at_initialisation_the_expected_maps_activity_is_that_of_the_patch_norms():
    table = convergence.at_initialisation(3, 0)
    norms = formulas.patch_norms(formulas.load_image("digits"), 2)
    share = np.linalg.norm(norms[14:]) / np.linalg.norm(norms)
    assert table["expected"].tolist() == pytest.approx([100 * share] * len(convergence.FILTERS))
    assert table["filters"].tolist() == list(convergence.FILTERS) and (table["maps"] <= 3).all()


def test_the_watch_looks_at_powers_of_two_and_at_the_end():
    """Its µ is of the network as it stands, by GradCAM through autograd."""
    model = make_tiny().train()
    random = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (3, 3, 224, 224), dtype=torch.uint8, generator=random)
    watch = convergence.Watch(model, {"stack-mix": pictures}, ["GradCAM"], 5)
    for steps in range(6):
        watch(steps)
        assert model.training
    assert [row["steps"] for row in watch.rows] == [s for s in (0, 1, 2, 4, 5) for _ in range(3)]
    model.eval()
    b = model.features(normalise(pictures, torch.float32)).detach().requires_grad_()
    model.head(b).amax(1).sum().backward()
    maps = (b.grad.mean((2, 3), keepdim=True) * b.detach()).sum(1).relu()
    mu = 100 * activity(upscale(maps, 224), 54)
    for row, value in zip(watch.rows, mu.tolist() * 5, strict=True):
        assert row["mu"] == pytest.approx(value, abs=1e-3, nan_ok=True)
    table = convergence.summary(convergence.pd.DataFrame(watch.rows))
    assert table["mean"].iloc[0] == pytest.approx(np.nanmean(mu.numpy()))
