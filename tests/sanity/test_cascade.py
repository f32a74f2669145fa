"""The sanity check by randomised parts: what is drawn anew when, and how alike two maps are."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from walls.network import zoo
from walls.network.behind import behind
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps
from walls.sanity import cascade


class Network(nn.Module):
    """Two convolutions, one in a container with its batch norm, a pooled linear head."""

    def __init__(self, seed):
        super().__init__()
        torch.manual_seed(seed)
        self.stem = nn.Conv2d(3, 6, 3, 4, 1)
        self.norm = nn.BatchNorm2d(6)
        self.blocks = nn.Sequential(nn.Conv2d(6, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.classifier = nn.Linear(8, 4)

    def forward(self, images):
        features = self.blocks(self.norm(self.stem(images)).relu())
        return self.classifier(self.pool(features).flatten(1))


def halves():
    return torch.randn(2, 3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_parts_from_the_top():
    expected = [["classifier"], ["blocks.0", "blocks.1"], ["stem", "norm"]]
    assert cascade.parts(Network(0)) == expected
    blocks = [[f"blocks.{number}"] for number in range(6, -1, -1)]
    names = [["classifier"], ["conv_head", "bn2"], *blocks, ["conv_stem", "bn1"]]
    assert cascade.parts(zoo.get("efficientnet-lite0@none").network) == names


def test_every_step_by_hand():
    """µ of every step is that of a network put together from both, behind a wall of its own."""
    network, fresh = Network(0).eval(), Network(5).eval()
    before = copy.deepcopy(network.state_dict())
    upper, lower = halves()
    table = cascade.cascade(network, [fresh], upper, lower, ["GradCAM", "HiResCAM"])
    assert all(torch.equal(before[key], value) for key, value in network.state_dict().items())
    assert list(table["part"].unique()) == ["trained", "classifier", "blocks.0", "stem"]
    sizes = np.array([36, 456, 180])  # weights and biases of each part
    shares = table.drop_duplicates("step")["share"]
    np.testing.assert_allclose(shares, [0, *np.cumsum(sizes) / sizes.sum()])
    mixed = copy.deepcopy(network)
    targets = network(upper).argmax(1)
    for step, names in enumerate([[], ["classifier"], ["blocks.0", "blocks.1"], ["stem", "norm"]]):
        for name in names:
            mixed.get_submodule(name).load_state_dict(fresh.get_submodule(name).state_dict())
        model = behind(mixed, layer="blocks", image_rows=64)
        maps = saliency_maps(model, torch.cat([upper, lower], 2), ["GradCAM"], targets)["GradCAM"]
        own = table[(table["step"] == step) & (table["method"] == "GradCAM")]
        mu = activity(upscale(maps, (64, 32)), model.zone())
        np.testing.assert_allclose(own["mu"], mu, rtol=1e-6)
        if step == 0:
            np.testing.assert_allclose(own[["rank", "rank_seen", "ssim"]], 1)
        else:
            assert (own["rank"] < 0.999).any()
    # HiResCAM is 0 below the wall, or an empty map.
    assert table.loc[table["method"] == "HiResCAM", "mu"].fillna(0).max() == 0


def test_rank_correlation_by_hand():
    """(1, 2, 3, 4) against (1, 2, 4, 3): ρ = 1 - 6·2 / (4·15) = 0.8; a constant map has none."""
    one = torch.tensor([[[1.0, 2], [3, 4]]])
    assert cascade.rank_correlation(one, torch.tensor([[[10.0, 20], [40, 30]]])) == (
        pytest.approx([0.8])
    )
    assert cascade.rank_correlation(one, -one) == pytest.approx([-1])
    assert np.isnan(cascade.rank_correlation(one, torch.ones(1, 2, 2)))


def test_ssim_by_hand():
    """A map against itself, against its negative, and against itself, brighter."""
    draw = torch.rand(2, 49, 49, generator=torch.Generator().manual_seed(0)).double()
    assert torch.allclose(cascade.ssim(draw, draw), torch.ones(2).double())
    mean, var = draw.mean((1, 2)), draw.var((1, 2), correction=0)
    c1, c2 = 1e-4, 9e-4
    negative = (2 * mean * (1 - mean) + c1) / (mean**2 + (1 - mean) ** 2 + c1)
    expected = negative * (c2 - 2 * var) / (c2 + 2 * var)
    torch.testing.assert_close(cascade.ssim(draw, 1 - draw), expected)
    half = draw / 2
    expected = (2 * mean * (mean / 2) + c1) / (1.25 * mean**2 + c1)
    expected = expected * (var + c2) / (1.25 * var + c2)
    torch.testing.assert_close(cascade.ssim(draw, half), expected)
    assert torch.isnan(cascade.ssim(draw, torch.zeros_like(draw))).all()


def test_a_map_that_ignores_the_classifier_fails_the_sanity_check():
    """EigenCAM reads no weight of the classifier: equal at its step. GradCAM isn't."""
    upper, lower = halves()
    networks = Network(0).eval(), [Network(seed).eval() for seed in (5, 6)]
    found = cascade.summary(cascade.cascade(*networks, upper, lower, ["EigenCAM", "GradCAM"]))
    first = found.xs("classifier", level="part").droplevel(["step", "share"])
    assert first.loc["EigenCAM", "rank"] == pytest.approx(1)
    assert first.loc["GradCAM", "rank"] < 0.9
    assert (first["maps"] == 6).all() and (first["empty"] <= 6).all()
