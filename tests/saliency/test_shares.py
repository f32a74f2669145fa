"""The shares of images that light up behind the wall, against counting by hand."""

import numpy as np
import pandas as pd
import pytest
import torch

from walls.network.geometry import DeadZone
from walls.paper import shares
from walls.paper.results import Maps

ZONE = DeadZone((170, 5), (224, 14))


def maps(raw: torch.Tensor, mu: list[float], classes: list[str]) -> Maps:
    return Maps("stack-mix", classes, [], {"GradCAM": raw}, pd.DataFrame({"GradCAM": mu}))


def test_shares_by_hand():
    table = shares.shares(
        [maps(torch.zeros(4, 14, 14), [0.04, 0.06, 0.15, np.nan], ["a", "a", "b", "b"])], ZONE
    )
    found = table.set_index("criterion")["share"].to_dict()
    assert found == {"µ×100 > 5": 50, "µ×100 > 10": 25, "µ×100 > 20": 0, shares.HALF: 0}
    assert shares.wide(table).loc["GradCAM", "STACK-MIX: µ×100 > 5"] == "50 [50, 50]"
    assert shares.wide(table).loc["GradCAM", "STACK-MIX: µ×100 > 10"] == "25 [0, 50]"


@pytest.mark.parametrize(("below", "bright"), [(0.4, False), (0.6, True), (1.0, True)])
def test_a_bright_pixel_is_above_half_of_the_maximum(below, bright):
    raw = torch.zeros(2, 14, 14)
    raw[:, 1, 1], raw[0, 12, 12] = 1.0, below  # the second image's dead zone stays dark
    found = shares.bright(maps(raw, [0.1, 0.1], ["a", "b"]), "GradCAM", ZONE)
    assert found.tolist() == [bright, False]


def test_an_empty_map_is_not_bright():
    assert not shares.bright(maps(torch.zeros(1, 14, 14), [np.nan], ["a"]), "GradCAM", ZONE).any()
