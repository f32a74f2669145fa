"""µ (Eq. 7): closed forms; its statistics against numpy."""

import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from walls.network.geometry import DeadZone
from walls.saliency import statistics
from walls.saliency.activity import activity, uniform_activity
from walls.saliency.statistics import summary


def test_a_uniform_map():
    assert activity(torch.full((1, 224, 224), 0.3), 54).item() == pytest.approx(
        math.sqrt(54 / 224), abs=1e-15
    )
    assert uniform_activity(54 / 224) == pytest.approx(0.49099, abs=1e-5)


def test_rows_count_from_the_bottom():
    maps = torch.zeros(3, 224, 224)
    maps[0, 169], maps[1, 170], maps[2, 223] = 1, 1, 1
    assert activity(maps, 54).tolist() == [0, 1, 1]


def test_a_hand_computed_value():
    maps = torch.tensor([[[4.0, 2.0], [1.0, 2.0]]])  # 5 of 25
    assert activity(maps, 1).item() == pytest.approx(math.sqrt(5 / 25), abs=1e-15)


@pytest.mark.parametrize("height, width", [(6, 3), (3, 6)])
def test_a_map_that_is_not_square(height, width):
    maps = torch.rand(2, height, width, dtype=torch.float64)
    for rows in range(height + 1):  # nothing, …, everything
        by_hand = [
            math.sqrt((one[height - rows :] ** 2).sum() / (one**2).sum()) for one in maps.numpy()
        ]
        assert activity(maps, rows).tolist() == pytest.approx(by_hand, abs=1e-15)
    with pytest.raises(ValueError, match=f"and {height + 1} dead rows"):
        activity(maps, height + 1)


def test_a_dead_zone_as_it_was_derived():
    """54 rows of 224, by number or as geometry gives them, below the edge or above it."""
    maps = torch.rand(2, 224, 224, dtype=torch.float64)
    below, above = (DeadZone((170, 5), (224, 14), side) for side in ("bottom", "top"))
    assert torch.equal(activity(maps, below), activity(maps, 54))
    assert torch.equal(activity(maps, above), activity(maps.flip(1), 54))
    with pytest.raises(ValueError, match=r"^activity: got maps of 223 rows; takes 224"):
        activity(maps[:, 1:], below)


@pytest.mark.parametrize("scale", [1e-200, 1e-30, 1e30, 1e200])
def test_scale_does_not_matter(scale):
    maps = torch.rand(4, 20, 20, dtype=torch.float64)
    torch.testing.assert_close(activity(maps * scale, 5), activity(maps, 5), rtol=1e-12, atol=0)


def test_an_empty_map_says_nothing():
    maps = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    values = activity(maps, 2)
    assert values[0].isnan() and values[1] == pytest.approx(0.5)


@pytest.mark.parametrize(
    "maps, rows",
    [
        (torch.ones(4, 4), 1),
        (torch.ones(1, 4, 4), 5),
        (torch.ones(1, 4, 4), -1),
        (torch.ones(1, 4, 4), 1.0),
        (torch.ones(1, 0, 4), 0),
        (torch.ones(1, 4, 4, dtype=torch.complex64), 1),
    ],
)
def test_maps_and_zones_that_are_none(maps, rows):
    with pytest.raises(ValueError) as error:
        activity(maps, rows)
    got = f"maps {tuple(maps.shape)} and {rows} dead rows"
    assert str(error.value) == f"activity: got {got}; takes (N, H, W), 0 to H"


@pytest.mark.parametrize("score", [-1, -0.5, math.nan, math.inf])
def test_scores_that_are_none(score):
    with pytest.raises(ValueError) as error:
        activity(torch.full((1, 4, 4), score), 1)
    assert str(error.value) == (
        "activity: got a map with negative, infinite or NaN scores; takes saliency after the ReLU"
    )


def test_summary_against_numpy():
    values = np.array([0.1, 0.2, math.nan, 0.6])
    cells = summary(values, values + 0.1)
    kept = np.array([10, 20, 60.0])
    assert cells["mean"] == pytest.approx(30) and cells["std"] == pytest.approx(kept.std(ddof=1))
    assert (cells["images"], cells["empty"]) == (4, 1) and cells["mean_raw"] == pytest.approx(40)
    assert 10 <= cells["ci_low"] < 30 < cells["ci_high"] <= 60


def test_the_interval_is_the_percentile_bootstraps():
    """10,000 resamples of the images that have a map, drawn from the seed: numpy's own, in one
    piece.
    """
    values = np.random.default_rng(9).uniform(0, 1, 40)
    raw = values**2
    kept, values = 100 * values, np.append(values, math.nan)
    for seed in (0, 7):
        means = kept[np.random.default_rng(seed).integers(0, 40, (10_000, 40))].mean(1)
        cells = summary(values, raw, seed)
        assert (cells["ci_low"], cells["ci_high"]) == pytest.approx(
            np.percentile(means, [2.5, 97.5]), abs=1e-12
        )
    assert summary(values, raw) == summary(values, raw, 0) != summary(values, raw, 1)


CELLS = ("mean", "std", "ci_low", "ci_high", "mean_raw", "images", "empty")
NAN = math.nan


@pytest.mark.parametrize(
    "values, cells",
    [
        ([], (NAN, NAN, NAN, NAN, NAN, 0, 0)),
        ([NAN, NAN], (NAN, NAN, NAN, NAN, NAN, 2, 2)),
        ([0.25], (25, NAN, 25, 25, 25, 1, 0)),
        ([0.25, 0.25], (25, 0, 25, 25, 25, 2, 0)),
        # Of two, a quarter of the resamples each are all of one: the interval goes from the one to
        # the other.
        ([0.25, 0.255], (25.25, 0.5 / math.sqrt(2), 25, 25.5, 25.25, 2, 0)),
    ],
)
def test_of_few_images_what_can_be_said(values, cells):
    values, expected = np.array(values, dtype=float), dict(zip(CELLS, cells, strict=True))
    with warnings.catch_warnings(action="error"):
        assert summary(values, values) == pytest.approx(expected, nan_ok=True)


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(120):
        sample = random.normal(0.3, 0.1, 100)
        cells = summary(sample, sample, seed=trial)
        hits += cells["ci_low"] <= 30 <= cells["ci_high"]
    assert 0.88 < hits / 120 <= 1.0


def test_images_of_one_class_count_as_one():
    """Ten classes of ten equal images say no more than ten images, one of each."""
    values = np.random.default_rng(0).uniform(0, 1, 10)
    many, classes = np.repeat(values, 10), np.repeat(np.arange(10), 10)
    few = summary(values, values, seed=1)
    whole = summary(many, many, seed=1, classes=classes)
    assert (whole["ci_low"], whole["ci_high"]) == pytest.approx((few["ci_low"], few["ci_high"]))
    narrow = summary(many, many, seed=1)
    assert narrow["ci_high"] - narrow["ci_low"] < 0.5 * (few["ci_high"] - few["ci_low"])
    long = pd.DataFrame({"dataset": "d", "method": "m", "mu": many, "mu_raw": many})
    table = statistics.tabulate(long.assign(**{"class": classes}), seed=1)
    assert table["ci_low"][0] == pytest.approx(whole["ci_low"])


@pytest.mark.parametrize(
    "networks, of_network, of_class, of_both, of_image",
    [(3, 3, 10, 3, 10), (3, 10, 3, 3, 10), (3, 5, 5, 0, 5), (2, 5, 5, 2, 5), (5, 5, 10, 5, 10)],
)
def test_networks_and_classes_are_both_drawn(networks, of_network, of_class, of_both, of_image):
    """Means of known variance on both levels, ten classes of five images: 95% intervals hold the
    true mean about as often; of classes alone, as for one network, they are far too narrow.
    """
    random, within, alone = np.random.default_rng(0), [], []
    network, image_class, _ = (axis.ravel() for axis in np.indices((networks, 10, 5)))
    for trial in range(300):
        values = (
            50
            + of_network * random.normal(size=(networks, 1, 1))
            + of_class * random.normal(size=(1, 10, 1))
            + of_both * random.normal(size=(networks, 10, 1))
            + of_image * random.normal(size=(networks, 10, 5))
        ).ravel()
        for found, whose in ((within, network), (alone, None)):
            low, high = statistics.interval(values, image_class, trial, 1000, whose)
            found.append(low <= 50 <= high)
    assert 0.9 < np.mean(within) < 0.99
    assert np.mean(alone) < np.mean(within) - 0.08


def test_several_networks_by_hand():
    """Every network counts alike, whatever the number of its images; both levels' variances."""
    values = np.array([0.1, 0.3, 0.2, 0.4, 0.6, 0.8, math.nan])
    networks, classes = np.array([0, 0, 0, 0, 1, 1, 1]), np.array([*"aabb", *"abb"])
    cells = summary(values, values / 2, 0, classes, networks)
    within = (np.var([10, 30, 20, 40], ddof=1) + np.var([60, 80], ddof=1)) / 2
    between = np.std([25, 70], ddof=1)
    assert cells["mean"] == pytest.approx(47.5) and cells["mean_raw"] == pytest.approx(23.75)
    assert cells["networks_std"] == pytest.approx(between)
    assert cells["std"] == pytest.approx(math.sqrt(within + between**2))
    assert [cells[key] for key in ("images", "empty", "classes", "networks", "maps")] == [
        4,
        1,
        2,
        2,
        7,
    ]
    one = networks == 0
    alone = summary(values[one], values[one] / 2, 0, classes[one])
    told = summary(values[one], values[one] / 2, 0, classes[one], networks[one])
    assert {key: told[key] for key in alone} == alone and math.isnan(told["networks_std"])
    long = pd.DataFrame({"dataset": "d", "method": "m", "mu": values, "mu_raw": values / 2})
    table = statistics.tabulate(long.assign(**{"class": classes}, network=networks))
    assert table.iloc[0, 2:].to_dict() == pytest.approx(cells)
    assert list(table.columns) == ["dataset", "method", *CELLS, *statistics.OVER_NETWORKS]


def test_networks_that_agree_add_nothing():
    values = np.random.default_rng(0).uniform(0, 1, 20)
    classes = np.repeat(np.arange(5), 4)
    one = statistics.interval(values, classes)
    twice = [np.tile(some, 2) for some in (values, classes)]
    assert statistics.interval(*twice, networks=np.repeat([0, 1], 20)) == pytest.approx(one)


def test_tabulate_keeps_datasets_and_methods_apart():
    """In the order met, with `summary`'s cells of each group, its seed's interval included."""
    values = np.random.default_rng(1).uniform(0, 1, 30)
    long = pd.DataFrame(
        {
            "dataset": [*"baa", *"b" * 29],
            "method": [*"xyx", *"x" * 29],
            "mu": [values[0], 0.1, 0.3, *values[1:]],
        }
    )
    long["mu_raw"] = long["mu"] ** 2
    table = statistics.tabulate(long, seed=3)
    assert list(table.columns) == ["dataset", "method", *CELLS]
    assert list(table["dataset"]) == ["b", "a", "a"]
    assert list(table["method"]) == ["x", "y", "x"]
    expected = summary(values, values**2, seed=3)
    assert expected["ci_low"] != summary(values, values**2)["ci_low"]
    assert table.iloc[0, 2:].to_dict() == pytest.approx(expected)
    pd.testing.assert_frame_equal(statistics.tabulate(long), statistics.tabulate(long, seed=0))
    assert table["mean"].tolist()[1:] == pytest.approx([10, 30])
    assert list(statistics.tabulate(long[:0]).columns) == list(table.columns)
