"""Batch norm folded for scoring: the same logits, the network itself left as it was."""

import pytest
import torch
from torch import nn

from walls.network import architecture
from walls.network.classifier import Classifier
from walls.network.folding import folded
from walls.saliency.maps import saliency_maps

IMAGES = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(1))


def model(batch_norm=True):
    """A small [VGG] whose batch norms have statistics, factors and shifts of their own."""
    made = architecture.seeded(
        0, width=0.0625, dense=32, classes=5, batch_norm=batch_norm, wall_rows=9
    )
    random = torch.Generator().manual_seed(2)
    for layer in made.modules():
        if isinstance(layer, nn.BatchNorm2d):
            for tensor in (layer.weight, layer.bias, layer.running_mean, layer.running_var):
                tensor.data = 0.5 + torch.rand(tensor.shape, generator=random)
    return made.eval()


def norms(network):
    return [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_the_same_logits_in_float64():
    """Of the whole network and of the rows that the head sees, without a batch norm left."""
    network = model().double()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    own = folded(network)
    images = IMAGES.double()
    with torch.no_grad():
        assert len(norms(network)) == 13 and norms(own) == []
        torch.testing.assert_close(own(images), network(images), rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(own.scores([images]), network(images), rtol=1e-12, atol=1e-12)
    assert own.head is network.head and own.zone(224).dead_rows == 54
    assert all(torch.equal(network.state_dict()[name], t) for name, t in before.items())


def test_scorecam_gains_it_and_hooks_see_nothing_else():
    """ScoreCAM's map is that of the network whose batch norms stand; theirs don't run once more."""
    network = model().double()
    calls = []
    (map_,) = saliency_maps(network, IMAGES[:1].double(), ["ScoreCAM"])["ScoreCAM"]
    handle = norms(network)[0].register_forward_hook(lambda *_: calls.append(1))
    (hooked,) = saliency_maps(network, IMAGES[:1].double(), ["ScoreCAM"])["ScoreCAM"]
    handle.remove()
    assert len(calls) > 2  # the first norm stays where its hook is
    torch.testing.assert_close(map_, hooked, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("case", ["no batch norm", "training", "no statistics", "another class"])
def test_what_stays_itself(case):
    network = model(batch_norm=case != "no batch norm")
    if case == "training":
        network.train()
    elif case == "no statistics":
        for layer in norms(network):
            layer.running_mean = layer.running_var = None
    elif case == "another class":

        class Own(Classifier):
            pass

        network = Own(network.features, network.head, network.wall_rows).eval()
    assert folded(network) is network


def test_a_norm_that_follows_no_convolution():
    """Before one, or after a ReLU, it is no part of a convolution."""
    features = nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(4)
    )
    network = Classifier(features, nn.Sequential(nn.Flatten(), nn.Linear(256, 3)), 0).eval()
    assert folded(network) is network
