"""What a map is worth as an order of pixels and as a mask, by hand and by torch-cam."""

import numpy as np
import pytest
import torch
import torchcam.metrics
from torch import nn
from torchvision.transforms.functional import gaussian_blur

from walls.network.behind import behind
from walls.saliency.maps import saliency_maps
from walls.saliency.opticam import average_drop
from walls.sanity import masking

SEEN = 6  # of eight rows


def bright(images, targets):
    """The mean of the first channel's seen rows, as a probability."""
    return images[:, 0, :SEEN].double().mean((1, 2))


def ends(probability, before, after, targets):
    return probability(before, targets), probability(after, targets)


def areas(places, steps, **options):
    """Insertion into black, deletion to black, of a white image (1, 8, 5)."""
    white, black, target = torch.ones(1, 1, 8, 5), torch.zeros(1, 1, 8, 5), torch.tensor([0])
    found = []
    for pair in ((black, white), (white, black)):
        both = ends(bright, *pair, target)
        curves = masking.curve(bright, *pair, places, target, both, steps, **options)
        found.append(float(masking.area(curves)))
    return found


@pytest.mark.parametrize("skip", [False, True])
def test_areas_by_hand(skip):
    """Seen pixels first: the probability falls to 0 over ¾ of the pixels, so deletion is ⅜."""
    seen_first = torch.arange(40).view(1, 8, 5)
    hidden_first = seen_first.flip(1)
    options = {"seen": lambda places: places[:, :, :SEEN]} if skip else {}
    assert areas(seen_first, 40, **options) == pytest.approx([1 - 3 / 8, 3 / 8])
    # Hidden ones first: it stays 1 over ¼ of the pixels, and then falls.
    assert areas(hidden_first, 40, **options) == pytest.approx([3 / 8, 1 / 4 + 3 / 8])
    assert areas(seen_first, 4, **options) == pytest.approx([1 - 3 / 8, 3 / 8])
    # Half at a time: 1, ⅓, 0 by trapezoids.
    assert areas(seen_first, 2, **options)[1] == pytest.approx((1 / 2 + 1 / 3) / 2)


def test_what_the_network_cant_see_costs_no_pass():
    calls = []

    def counted(images, targets):
        calls.append(len(images))
        return bright(images, targets)

    white, black, target = torch.ones(1, 1, 8, 5), torch.zeros(1, 1, 8, 5), torch.tensor([0])
    places = torch.arange(40).view(1, 8, 5)
    both = ends(bright, white, black, target)
    own = {"steps": 8, "seen": lambda one: one[:, :, :SEEN]}
    curve = masking.curve(counted, white, black, places, target, both, **own)
    assert sum(calls) == 5  # of eight steps: the sixth already turns the last seen row
    assert curve[0].tolist() == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0, 0, 0])


def test_ranks():
    maps = torch.tensor([[[0.0, 3.0], [1.0, 2.0]]])
    assert masking.ranks(maps, (2, 2)).tolist() == [[[3, 0], [2, 1]]]
    uniform = masking.ranks(torch.ones(2, 2, 2), (8, 8), seed=1)
    assert all(sorted(one.flatten().tolist()) == list(range(64)) for one in uniform)
    assert not torch.equal(uniform[0], uniform[1])
    assert torch.equal(uniform, masking.ranks(torch.ones(2, 2, 2), (8, 8), seed=1))
    # Equal scores aren't in the order of rows: half of the first 32 lie in the upper half.
    upper = (uniform[:, :4] < 32).float().mean()
    assert 0.3 < upper < 0.7
    zero = masking.ranks(torch.tensor([[[1.0, 1.0], [0.0, 0.0]]]), (8, 8))
    assert (zero[0, :2] < 16).all() and (zero[0, 6:] >= 48).all()


class Given:
    """A map as torch-cam's metrics take an extractor's."""

    def __init__(self, model, maps):
        self.model, self.maps = model, maps

    def __call__(self, class_idx=None, scores=None, normalized=True, **kwargs):
        return [self.maps]

    def fuse_cams(self, cams):
        return cams[0]

    def _hooks_off(self):
        return torch.no_grad()


def small():
    torch.manual_seed(4)
    layers = [nn.Conv2d(3, 6, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6, 3)).eval()


def test_as_torch_cams_own_metric():
    """Its areas insert into what deletion ends with: black."""
    network, maps = small(), torch.rand(3, 16, 16)  # no two scores alike
    network[4].weight.data *= 30
    images, black = torch.rand(3, 3, 16, 16), torch.zeros(3, 3, 16, 16)
    metric = torchcam.metrics.DeletionInsertionMetric(
        Given(network, maps), lambda logits: logits.softmax(-1), steps=8
    )
    metric.update(images)
    with torch.no_grad():
        targets = network(images).argmax(1)

        def probability(some, of):
            return network(some).softmax(1).gather(1, of[:, None])[:, 0]

        places = masking.ranks(maps, (16, 16))
        found = []
        for pair in ((images, black), (black, images)):
            both = ends(probability, *pair, targets)
            curves = masking.curve(probability, *pair, places, targets, both, 8)
            found.append(float(masking.area(curves).mean()))
    theirs = metric.summary()
    assert found == pytest.approx([theirs["deletion_auc"], theirs["insertion_auc"]], abs=1e-6)
    assert abs(found[0] - found[1]) > 1e-3


def test_the_table_of_a_small_network():
    """µ, the areas and the drops of every map, the latter by the one function that has them."""
    model = behind(small(), layer="1", image_rows=32)
    images = torch.randn(3, 3, 32, 16, generator=torch.Generator().manual_seed(0))
    found = masking.measured(model, images, [5, 6, 6], ["GradCAM", "GradCAM (seen cells)"])
    names = ["GradCAM", "GradCAM (seen cells)", masking.UNIFORM, masking.UNIFORM_SEEN]
    assert list(found["method"].unique()) == names and list(found["class"][:3]) == [5, 6, 6]
    of = {name: part.set_index("image") for name, part in found.groupby("method")}
    assert (of["GradCAM (seen cells)"]["mu"].fillna(0) == 0).all()
    assert (of[masking.UNIFORM_SEEN]["mu"] == 0).all()
    zone = model.zone()
    uniform = np.sqrt(zone.measured_rows / zone.image_rows)
    assert of[masking.UNIFORM]["mu"].to_numpy() == pytest.approx(uniform)
    assert of[masking.UNIFORM][["average_drop", "average_increase"]].isna().all().all()
    with torch.no_grad():
        targets = model(images).argmax(1)
    cells = torch.zeros(3, 8, 4)
    cells[:, :4] = 1
    whole = average_drop(model, images, cells, targets)
    own = of[masking.UNIFORM_SEEN][["average_drop", "average_increase"]].mean()
    assert own.to_dict() == pytest.approx(whole)
    # Both areas by a loop over the plain network, which gets the upper half alone.
    raw = saliency_maps(model, images, ["GradCAM"], targets)["GradCAM"]
    places, upper = masking.ranks(raw, (32, 16))[:, None, :16], images[:, :, :16]
    dim, grey = gaussian_blur(upper, 11, [5.0, 5.0]), torch.zeros_like(upper)
    for measure, before, after in (("insertion", dim, upper), ("deletion", upper, grey)):
        points = []
        for step in range(masking.STEPS + 1):
            mixed = torch.where(places < round(512 * step / masking.STEPS), after, before)
            with torch.no_grad():
                points.append(small()(mixed).double().softmax(1)[range(3), targets])
        inner = torch.stack(points[1:-1]).sum(0)
        expected = (inner + (points[0] + points[-1]) / 2) / masking.STEPS
        np.testing.assert_allclose(of["GradCAM"][measure], expected, rtol=1e-6)
    # Whatever is hidden, the areas of a map that is 0 there are the same.
    changed = images.clone()
    changed[:, :, 16:] = torch.randn(3, 3, 16, 16)
    again = masking.measured(model, changed, [5, 6, 6], ["GradCAM", "GradCAM (seen cells)"])
    again = again[again["method"] == "GradCAM (seen cells)"].set_index("image")
    for measure in ("insertion", "deletion", "average_drop"):
        np.testing.assert_allclose(again[measure], of["GradCAM (seen cells)"][measure], rtol=1e-6)
    table = masking.wide(found)
    assert table.loc[masking.UNIFORM, "average drop % ↓"] == "—"
    mean, low, high = masking.difference(found, "deletion", "GradCAM (seen cells)", "GradCAM")
    apart = of["GradCAM (seen cells)"]["deletion"] - of["GradCAM"]["deletion"]
    assert mean == pytest.approx(apart.mean()) and low <= mean <= high


def test_a_pause_halfway_keeps_the_value_reached():
    """Three seen rows, the two hidden ones, then the other three: ½ in between."""
    order = torch.tensor([0, 1, 2, 5, 6, 7, 3, 4])  # a row's turn
    places = (order[:, None] * 5 + torch.arange(5))[None]
    white, black, target = torch.ones(1, 1, 8, 5), torch.zeros(1, 1, 8, 5), torch.tensor([0])
    both = ends(bright, white, black, target)
    own = {"steps": 8, "seen": lambda one: one[:, :, :SEEN]}
    found = masking.curve(bright, white, black, places, target, both, **own)
    assert found[0].tolist() == pytest.approx(
        [1, 5 / 6, 4 / 6, 1 / 2, 1 / 2, 1 / 2, 2 / 6, 1 / 6, 0]
    )
