"""The drawn images: pure functions of their arguments, animals where they belong, classes told by
the animal alone.
"""

import hashlib

import numpy as np
import pytest
from PIL import Image

from walls.sources import critters
from walls.sources.critters import draw, draw_stack, write
from walls.sources.species import SPECIES

# Depends on Pillow's rasteriser and numpy's Philox, at the versions of requirements.txt. A change
# of the drawings, or of those versions, changes it, and with it every image, model and number
# downstream: commit a new one on purpose.
GOLDEN = "15358a55429ae1ca26c4a851dddad1a7af2c5555b2595cee8f52d172490f156f"


CORNERS = slice(8), slice(-8, None)


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(array.tobytes() for array in arrays)).hexdigest()


def files(folder) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*.png")
    }


def test_drawings_are_the_committed_ones():
    images = [draw(0, "train", species, species) for species in range(10)]
    stacks = [draw_stack(0, species, species, 170) for species in range(10)]
    assert digest(*images, *stacks) == GOLDEN


def test_same_arguments_same_bytes():
    first = draw(3, "val", 17, 4), draw_stack(3, 17, 4, 154, attempt=2)
    np.random.default_rng().uniform(size=10)
    draw(4, "train", 2, 9)
    assert digest(*first) == digest(draw(3, "val", 17, 4), draw_stack(3, 17, 4, 154, attempt=2))
    assert first[0].dtype == np.uint8 and first[0].shape == (224, 224, 3)


def test_every_argument_matters():
    singles = [
        (0, "train", 0, 0),
        (1, "train", 0, 0),
        (0, "val", 0, 0),
        (0, "train", 10, 0),
        (0, "train", 0, 1),
    ]
    stacks = [(0, 0, 0, 170), (1, 0, 0, 170), (0, 1, 0, 170), (0, 0, 1, 170), (0, 0, 0, 138)]
    images = [*(draw(*key) for key in singles), *(draw_stack(*key) for key in stacks)]
    again = draw_stack(0, 0, 0, 170, attempt=1)
    assert len({digest(image) for image in [*images, again]}) == 11


def test_other_sizes_show_the_same_picture():
    large = Image.fromarray(draw(0, "train", 4, 4)).resize((128, 128), Image.Resampling.BOX)
    difference = np.abs(np.asarray(large, float) - draw(0, "train", 4, 4, size=128))
    assert difference.mean() < 6


@pytest.mark.parametrize("species", range(10), ids=SPECIES)
def test_most_of_a_single_animal_is_above_the_dead_zone(species):
    shares, extents = [], []
    for index in range(6):
        image = draw(0, "train", index, species)
        bare = critters._single(0, "train", index, species, 224, animal=False)
        rows, columns = np.nonzero((image != bare).any(2))
        shares.append(np.mean(rows < 170))
        extents.append(max(np.ptp(rows), np.ptp(columns)) + 1)
    assert min(shares) > 0.55 and np.mean(shares) > 0.72
    assert (
        100 < min(extents) and max(extents) < 205
    )  # of 224: large enough to be told, never cut off


@pytest.mark.bulk
@pytest.mark.parametrize("edge", [106, 154, 170, 202, 218])
def test_each_animal_of_a_stack_keeps_to_its_side(edge):
    for species in range(10):
        bare = critters._stack(5, species, species, edge, 224, 0, upper=False, lower=False)
        upper = (critters._stack(5, species, species, edge, 224, 0, lower=False) != bare).any(2)
        lower = (critters._stack(5, species, species, edge, 224, 0, upper=False) != bare).any(2)
        both = (draw_stack(5, species, species, edge) != bare).any(2)
        assert not upper[edge:].any() and not lower[:edge].any()
        assert upper.sum() > 2000
        # The lower one fills the dead zone's height, or the image's width.
        rows, columns = np.nonzero(lower)
        assert max(np.ptp(rows) + 1 - (224 - edge), np.ptp(columns) + 1 - 0.9 * 224) >= -4
        assert lower.sum() > 0.15 * (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
        assert np.array_equal(both, upper | lower)


def test_stacks_scale_and_take_the_narrowest_zones():
    for edge, size in [(1, 224), (220, 224), (97, 128), (121, 160)]:
        bare = critters._stack(0, 0, 3, edge, size, 0, upper=False, lower=False)
        changed = (draw_stack(0, 0, 3, edge, size) != bare).any(2)
        assert changed.shape == (size, size) and changed[:edge].any() and changed[edge:].any()


@pytest.mark.bulk
def test_background_tells_nothing_and_the_animal_everything():
    """Nearest class mean on coarse colours: of the corners it is guessing, of the animal's own
    pixels it is not.
    """
    corners, animals = [], []
    for index in range(300):
        image = draw(1, "train", index, index % 10, size=64)
        bare = critters._single(1, "train", index, index % 10, 64, animal=False)
        corners.append(np.concatenate([bare[y, x].ravel() for y in CORNERS for x in CORNERS]))
        animals.append(
            np.percentile(image[(image != bare).any(2)], (5, 25, 50, 75, 95), axis=0).ravel()
        )

    def accuracy(features) -> float:
        features, labels = np.array(features), np.arange(300) % 10
        means = np.stack([features[:200][labels[:200] == label].mean(0) for label in range(10)])
        nearest = ((features[200:, None] - means) ** 2).sum(2).argmin(1)
        return float(np.mean(nearest == labels[200:]))

    assert accuracy(corners) < 0.25
    assert accuracy(animals) > 0.5


def test_a_larger_set_keeps_the_smaller_ones_bytes(tmp_path):
    write(tmp_path, "train", 7, seed=0, classes=3, size=64, workers=1, progress=False)
    before = files(tmp_path)
    rows = write(tmp_path, "train", 12, seed=0, classes=3, size=64, workers=1, progress=False)
    after = files(tmp_path)
    assert len(before) == 7 and len(after) == 12
    assert before.items() <= after.items()
    assert (
        rows[4] == ("train/rabbit/00004.png", "rabbit")
        and [name for _, name in rows] == [*SPECIES[:3]] * 4
    )
    assert sorted(path for path, _ in rows) == sorted(after)


def test_workers_change_no_byte(tmp_path):
    one = write(tmp_path / "one", "val", 40, seed=9, size=48, workers=1, progress=False)
    two = write(tmp_path / "two", "val", 40, seed=9, size=48, workers=2, progress=False)
    assert one == two and files(tmp_path / "one") == files(tmp_path / "two")


def test_files_hold_the_drawings(tmp_path):
    ((path, _),) = write(tmp_path, "val", 1, seed=2, progress=False)
    assert np.array_equal(np.asarray(Image.open(tmp_path / path)), draw(2, "val", 0, 0))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda folder: draw(0, "train", 0, 10), "species: got 10; takes 0 to 9"),
        (lambda folder: draw(0, "train", 0, -1), "species: got -1; takes 0 to 9"),
        (lambda folder: draw(-1, "train", 0, 0), "seed: got -1; takes 0 or more"),
        (lambda folder: draw(0, "train", 0, 0, size=8), "size: got 8; takes 32 or more"),
        (lambda folder: draw_stack(0, 0, 0, 0), "edge: got 0; takes 1 to 220"),
        (lambda folder: draw_stack(0, 0, 0, 221), "edge: got 221; takes 1 to 220"),
        (lambda folder: write(folder, "train", 1, 0, classes=1), "classes: got 1; takes 2 to 10"),
        (lambda folder: write(folder, "train", 1, 0, classes=11), "classes: got 11; takes 2 to 10"),
        (lambda folder: write(folder, "train", -1, 0), "count: got -1; takes 0 or more"),
        (lambda folder: write(folder, "train", 1, 0, workers=0), "workers: got 0; takes 1 or more"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call(tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())
