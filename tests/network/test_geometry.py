"""The dead zone: the paper's numbers, and any backbone against autograd."""

import itertools
import warnings

import pytest
import torch
from conftest import make_tiny
from torch import nn

from walls.network import geometry


def test_the_papers_dead_zone():
    zone = make_tiny(batch_norm=False).zone(224)
    assert (zone.seen_rows, zone.dead_rows, zone.map_rows, zone.wall_rows) == (170, 54, 14, 9)
    assert round(100 * zone.dead_share) == 24
    assert zone.rows[:6] == (170, 169, 169, 168, 168, 84) and zone.rows[-1] == 5


@pytest.mark.parametrize("wall_rows", range(6, 14))
def test_heights_of_the_wall(wall_rows):
    assert make_tiny(wall_rows=wall_rows).zone(224).dead_rows == 134 - 16 * (14 - wall_rows)


def test_a_baseline_sees_everything():
    assert make_tiny(wall_rows=0).zone(224).dead_rows == 0


@pytest.mark.parametrize(
    "wall_rows, size, why, takes",
    [
        (1, 224, "leaves no dead zone", "from 6 to 13 rows"),
        (5, 224, "leaves no dead zone", "from 6 to 13 rows"),
        (14, 224, "hides all 14 rows of the features", "from 6 to 13 rows"),
        (15, 224, "hides all 14 rows of the features", "from 6 to 13 rows"),
        (-1, 224, "is not a height", "from 6 to 13 rows"),
        (2, 64, "leaves no dead zone", "a larger image: here no height leaves a dead zone"),
    ],
)
def test_useless_heights_name_those_that_work(wall_rows, size, why, takes):
    with pytest.raises(ValueError) as error:
        geometry.dead_zone(make_tiny(wall_rows=9).features, size, wall_rows)
    if why == "leaves no dead zone":
        why += ": every image row still reaches a logit"
    said = f"wall.rows: got {wall_rows}, which {why}; takes {takes} at image_size {size}"
    assert str(error.value) == said


@pytest.mark.parametrize("wall_rows", [3, 4])
def test_the_rows_that_a_message_counts(wall_rows):
    """Of the last layer and of the image, where the first and the last layer change the height."""
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2))  # 8, 6, 6, 3 rows
    told = rf"got {wall_rows}, which hides all 3 rows .* from 1 to 2 rows at image_size 8$"
    with pytest.raises(ValueError, match=told):
        geometry.dead_zone(features, 8, wall_rows)


def windows():
    for kernel, stride, padding, dilation in itertools.product(
        (1, 2, 3, 5), (1, 2, 3), (0, 1, 2), (1, 2)
    ):
        if padding <= kernel // 2:
            yield kernel, stride, padding, dilation


@pytest.mark.parametrize("second", list(windows())[::3], ids=str)
@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate"])
def test_any_backbone_against_autograd(second, mode):
    kernel, stride, padding, dilation = second
    features = nn.Sequential(
        nn.Conv2d(1, 1, 3, padding=1, padding_mode=mode),
        nn.Sequential(nn.AvgPool2d(2, ceil_mode=True), nn.Identity()),
        nn.Conv2d(1, 1, (kernel, 1), (stride, 1), (padding, 0), (dilation, 1), padding_mode=mode),
    ).double()
    agrees_with_autograd(features, 25)


@pytest.mark.parametrize("kernel, dilation", itertools.product((1, 2, 3, 4, 5, 8), (1, 2)))
@pytest.mark.parametrize("padding", ["same", "valid"])
def test_a_padding_by_name_against_autograd(kernel, dilation, padding):
    features = nn.Sequential(
        nn.Conv2d(1, 1, (kernel, 1), 1, padding, (dilation, 1)), nn.Conv2d(1, 1, 3, padding=1)
    ).double()
    # torch copies its input where an even kernel takes more padding below
    with warnings.catch_warnings(action="ignore"):
        agrees_with_autograd(features, 25)


def agrees_with_autograd(features, rows):
    """Every wall's dead zone is where the gradient of what it leaves is zero; a wall without one is
    refused.
    """
    for parameter in features.parameters():
        nn.init.ones_(parameter)  # positive weights: every dependence shows in the gradient
    image = torch.zeros(1, 1, rows, 8, dtype=torch.float64, requires_grad=True)
    maps = features(image)
    for wall_rows in range(1, maps.shape[2]):
        (gradient,) = torch.autograd.grad(
            maps[:, :, : maps.shape[2] - wall_rows].sum(), image, retain_graph=True
        )
        seen = int(gradient.abs().sum((0, 1, 3)).nonzero().max()) + 1
        if seen < rows:
            assert geometry.dead_zone(features, rows, wall_rows).seen_rows == seen
        else:
            with pytest.raises(ValueError, match=f"got {wall_rows}, "):
                geometry.dead_zone(features, rows, wall_rows)


def test_the_smallest_image_leaves_one_row():
    features = make_tiny(wall_rows=0).features
    assert geometry.dead_zone(features, 16, 0).map_rows == 1
    takes = "takes an image that the backbone's poolings leave a row of"
    with pytest.raises(ValueError, match=f"image_size: got 15; {takes}"):
        geometry.dead_zone(features, 15, 0)


@pytest.mark.parametrize("kernel, stride, padding, dilation", windows())
@pytest.mark.parametrize("ceil_mode", [False, True])
def test_pooled_heights_are_torchs(kernel, stride, padding, dilation, ceil_mode):
    pools = [nn.MaxPool2d(kernel, stride, padding, dilation, ceil_mode=ceil_mode)]
    if dilation == 1:
        pools.append(nn.AvgPool2d(kernel, stride, padding, ceil_mode=ceil_mode))
    for pool, rows in itertools.product(pools, range(9, 16)):
        zone = geometry.dead_zone(nn.Sequential(pool), rows, 0)
        assert zone.map_rows == pool(torch.zeros(1, 1, rows, rows)).shape[2]


@pytest.mark.parametrize(
    "size, wall_rows, message",
    [
        (224.0, 9, "image_size: got 224.0; takes a whole number, 1 or more"),
        (224, "9", "wall.rows: got '9'; takes a whole number, 0 or more"),
    ],
)
def test_what_is_no_number_of_rows(size, wall_rows, message):
    with pytest.raises(ValueError) as error:
        geometry.dead_zone(make_tiny(wall_rows=9).features, size, wall_rows)
    assert str(error.value) == message


@pytest.mark.parametrize(
    "layer",
    [
        nn.GroupNorm(1, 4),
        nn.LayerNorm(8),
        nn.InstanceNorm2d(4),
        nn.AdaptiveAvgPool2d(7),
        nn.Linear(4, 4),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        nn.ConvTranspose2d(4, 4, 2),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_layers_that_mix_rows_are_refused(layer):
    with pytest.raises(ValueError, match="mixes"):
        geometry.dead_zone(nn.Sequential(nn.Conv2d(4, 4, 3), layer), 64, 4)


@pytest.mark.parametrize(
    "layer, message",
    [
        (
            nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
            "Conv2d with circular padding mixes the top and bottom rows; a dead zone takes other "
            "paddings",
        ),
        (
            nn.GroupNorm(1, 4),
            "GroupNorm mixes rows, or isn't known not to; a dead zone takes convolutions, max and "
            "average poolings, batch norm and element-wise activations",
        ),
    ],
)
def test_what_a_refused_layer_is_told(layer, message):
    with pytest.raises(ValueError) as error:
        geometry.dead_zone(nn.Sequential(layer), 64, 4)
    assert str(error.value) == message


def test_a_sequential_with_a_forward_of_its_own_is_refused():
    class Residual(nn.Sequential):
        def forward(self, x):
            return x + x.mean((2, 3), keepdim=True)

    with pytest.raises(ValueError, match="Residual mixes"):
        geometry.dead_zone(nn.Sequential(nn.Conv2d(3, 4, 3), Residual(nn.ReLU())), 64, 4)


@pytest.mark.parametrize("wall_rows, size", [(9, 224), (6, 224), (13, 224), (9, 208)])
def test_hirescams_zero_row_against_bilinear_upscaling(wall_rows, size):
    zone = geometry.dead_zone(make_tiny().features, size, wall_rows)
    maps = torch.ones(1, 1, zone.map_rows, zone.map_rows)
    maps[:, :, zone.map_rows - zone.wall_rows :] = 0
    up = nn.functional.interpolate(maps, (size, size), mode="bilinear")[0, 0]
    assert geometry.hires_zero_row(zone) == int((up > 0).any(1).nonzero().max()) + 1


def test_the_facts_of_the_papers_wall():
    """HiResCAM's zeros: 89:224 (1-based), 61% of the image, as the paper remarks."""
    facts = geometry.facts(make_tiny().zone(224))
    assert facts == {
        "image_rows": 224,
        "map_rows": 14,
        "wall_rows": 9,
        "seen_rows": 170,
        "dead_rows": 54,
        "dead_share": 54 / 224,
        "hirescam_zero_rows": 224 - 88,
    }
    assert round(100 * 136 / 224) == 61
    baseline = geometry.facts(make_tiny(wall_rows=0).zone(224))
    assert baseline["dead_rows"] == baseline["dead_share"] == baseline["hirescam_zero_rows"] == 0


def test_layers_in_a_word():
    layers = nn.Sequential(
        nn.Conv2d(1, 1, 1),
        nn.Sequential(nn.BatchNorm2d(1), nn.ReLU()),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
    )
    assert geometry.kinds(layers) == ["conv", "norm", "relu", "pool", "pool"]


def test_every_wall_that_leaves_a_dead_zone():
    features = make_tiny(wall_rows=0).features
    assert geometry.every_wall(features, 224) == [6, 7, 8, 9, 10, 11, 12, 13]
    assert geometry.every_wall(features, 128) == [6, 7]
    assert geometry.every_wall(nn.Sequential(nn.Conv2d(3, 4, 3, padding=1)), 5) == [2, 3, 4]
    assert geometry.every_wall(nn.Sequential(nn.ReLU(), nn.MaxPool2d(2)), 6) == [1, 2]
    smaller = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU())  # six rows of features
    assert geometry.every_wall(smaller, 8) == [1, 2, 3, 4, 5]
    # Reads rows 0, 2, 4, 6 of 8; a height of 0 is still no wall.
    strided = nn.Sequential(nn.Conv2d(3, 4, 1, stride=2))
    assert geometry.every_wall(strided, 8) == [1, 2, 3]
    with pytest.raises(ValueError, match="GroupNorm mixes"):
        geometry.every_wall(nn.Sequential(nn.GroupNorm(1, 3)), 224)
