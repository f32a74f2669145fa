"""GradCAM over all classes of a network with a global-pooling head."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from walls.network import zoo
from walls.sanity.classes import HIDDEN, SEEN, over_classes
from walls.sources.packaged import photographs


@pytest.fixture(scope="module")
def named():
    return zoo.get("efficientnet-lite0")


@pytest.fixture(scope="module")
def halves(named):
    """Ten photographs above ten others."""
    images, _, _ = photographs("packaged", named.recipe)
    return images[:10], images[10:]


def tiny(head: nn.Module) -> nn.Module:
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 5, 3, 8, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), head]
    return nn.Sequential(*layers).eval()


def test_every_class_by_a_loop():
    """A network of four classes: each class's map by backward through the cut, then their means."""
    network = tiny(nn.Linear(5, 4))
    upper, lower = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = over_classes(network, upper, lower)
    assert (found.wall, found.classes, found.mean.shape) == (4, 4, (2, 8, 4))
    weight = network[4].weight.detach()
    every, norms = [], []
    assert found.tau == pytest.approx(float(weight.square().mean().sqrt()), rel=1e-5)
    for image in range(2):
        b = torch.cat([network[:2](one[image : image + 1]) for one in (upper, lower)], dim=2)
        maps = []
        for one in range(4):
            leaf = b.detach().requires_grad_()
            network[2:](leaf[:, :, :4])[0, one].backward()
            maps.append((leaf.grad.mean((2, 3), keepdim=True) * b.detach()).sum(1)[0])
        maps = torch.stack(maps)
        np.testing.assert_allclose(found.mean[image], maps.relu().mean(0), rtol=1e-4, atol=1e-9)
        np.testing.assert_allclose(found.positive[image], (maps > 0).float().mean(0), rtol=1e-6)
        expected = found.tau * b[0].detach().norm(dim=0) / 32 / math.sqrt(2 * math.pi)
        np.testing.assert_allclose(found.expected[image], expected, rtol=1e-4)
        every.append(maps)
        norms.append(b[0].detach().norm(dim=0))
        ours, theirs = (values[image] for values in found.activity())
        assert ours == pytest.approx(
            float(maps.relu().mean(0)[4:].norm() / maps.relu().mean(0).norm()), rel=1e-4
        )
        assert theirs == pytest.approx(float(expected[4:].norm() / expected.norm()), rel=1e-4)
    every, norms = torch.stack(every), torch.stack(norms)  # (2, 4, 8, 4), (2, 8, 4)
    for number, rows in enumerate((slice(0, 4), slice(4, 8))):
        lit = norms[:, rows] > 0  # elsewhere every class has 0
        part = every[:, :, rows].permute(1, 0, 2, 3)[:, lit]
        positive = (part > 0).float().mean(1)
        np.testing.assert_allclose(found.class_positive[number], positive, rtol=1e-6)
        square = (part / (norms[:, rows][lit] * found.tau / 32)).square().mean(1)
        np.testing.assert_allclose(found.class_square[number], square, rtol=1e-4)


@pytest.mark.bulk
def test_the_trained_classifier_is_close_to_random_ones(named, halves):
    """1.04 ± 0.06 in a first measurement, of seen and hidden positions alike."""
    found = over_classes(named.network, *halves)
    table = found.table()
    assert found.classes == 1000 and found.mean.shape == (10, 14, 7)
    for part in (SEEN, HIDDEN):
        assert table.loc[part, "ratio"] == pytest.approx(1.04, abs=0.06)
        assert table.loc[part, "ratio sd"] < 0.1
        assert 0.4 < table.loc[part, "positive"] < 0.5
        assert table.loc[part, "square"] == pytest.approx(1.3, abs=0.1)  # random: 1
        assert table.loc[part, "positions"] == 490
    ours, theirs = found.activity()
    assert np.abs(ours - theirs).max() < 0.05 and theirs.min() > 0.3


def test_classes_drawn_anew_give_the_theorem():
    """4,000 random classes on a small network's features: ratio 1, P = ½, mean square 1."""
    network = tiny(nn.Linear(5, 4000))
    upper, lower = torch.rand(2, 2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = over_classes(network, upper, lower, drawn=1)
    assert found.tau == over_classes(network, upper, lower).tau
    ratio = found.ratio()
    np.testing.assert_allclose(ratio[np.isfinite(ratio)], 1, atol=0.1)  # 4 standard errors of 2.3%
    table = found.table()
    for part in (SEEN, HIDDEN):
        assert table.loc[part, "positive"] == pytest.approx(0.5, abs=0.03)
        assert table.loc[part, "square"] == pytest.approx(1, abs=0.1)
    other = over_classes(network, upper, lower, drawn=2)
    assert not np.array_equal(found.mean, other.mean)


@pytest.mark.bulk
def test_random_classes_of_the_same_network_give_the_theorem(named, halves):
    """The classifier drawn anew: ratio 1, half of the scores positive, mean square as expected."""
    network = zoo.get("efficientnet-lite0").network
    generator = torch.Generator().manual_seed(0)
    nn.init.normal_(network.classifier.weight, std=0.1, generator=generator)
    found = over_classes(network, halves[0][:2], halves[1][:2])
    table = found.table()
    for part in (SEEN, HIDDEN):
        assert table.loc[part, "ratio"] == pytest.approx(1, abs=0.03)
        assert table.loc[part, "positive"] == pytest.approx(0.5, abs=0.02)
    assert np.nanmean(found.square) == pytest.approx(1, abs=0.05)


def test_other_heads_and_shapes_are_refused():
    """Also on images in whose features no unit of the head is at its kink."""
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    deep = nn.Sequential(nn.Linear(5, 6), nn.ReLU(), nn.Linear(6, 4))
    with pytest.raises(ValueError, match=r"^network: its head isn't global average pooling and"):
        over_classes(tiny(deep), images, images.flip(0))
    with pytest.raises(ValueError, match=r"^lower: got shape \(1, 3, 32, 32\) below \(2, 3, 32"):
        over_classes(tiny(nn.Linear(5, 4)), images, images[:1])
