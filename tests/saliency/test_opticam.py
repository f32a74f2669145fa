"""Opti-CAM: Definition 6, where it differs from its authors' code, and how maps do as masks."""

import pytest
import torch
from conftest import make_tiny, noise
from torch import nn

from benchmarks.cams import Whole, plain_opticam
from walls.images import transforms
from walls.saliency import opticam
from walls.saliency.maps import saliency_maps


def score(model, images, features, weights, targets):
    maps = (weights[:, :, None, None] * features).sum(1, keepdim=True)
    mask = opticam._unit(nn.functional.interpolate(maps, images.shape[2:], mode="bilinear"))
    return model(images * mask).gather(1, targets[:, None])[:, 0]


def test_opticam_improves_on_its_start(tiny):
    images = noise(4)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)
        uniform = torch.full(features.shape[:2], 1 / features.shape[1])
        start = score(tiny, images, features, uniform, targets)
        # The weights that made the map: least squares, since the map is linear in them.
        maps = opticam.optimise(tiny, images, features, targets, 25, 0.1)
        channels = features.flatten(2).transpose(1, 2)
        weights = torch.linalg.lstsq(channels, maps.flatten(1)[:, :, None]).solution[:, :, 0]
        end = score(tiny, images, features, weights, targets)
    assert (end > start + 1e-3).all()


def test_opticam_starts_at_the_mean_feature_map(tiny):
    images = noise(2)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)
    after_a_short_step = opticam.optimise(tiny, images, features, targets, 1, 1e-9)
    torch.testing.assert_close(after_a_short_step, features.mean(1))


def test_opticam_keeps_the_best_weights_it_met(tiny):
    """A step far too long leaves the good start for a worse corner: the start must come back."""
    images = noise(2)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)

    def model(x):  # best where nothing is masked
        return -(x - images).square().sum((1, 2, 3))[:, None].repeat(1, 5)

    def masked(maps):
        up = nn.functional.interpolate(maps[:, None], (224, 224), mode="bilinear")
        return model(images * opticam._unit(up))[:, 0]

    start = masked(features.mean(1))
    best = masked(opticam.optimise(model, images, features, targets, 3, 1e4))
    assert (best >= start - 1e-6 * start.abs()).all()  # but for a rounding


def test_opticam_on_an_empty_feature_map_is_finite(tiny):
    images = noise(1)
    empty = opticam.optimise(tiny, images, torch.zeros(1, 16, 14, 14), torch.tensor([0]), 2, 0.1)
    assert (empty == 0).all()


@pytest.mark.slow
def test_opticam_is_definition_6_as_its_authors_do_it_where_nothing_stops():
    """The plain loop's map after T steps is ours, where the score rises all the way.

    It masks pixels and normalises them; ours masks what is normalised.
    """
    model, images = make_tiny().double(), noise(4).double()
    options = {"Opti-CAM": {"steps": 4, "lr": 1e-3}}
    ours = saliency_maps(model, images, ["Opti-CAM"], options=options)["Opti-CAM"]
    whole = Whole(model)
    expected = torch.cat([plain_opticam(whole, x, 4, 1e-3) for x in images.split(1)])
    assert (expected - model.features(images).mean(1)).abs().max() > 1e-6  # it moved
    torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-12)
    whole.normalised = None  # the normalised images themselves are masked
    options["Opti-CAM"]["hidden"] = "mean"
    other = saliency_maps(model, images, ["Opti-CAM"], options=options)["Opti-CAM"]
    expected = torch.cat([plain_opticam(whole, x, 4, 1e-3) for x in images.split(1)])
    torch.testing.assert_close(other, expected, rtol=1e-10, atol=1e-12)
    assert (other - ours).abs().max() > 1e-6


@pytest.mark.bulk
def test_opticam_stops_image_by_image():
    """The authors' loop stops by the batch's sum, so a map depends on its batch-mates; ours
    doesn't.
    """
    model, images = make_tiny(), noise(4)
    rates = {"steps": 20, "lr": 2.0}
    together = plain_opticam(Whole(model), images, **rates)
    alone = torch.cat([plain_opticam(Whole(model), x, **rates) for x in images.split(1)])
    assert not torch.allclose(together, alone, rtol=1e-2)
    model, images = model.double(), images.double()
    together = opticam.optimise(model, images, *start(model, images), **rates)
    alone = torch.cat(
        [opticam.optimise(model, x, *start(model, x), **rates) for x in images.split(1)]
    )
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-6)


def test_opticams_authors_divide_by_zero_and_we_do_not(tiny):
    with torch.no_grad():
        tiny.features[-2].bias[:] = -1e3
        tiny.features[-2].bias[0] = 1.0
        tiny.features[-2].weight[0] = 0.0  # one channel, constant everywhere
    images = noise(1)
    options = {"Opti-CAM": {"steps": 2}}
    maps = saliency_maps(tiny, images, ["Opti-CAM"], options=options)["Opti-CAM"]
    assert torch.isfinite(maps).all()
    network = Whole(tiny)
    combined = tiny.features(images).mean(1, keepdim=True)
    assert torch.isnan((combined - combined.amin()) / (combined.amax() - combined.amin())).all()
    assert torch.isfinite(plain_opticam(network, images, 2, 0.1)).logical_not().any()


def start(model, images):
    with torch.no_grad():
        return model.features(images), model(images).argmax(1)


class Bright(torch.nn.Module):
    """Two classes; the logit of class 1 is the image's sum over its left half."""

    def forward(self, images):
        score = images[:, :, :, : images.shape[3] // 2].sum((1, 2, 3))
        return torch.stack([torch.zeros_like(score), score], 1)


def test_the_average_drop_hides_by_black(tiny):
    """A mask of 0 shows a black pixel, which is -mean / std in the network's images."""
    images, maps = noise(2), torch.zeros(2, 14, 14)  # a constant map hides all
    targets = tiny(images).argmax(1)
    mean, std = torch.tensor(transforms.MEAN), torch.tensor(transforms.STD)
    for hidden, seen in (("black", -mean / std), ("mean", torch.zeros(3))):
        empty = seen[:, None, None].expand(2, 3, 224, 224)
        p, o = (
            tiny(x).softmax(1)[torch.arange(2), targets].double().detach() for x in (images, empty)
        )
        found = opticam.average_drop(tiny, images, maps, targets, hidden)
        expected = 100 * float(((p - o).clamp_min(0) / p).mean())
        assert found["average_drop"] == pytest.approx(expected, abs=1e-4), hidden


def test_average_drop_and_increase_by_hand():
    images = torch.zeros(2, 1, 2, 4)
    images[0, 0, 0, 0], images[1, 0, 0, 0] = 1.0, -1.0
    maps = torch.zeros(2, 2, 4)
    maps[:, :, 1:] = 1.0  # hides the one pixel that counts
    found = opticam.average_drop(Bright(), images, maps, torch.tensor([1, 1]))
    p, o = torch.tensor([1.0, -1.0], dtype=torch.float64).sigmoid(), 0.5
    assert found["average_drop"] == pytest.approx(
        100 * float((p[0] - o) / p[0]) / 2, rel=1e-6
    )  # the second rises: no drop
    assert found["average_increase"] == pytest.approx(50)
