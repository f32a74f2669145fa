"""What walls and grey bands cost a prediction: a network that reads certain rows."""

import numpy as np
import pytest
import torch
from torch import nn

from walls.sanity import sides


class Reads(nn.Module):
    """Logits 1 and twice the mean of the first channel, by cells of 4 × 4 pixels."""

    def __init__(self):
        super().__init__()
        self.cells = nn.Sequential(nn.AvgPool2d(4), nn.ReLU())

    def forward(self, images):
        means = self.cells(images).mean((2, 3))  # (N, 3)
        return torch.cat([1 + 0 * means[:, :1], 2 * means[:, :1]], dim=1)


def lit(*rows):
    """An image of 28 rows, 7 there."""
    image = torch.zeros(1, 3, 28, 28)
    image[:, :, list(rows)] = 7.0
    return image


def test_bands_by_hand():
    """Rows 12 to 15 lit: y = 2 there, and only a band over them takes it away."""
    images = torch.cat([lit(*range(12, 16)), lit(*range(0, 4)), lit(*range(24, 28))])
    found = sides.costs(Reads().eval(), images, [3, 4, 4], [1 / 7])
    band = found[found["how"] == sides.GREY].set_index(["place", "image"])
    for place, hit in zip(sides.PLACES, (1, 0, 2), strict=True):
        for image in range(3):
            row = band.loc[place, image]
            drop = torch.tensor([1.0, 2.0]).softmax(0)[1] - torch.tensor([1.0, 0.0]).softmax(0)[1]
            expected = (False, 2.0, float(drop)) if image == hit else (True, 0.0, 0.0)
            assert (row["agrees"], row["logit_drop"], row["drop"]) == pytest.approx(expected)
    assert (found["hidden_rows"] == 4).all() and list(band["class"][:3]) == [3, 4, 4]


def test_walls_by_hand():
    """Six of seven cells are left: a mean of 14/6 where the lit one is among them, else 0."""
    images = torch.cat([lit(*range(12, 16)), lit(*range(0, 4)), lit(*range(24, 28))])
    found = sides.costs(Reads().eval(), images, None, [1 / 7, 2 / 7])
    walls = found[found["how"] == sides.WALL].set_index(["hidden_rows", "place", "image"])
    for hidden, cells in ((4, 6), (8, 5)):
        for place, hit in ((sides.TOP, 1), (sides.BOTTOM, 2)):
            for image in range(3):
                left = 0 if image == hit else 14 / cells
                row = walls.loc[hidden, place, image]
                assert row["logit_drop"] == pytest.approx(2 - left, abs=1e-5)
                assert row["agrees"] == (image != hit)
    assert (found["class"] == 1).all()
    table = sides.summary(found)
    own = table[(table["how"] == sides.WALL) & (table["hidden_rows"] == 4)].set_index("place")
    assert own.loc["top", "agrees"] == pytest.approx(2 / 3) and own.loc["top", "images"] == 3


def test_a_difference_is_of_the_same_images():
    images = torch.cat([lit(*range(12, 16)), lit(*range(0, 4)), lit(*range(24, 28))])
    found = sides.costs(Reads().eval(), images, [0, 1, 2], [1 / 7])
    mean, low, high = sides.difference(found, "logit_drop", 4, "top", "bottom")
    assert mean == pytest.approx(0, abs=1e-6) and low < 0 < high
    band = found[found["how"] == sides.GREY]
    mean, *_ = sides.difference(
        band[band["image"] == 1], "logit_drop", 4, "top", "middle", sides.GREY
    )
    assert mean == pytest.approx(2)


def test_no_wall_that_fits_is_refused():
    """A cell is four rows high: no part of 28 less 3 rows gives whole cells."""
    with pytest.raises(ValueError, match=r"^(seen_rows|network): "):
        sides.costs(Reads().eval(), torch.rand(2, 3, 28, 28), None, [3 / 28])


def test_middle_bands_are_centred():
    for height, hidden in ((28, 4), (224, 64), (7, 3)):
        (_, top), (_, middle), (_, bottom) = sides._bands(height, hidden)
        assert (top.start, bottom.stop) == (0, height)
        assert abs(middle.start - (height - middle.stop)) <= 1
        assert {one.stop - one.start for one in (top, middle, bottom)} == {hidden}
        np.testing.assert_array_equal(len(range(height)[middle]), hidden)
