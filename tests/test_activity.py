"""µ (Eq. 7): closed forms; its statistics against numpy."""

import math

import numpy as np
import pandas as pd
import pytest
import torch

from walls import activity
from walls.activity import activity as mu
from walls.activity import summary, uniform_activity


def test_a_uniform_map():
    assert mu(torch.full((1, 224, 224), 0.3), 54).item() == pytest.approx(math.sqrt(54 / 224), abs=1e-15)
    assert uniform_activity(54 / 224) == pytest.approx(0.49099, abs=1e-5)


def test_rows_count_from_the_bottom():
    maps = torch.zeros(3, 224, 224)
    maps[0, 169], maps[1, 170], maps[2, 223] = 1, 1, 1
    assert mu(maps, 54).tolist() == [0, 1, 1]


def test_a_hand_computed_value():
    maps = torch.tensor([[[4.0, 2.0], [1.0, 2.0]]])  # 5 of 25
    assert mu(maps, 1).item() == pytest.approx(math.sqrt(5 / 25), abs=1e-15)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_scale_does_not_matter(scale):
    maps = torch.rand(4, 20, 20)
    torch.testing.assert_close(mu(maps * scale, 5), mu(maps, 5), rtol=1e-6, atol=0)


def test_an_empty_map_says_nothing():
    maps = torch.stack([torch.zeros(8, 8), torch.ones(8, 8)])
    values = mu(maps, 2)
    assert values[0].isnan() and values[1] == pytest.approx(0.5)


@pytest.mark.parametrize("maps, rows", [(torch.ones(4, 4), 1), (torch.ones(1, 4, 4), 5), (-torch.ones(1, 4, 4), 1),
                                        (torch.full((1, 4, 4), math.nan), 1)])  # fmt: skip
def test_bad_maps_are_refused(maps, rows):
    with pytest.raises(ValueError, match="activity: got"):
        mu(maps, rows)


def test_summary_against_numpy():
    values = np.array([0.1, 0.2, math.nan, 0.6])
    cells = summary(values, values + 0.1)
    kept = np.array([10, 20, 60.0])
    assert cells["mean"] == pytest.approx(30) and cells["std"] == pytest.approx(kept.std(ddof=1))
    assert (cells["images"], cells["empty"]) == (4, 1) and cells["mean_raw"] == pytest.approx(40)
    assert 10 <= cells["ci_low"] < 30 < cells["ci_high"] <= 60


def test_the_interval_covers_as_often_as_it_says():
    random = np.random.default_rng(0)
    hits = 0
    for trial in range(120):
        sample = random.normal(0.3, 0.1, 100)
        cells = summary(sample, sample, seed=trial)
        hits += cells["ci_low"] <= 30 <= cells["ci_high"]
    assert 0.88 < hits / 120 <= 1.0


def test_tabulate_keeps_datasets_and_methods_apart():
    long = pd.DataFrame({"dataset": ["a", "a", "b", "b"], "method": ["x", "y", "x", "x"], "mu": [0.1, 0.2, 0.3, 0.5],
                         "mu_raw": [0.1, 0.2, 0.3, 0.5]})  # fmt: skip
    table = activity.tabulate(long).set_index(["dataset", "method"])
    assert table.loc[("b", "x"), "mean"] == pytest.approx(40) and table.loc[("a", "y"), "mean"] == pytest.approx(20)
