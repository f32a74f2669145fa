"""benchmarks.gpu on a processor: the control, what leaks, a part that fails, how long it may take."""

import json
import re
import time
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny, noise

from benchmarks.gpu import (
    carried,
    control,
    exactness,
    networks,
    page,
    steps,
)
from benchmarks.gpu import run as runs
from walls.images import loaders, stacked
from walls.network.geometry import DeadZone
from walls.saliency import methods


def test_a_control_differs_below_the_edge_alone():
    """And there it is what it says it is."""
    images = torch.randint(
        0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labels, edge = np.array([0, 0, 1, 1]), 10
    zone = DeadZone((edge, 1), (16, 2))
    made = {below: control.under(images, labels, zone, below, 0) for below in control.BELOW}
    for below, changed in made.items():
        assert torch.equal(changed[:, :, :edge], images[:, :, :edge])
        assert torch.equal(changed, images) == (below == control.SAME)
    assert (made["grey"][:, :, edge:] == 128).all()
    other = made["one of another class"][:, :, edge:]
    for place, source in enumerate((2, 2, 0, 0)):
        assert torch.equal(other[place], images[source, :, edge:])
    # An image's noise is its own: the same in any batch, and unlike its neighbour's.
    hidden = made["noise"][:, :, edge:]
    assert torch.equal(
        control.under(images[:2], labels[:2], zone, "noise", 0)[:, :, edge:], hidden[:2]
    )
    assert not torch.equal(hidden[0], hidden[1]) and hidden.float().std() > 60
    with pytest.raises(ValueError, match="all images are of one class"):
        control.under(images[:2], labels[:2], zone, "one of another class", 0)


@pytest.mark.slow
def test_what_is_sealed_and_what_leaks():
    """A masked network keeps its logits in every setting; one without a wall doesn't."""
    images = exactness.stacked(2)
    for wall_rows in (9, 0):
        network = make_tiny(wall_rows=wall_rows)
        for row in exactness.sealed(network, images, 170, torch.device("cpu")):
            kept = wall_rows == 9
            assert row["again"] and row["row_above_counts"], row
            assert (row["replaced"], row["noise"], row["extreme"]) == (kept, kept, kept), row
            assert (row["feature_change"] == 0) == kept and (row["dead_gradient"] == 0) == kept, row
            assert row["largest_change"] == 0 or not kept


@pytest.mark.slow
def test_maps_are_compared_as_users_see_them(tmp_path):
    """float32 is float32, bfloat16 isn't; and the difference of a pair, by hand."""
    run = runs.Run(tmp_path, tmp_path, torch.device("cpu"), 60)
    errors: dict = {}
    rows = pd.DataFrame(exactness.compared(run, make_tiny(), noise(2), 2, errors))
    assert not errors and set(rows["method"]) == set(methods.CAMS)
    assert set(rows["pair"]) == set(page.PAIRS)
    assert (rows[rows["pair"] == "float32"][["map", "mu"]] == 0).all(axis=None)
    assert rows[(rows["pair"] == "bfloat16") & (rows["method"] == "GradCAM")]["map"].item() > 1e-4
    assert (
        rows[rows["method"] == "HiResCAM"]["behind the wall"].max()
        == 0
        < rows["behind the wall"].max()
    )
    one, other = torch.zeros(1, 14, 14), torch.zeros(1, 14, 14)
    one[0, 0, 0], other[0, 13, 13] = 1, 1
    row = exactness.row("GradCAM", "float32", make_tiny(), one.double(), other.double())
    assert row["map"] == pytest.approx(1, abs=1e-6) and row["mu"] == pytest.approx(100, abs=1e-4)


def test_a_part_that_fails_or_hangs_stops_no_other(tmp_path):
    run = runs.Run(tmp_path, tmp_path, torch.device("cpu"), 12)  # of which the last has ten

    def fails(run):
        run.keep("first", {"half": 1})
        raise RuntimeError("no such kernel\nand more")

    def hangs(run):
        run.keep("second", {"half": 2})
        while True:
            try:
                time.sleep(60)
            except Exception:  # what a library might do
                continue

    parts = {
        "a": ("one", 1, fails),
        "b": ("two", 1, hangs),
        "c": ("three", 10, lambda run: f"fine, {run.left() > 0}"),
    }
    began = time.perf_counter()
    done = runs.go(run, parts, {"device": "none"})["parts"]
    assert time.perf_counter() - began < 30
    assert (
        done["a"]["error"].startswith("RuntimeError: no such kernel")
        and "and more" not in done["a"]["error"]
    )
    assert done["b"]["error"].startswith("OutOfTime") and done["c"] == done["c"] | {
        "error": None,
        "found": "fine, True",
    }
    assert json.loads((tmp_path / "first.json").read_text()) == {"half": 1}
    assert json.loads((tmp_path / "second.json").read_text()) == {"half": 2}
    kept = json.loads((tmp_path / "run.json").read_text())
    assert kept["parts"] == done and re.search(
        r"^b +two .*FAILED  OutOfTime", runs.table(kept), re.MULTILINE
    )


def test_a_limit_within_a_limit():
    """The inner one ends its own work alone; the outer one still holds."""
    began, errors = time.perf_counter(), {}
    with pytest.raises(runs.OutOfTime, match="its 3 s are over"), runs.limit(3):
        run = runs.Run(None, None, torch.device("cpu"), 60)
        assert run.attempt("inner", lambda: time.sleep(60), errors, 0.3) is None
        assert time.perf_counter() - began < 2.9
        time.sleep(60)
    assert errors == {"inner": errors["inner"]} and "0 s are over" in errors["inner"]
    assert 2.9 < time.perf_counter() - began < 20


def test_variants_of_the_step_take_turns(tmp_path):
    from accelerate import Accelerator

    run = runs.Run(tmp_path, tmp_path, torch.device("cpu"), 60, tiny=True)
    accelerator = Accelerator(cpu=True, mixed_precision="no")
    rows = steps.turns(run, accelerator, steps.TINY, steps.EAGER, "float32", 2, 128, 7, 0)
    assert [row["variant"] for row in rows] == list(steps.EAGER)
    assert all(
        len(row["seconds"]) == 5 and min(row["seconds"]) > 0 and row["peak_mb"] is None
        for row in rows
    )


def test_epochs_are_as_many_as_fit():
    """70 of 100 s; an epoch of both takes 2 · (10 · 1.05 · 0.5 + 1), the last look at them 2."""
    settings = SimpleNamespace(train=SimpleNamespace(batch_size=4), data=SimpleNamespace(classes=2))
    labels = [position % 2 for position in range(40)]
    images = loaders.Images(
        pd.DataFrame({"path": [str(n) for n in range(40)], "label": labels}), 224, (0.25, 1.0)
    )
    run = SimpleNamespace(left=lambda: 100, tiny=False, say=lambda text: None)
    pace = {which: {"step": 0.5, "validation": 1.0} for which in ("masked", "baseline")}
    assert networks.planned(run, pace, settings, images) == (5, images)
    slow = {which: {"step": 10.0, "validation": 1.0} for which in ("masked", "baseline")}
    epochs, fewer = networks.planned(run, slow, settings, images)
    # 66 s of steps of 20 s (both networks): 3.3 batches, 6.6 images of each class.
    assert epochs == 1 and fewer.labels.tolist() == [0, 1] * 7
    assert (
        networks.planned(run, {"a": {"step": 1e-6, "validation": 0.0}}, settings, images)[0]
        == networks.MOST_EPOCHS
    )


def test_pictures_come_home_as_they_were(tmp_path):
    images = torch.randint(0, 256, (12, 3, 8, 8), dtype=torch.uint8)
    maps = {"GradCAM": torch.rand(12, 2, 2)}
    carried.Pictures(tmp_path / "pictures.zip").show(
        "one of another class", images, maps, ["x"] * 12
    )
    back, raw, classes = carried.shown(tmp_path / "pictures.zip", "one of another class")
    assert (
        torch.equal(back, images[: carried.SHOWN])
        and torch.equal(raw["GradCAM"], maps["GradCAM"])
        and classes == ["x"] * 12
    )


def test_pairs_are_of_the_same_images():
    """Three images above the first, two above the second: two pairs, 3 and 1 apart."""
    table = {"image": [0, 1, 2], "method": "GradCAM", "mu": [0.05, 0.04, 0.9]}
    first = pd.DataFrame(table)
    second = first[:2].assign(mu=[0.02, 0.03])
    rows, images = control.paired({control.SAME: first, control.BELOW[1]: second})
    row = rows.iloc[0]
    assert images == 2 and row[control.SAME] == pytest.approx(4.5)
    assert row["beyond"] == pytest.approx(2)
    # Student's t with one degree of freedom: 12.706 standard errors, of 1.
    assert row["beyond_high"] - row["beyond"] == pytest.approx(12.706, abs=1e-3)


def test_stacked_images_have_two_animals(tmp_path):
    """What part a looks at: drawn stacks, the first ten species in turn."""
    images = exactness.stacked(2)
    assert images.shape == (2, 3, 224, 224) and images.dtype == torch.uint8
    assert (
        not torch.equal(images[0], images[1])
        and stacked.swap(images, images.flip(0), DeadZone((170,), (224,)))[0].shape == images.shape
    )
