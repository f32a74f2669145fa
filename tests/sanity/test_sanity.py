"""The standard check: its controls, its rule, and what it says of maps that are known."""

import json

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from torch import nn

from walls.network.behind import behind
from walls.network.geometry import DeadZone
from walls.saliency import controls
from walls.saliency.controls import ANOTHER, GREY, NOISE, SAME
from walls.saliency.statistics import interval
from walls.sanity import plots, report
from walls.sanity.check import check

STACKED, WITHIN = DeadZone((8, 2), (16, 4)), DeadZone((6, 3), (8, 4))


def pictures(count, rows=8):
    """Images (N, 3, rows, rows) whose pixels are all the image's number, plus the column's."""
    numbers = torch.arange(1.0, count + 1)[:, None, None, None]
    return numbers + torch.arange(rows) / 100 + torch.zeros(count, 3, rows, rows)


def test_partners_are_the_next_ones():
    alike, unlike = controls.partners([0, 1, 0, 0, 2])
    assert alike == [2, None, 3, 0, None] and unlike == [1, 2, 4, 4, 0]


def test_what_lies_below():
    images = pictures(3)
    found = controls.below(images, [0, 0, 1], seed=3)
    assert torch.equal(found[SAME][:2], images[[1, 0]])
    assert torch.equal(found[SAME][2], images[2].flip(2))  # alone in its class: mirrored
    assert torch.equal(found[ANOTHER], images[[2, 2, 0]]) and not found[GREY].any()
    again = controls.below(images[:2].repeat(2, 1, 1, 1), [0, 1, 0, 1], seed=3)[NOISE]
    assert torch.equal(found[NOISE][:2], again[:2]) and not torch.equal(again[0], again[2])
    with pytest.raises(ValueError, match="labels: got one class"):
        controls.below(images, [4, 4, 4])


def test_two_parts_are_put_together():
    upper, lower = pictures(2), -pictures(2)
    stacked = controls.put_together(upper, lower, STACKED)
    assert torch.equal(stacked[:, :, :8], upper) and torch.equal(stacked[:, :, 8:], lower)
    within = controls.put_together(upper, lower, WITHIN)
    assert torch.equal(within[:, :, :6], upper[:, :, :6])
    assert torch.equal(within[:, :, 6:], lower[:, :, 6:])
    top = DeadZone((6, 3), (8, 4), "top")
    within = controls.put_together(upper, lower, top)
    assert torch.equal(within[:, :, 2:], upper[:, :, 2:])
    assert torch.equal(within[:, :, :2], lower[:, :, :2])
    stacked = controls.put_together(upper, lower, DeadZone((8, 2), (16, 4), "top"))
    assert torch.equal(stacked[:, :, 8:], upper) and torch.equal(stacked[:, :, :8], lower)
    with pytest.raises(ValueError, match="images: got 7 rows; takes 16, or half of them"):
        controls.put_together(pictures(1, 7), pictures(1, 7), STACKED)


class Small(nn.Module):
    """A network with global pooling: two convolutions, a mean, a linear layer."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(
            nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()
        )
        self.head = nn.Linear(8, 4)

    def forward(self, images):
        return self.head(self.body(images).mean((2, 3)))


@pytest.fixture(scope="module")
def looked_at():
    """A check of our own methods and of three maps that are known, on a small network."""
    images = torch.randn(6, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    methods = {
        "GradCAM": None,
        "HiResCAM": None,
        "everywhere": lambda network, images, targets: torch.ones(len(images), 64, 32),
        "below": lambda network, images, targets: (
            (torch.arange(16) >= 8)[None, :, None].expand(len(images), 16, 8).float()
        ),
        "negative": lambda network, images, targets: -torch.ones(len(images), 64, 32),
    }
    labels = [0, 1, 2, 0, 1, 2]
    return check(Small().eval(), methods, images, labels, layer="body", progress=False)


def test_known_maps_have_their_activity(looked_at):
    table = looked_at.table
    assert len(table) == 5 * 4 * 6 and looked_at.certificate.holds
    mu = table.groupby("method")["mu"]
    # Half of the image is hidden, but for the rows that upscaling mixes with seen ones.
    hidden = looked_at.zone.measured_rows / 64
    assert 0.4 < hidden <= 0.5
    assert mu.mean()["everywhere"] == pytest.approx(hidden**0.5) == looked_at.uniform
    assert mu.min()["below"] > 0.95 and (mu.max()["HiResCAM"], mu.count()["negative"]) == (0, 0)


def test_their_verdicts(looked_at):
    found = looked_at.verdicts()
    assert found["HiResCAM"] == found["negative"] == report.BLIND
    assert found["everywhere"] == found["below"] == report.ALWAYS
    assert looked_at.require("HiResCAM") is looked_at
    with pytest.raises(report.SeesThroughWalls, match="everywhere: lights up whatever lies there"):
        looked_at.require("everywhere")
    with pytest.raises(ValueError, match="method: got Mine; takes GradCAM, HiResCAM"):
        looked_at.verdict("Mine")


def test_the_same_upper_part_has_the_same_prediction(looked_at):
    assert (looked_at.table.groupby("image")["predicted"].nunique() == 1).all()


def test_the_picture_that_says_it(looked_at):
    """A photograph above its class and above another, each with the map and its own µ."""
    figure = plots.headline(looked_at, "GradCAM", image=1)
    titles = [ax.get_title() for ax in figure.axes]
    table = looked_at.table.set_index(["method", "control", "image"])["mu"]
    values = [100 * table["GradCAM", control, 1] for control in (SAME, ANOTHER)]
    assert titles[::2] == ["same class below", "another class below"]
    assert titles[1::2] == [f"GradCAM: µ×100 {value:.1f}" for value in values]
    same, another = (figure.axes[i].images[0].get_array() for i in (0, 2))
    assert np.array_equal(same[:32], another[:32]) and not np.array_equal(same[32:], another[32:])
    # The seen part is shown alike above whatever is hidden, noise too.
    shown = [plots._picture(looked_at, control, 1) for control in (SAME, ANOTHER, NOISE, GREY)]
    assert all(np.array_equal(picture[:32], same[:32]) for picture in shown)
    plt.close(figure)


@pytest.mark.slow
def test_its_files(looked_at, tmp_path):
    page = looked_at.save(tmp_path / "out", "Small")
    assert page.read_text().count("data:image/png;base64,") == 1 + 3
    said = json.loads((tmp_path / "out" / "report.json").read_text())
    assert said["verdicts"] == looked_at.verdicts() and said["certificate"]["holds"] is True
    table = pd.read_csv(tmp_path / "out" / "report.csv")
    assert np.allclose(table["mu"], looked_at.table["mu"], atol=1e-6, equal_nan=True)


def made_up(same, another, grey):
    """A report on one method, of ten classes, with these µ, a little apart from image to image."""
    apart = np.linspace(-0.01, 0.01, 10)
    values = {SAME: same, ANOTHER: another, GREY: grey}
    parts = [
        pd.DataFrame(
            {"image": range(10), "class": range(10), "predicted": 0, "method": "Mine",
             "control": control, "mu": np.clip(mu + apart, 0, 1), "mu_raw": mu}
        )
        for control, mu in values.items()
    ]  # fmt: skip
    return report.Report(pd.concat(parts), None, STACKED, ["Mine"], list(values), {}, {})


def test_its_scope():
    """Three images of one class, two of another, five alone; half a cell of two below the seen 8."""
    made = made_up(0.6, 0.1, 0.0)
    made.table["class"] = made.table["image"].map(dict(enumerate([0, 0, 0, 1, 1, 2, 3, 4, 5, 6])))
    assert made.scope() == (
        "10 images of 7 classes; 5 are alone of their class and stand above themselves, mirrored. "
        # The norm of 6 of 16 equal rows.
        f"µ is of rows 10 to 15; a map that is the same everywhere has µ×100 = {100 * (6 / 16) ** 0.5:.1f}."
    )


@pytest.mark.parametrize(
    "same, another, grey, verdict",
    [
        (0.6, 0.1, 0.0, report.OBJECT),
        (0.3, 0.3, 0.0, report.CONTENT),
        (0.6, 0.1, 0.3, report.ALWAYS),
        (0.02, 0.02, 0.02, report.UNSETTLED),
    ],
)
def test_the_rule(same, another, grey, verdict):
    assert made_up(same, another, grey).verdict("Mine") == verdict


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"sign": "square"}, "sign: got 'square'; takes relu, abs"),
        ({"controls": ["snow"]}, "controls: got 'snow'; takes same class"),
        ({"methods": ["GradCam"]}, "methods: got GradCam; takes GradCAM"),
        ({"methods": {"Mine": 3}}, "methods: got 3 for Mine; takes a callable"),
        (
            {"methods": {"Mine": lambda *_: torch.ones(1)}},
            r"Mine: got maps \(1,\); takes \(2, h, w\) or \(2, H, W\)",
        ),
        (
            {"methods": {"Mine": lambda *_: torch.full((2, 4, 4), torch.nan)}},
            "Mine: got scores that are not finite",
        ),
    ],
)
def test_what_is_refused(changes, message):
    arguments = {"methods": ["GradCAM"], "layer": "body", "labels": [0, 1], "progress": False}
    with pytest.raises(ValueError, match=message):
        arguments |= changes
        check(Small().eval(), arguments.pop("methods"), torch.randn(2, 3, 32, 32), **arguments)


def test_a_network_with_its_own_wall():
    """[VGG] behind a wall of 9: within one image, as in the paper."""
    images = torch.randn(2, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = check(make_tiny(), ["GradCAM", "HiResCAM"], images, [0, 1], progress=False)
    assert found.zone.dead_rows == found.zone.measured_rows == 54
    assert found.verdict("HiResCAM") == report.BLIND


def test_the_head_that_reads_one_row_more_is_not_certified():
    model = behind(Small().eval(), layer="body", image_rows=64)
    model.head.rows = (model.head.rows[0] + 1, model.head.rows[1])
    images = torch.randn(4, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    with pytest.raises(ValueError, match="not certified"):
        check(model, ["GradCAM"], images, [0, 1, 2, 3], progress=False)


@pytest.mark.parametrize("side", ["bottom", "top"])
def test_the_hidden_part_lies_where_the_wall_is(side):
    """Of maps that show the image itself, µ by hand; the prediction is that of the seen image."""
    random = torch.Generator().manual_seed(1)
    images, labels = torch.randn(4, 3, 32, 32, generator=random), [0, 1, 0, 1]
    network = Small().eval()
    model = behind(network, layer="body", image_rows=64, side=side)
    own = {"picture": lambda network, stacks, targets: stacks.abs().sum(1)}
    found = check(model, own, images, labels, progress=False)
    assert found.zone.side == side
    with torch.no_grad():
        assert found.table["predicted"].tolist() == 4 * network(images).argmax(1).tolist()
    hidden = controls.below(images, labels)[SAME].abs().sum(1).square()
    leaks = found.zone.dead_rows - found.zone.measured_rows  # rows next to the seam
    counted = hidden[:, leaks:] if side == "bottom" else hidden[:, : 32 - leaks]
    whole = images.abs().sum(1).square().sum((1, 2)) + hidden.sum((1, 2))
    mu = found.table.loc[found.table["control"] == SAME, "mu"].to_numpy()
    np.testing.assert_allclose(mu, (counted.sum((1, 2)) / whole).sqrt().numpy(), rtol=1e-6)


def test_classes_that_nobody_tells():
    """The predicted ones; where that is one for all images, each image is of a class of its own."""
    random = torch.Generator().manual_seed(1)
    colours = 5 * torch.randn(6, 3, 1, 1, generator=random)
    images = torch.randn(6, 3, 32, 32, generator=random) + colours
    network = Small().eval()
    found = check(network, ["SumCAM"], images, layer="body", progress=False).table
    assert found["predicted"].nunique() > 1 and (found["class"] == found["predicted"]).all()
    with torch.no_grad():
        network.head.bias[1] += 1000
    found = check(network, ["SumCAM"], images, layer="body", progress=False).table
    assert set(found["predicted"]) == {1} and set(found["class"]) == set(range(6))
    with pytest.raises(ValueError, match="labels: got 5 for 6 images; takes one each"):
        check(network, ["SumCAM"], images, [0, 1, 0, 1, 0], layer="body", progress=False)


@pytest.mark.bulk
def test_the_interval_covers_what_it_says():
    """Simulated: 30 classes of 1 to 6 images, whose means differ more than a class's images do."""
    random, covered = np.random.default_rng(0), 0
    for trial in range(300):
        sizes = random.integers(1, 7, 30)
        classes = np.repeat(np.arange(30), sizes)
        values = random.normal(size=30)[classes] + 0.3 * random.normal(size=len(classes))
        low, high = interval(values, classes, seed=trial, resamples=1000)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.98


def test_the_interval_by_hand():
    assert interval(np.array([1.0, 3.0, np.nan]), np.array([0, 0, 1])) == (2.0, 2.0)
    assert interval(np.array([2.0, 2.0]), np.array([0, 1])) == (2.0, 2.0)
    assert np.isnan(interval(np.array([np.nan]), np.array([0]))).all()
    low, high = interval(np.array([0.0, 10.0]), np.array([0, 1]))  # only 0, 5 and 10 can come
    assert (low, high) == (0.0, 10.0)
