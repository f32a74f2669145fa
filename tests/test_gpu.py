"""benchmarks.gpu on a processor: what travels, the control, a part that fails, the pages."""

import csv
import json
import lzma
import re
import time
import zipfile
from io import BytesIO
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny, noise
from PIL import Image

from benchmarks.gpu import (
    archive,
    carried,
    control,
    exactness,
    networks,
    page,
    preset,
    showcase,
    steps,
)
from benchmarks.gpu import run as runs
from walls.images import loaders, stacked
from walls.network.geometry import DeadZone
from walls.paper import claims
from walls.saliency import methods
from walls.sources import folders, imagenet

ANIMALS, OTHER = ("n01443537", "n01629819", "n02124075"), "n02769748"


def jpeg(seed: int) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
    content = BytesIO()
    Image.fromarray(pixels).save(content, "JPEG")
    return content.getvalue()


@pytest.fixture(scope="module")
def public(tmp_path_factory):
    """A small zip laid out as Tiny-ImageNet's: three animals and a backpack."""
    path = tmp_path_factory.mktemp("public") / "tiny-imagenet-200.zip"
    lines = []
    with zipfile.ZipFile(path, "w") as file:
        for number, wnid in enumerate((*ANIMALS, OTHER)):
            for image in range(4):
                name = f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{image}.JPEG"
                file.writestr(name, jpeg(10 * number + image))
            for image in range(2):
                file.writestr(
                    f"tiny-imagenet-200/val/images/val_{2 * number + image}.JPEG",
                    jpeg(100 + 2 * number + image),
                )
                lines.append(f"val_{2 * number + image}.JPEG\t{wnid}\t0\t0\t63\t63\n")
        file.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
        file.writestr(
            "tiny-imagenet-200/words.txt",
            "".join(f"{wnid}\tname of {wnid}, other\n" for wnid in (*ANIMALS, OTHER)),
        )
    return path


def test_an_archive_is_read_as_the_public_one_is(public, tmp_path):
    """All animals, none of the rest, every byte; the same file again from the same source."""
    packed = tmp_path / "few.zip.xz"
    assert archive.make(public, packed, 1) == list(ANIMALS)
    listing = imagenet.tiny_imagenet(archive.unpack(packed, tmp_path / "few.zip"))
    whole = imagenet.tiny_imagenet(public)
    for split, count in (("train", 4), ("val", 2)):
        assert listing.files[split] == {wnid: whole.files[split][wnid] for wnid in ANIMALS}
        assert all(len(files) == count for files in listing.files[split].values())
    assert [listing.name(wnid) for wnid in ANIMALS] == [f"name of {wnid}" for wnid in ANIMALS]
    with zipfile.ZipFile(tmp_path / "few.zip") as made, zipfile.ZipFile(public) as given:
        images = [name for name in made.namelist() if name.endswith(".JPEG")]
        assert len(images) == 18 and all(made.read(name) == given.read(name) for name in images)
    archive.make(public, tmp_path / "again.zip.xz", 1)
    assert (tmp_path / "again.zip.xz").read_bytes() == packed.read_bytes()


def test_an_archive_is_no_larger_than_asked_and_takes_the_wanted_first(public, tmp_path):
    packed = tmp_path / "few.zip.xz"
    archive.make(public, packed, 1)
    size = packed.stat().st_size
    assert archive.make(public, packed, 0.7 * size / 1e6, [ANIMALS[2]]) == [ANIMALS[0], ANIMALS[2]]
    assert packed.stat().st_size <= 0.7 * size
    with pytest.raises(
        ValueError, match=r"megabytes: got 0.001, which hold 0 classes .*takes two or more"
    ):
        archive.make(public, packed, 0.001)


def test_photographs_of_the_archives_classes_alone(public, tmp_path):
    archive.make(public, tmp_path / "few.zip.xz", 1)
    given = tmp_path / "photographs.zip"
    with zipfile.ZipFile(given, "w") as file:
        for name in (
            f"val/{ANIMALS[0]}/1.JPEG",
            f"val/{ANIMALS[0]}/2.JPEG",
            f"val/{ANIMALS[1]}/3.JPEG",
            f"val/{OTHER}/4.JPEG",
            f"val/{OTHER}/5.JPEG",
            f"val/{ANIMALS[0]}/notes.txt",
        ):
            file.writestr(name, name)
    assert archive.photographs(given, tmp_path / "larger", tmp_path / "few.zip.xz") == {
        ANIMALS[0]: 2
    }
    assert folders.images_by_class(tmp_path / "larger") == {
        ANIMALS[0]: [str(tmp_path / "larger" / ANIMALS[0] / f"{n}.JPEG") for n in (1, 2)]
    }


def test_the_settings_are_the_presets_but_for_what_is_named(public, tmp_path):
    archive.make(public, tmp_path / "few.zip.xz", 1)
    p = preset.settings(
        archive.unpack(tmp_path / "few.zip.xz", tmp_path / "few.zip"), None, tiny=False
    )
    assert (p.model.width, p.model.dense, p.model.batch_norm, p.model.dropout) == (
        1.0,
        4096,
        True,
        0.2,
    )
    assert (p.data.classes, p.data.animals, p.train.weight_decay, p.train.schedule) == (
        3,
        True,
        5e-4,
        "onecycle",
    )
    assert "KPCA-CAM" in p.cams.methods and p.wall.rows == 9 and p.stacks.generator is None


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


def test_maps_are_compared_as_users_see_them(tmp_path):
    """float32 is float32, bfloat16 isn't; and the difference of a pair, by hand."""
    run = runs.Run(tmp_path, tmp_path, torch.device("cpu"), 60)
    errors: dict = {}
    rows = pd.DataFrame(exactness.compared(run, make_tiny(), noise(2), 2, errors))
    assert not errors and set(rows["method"]) == set(methods.METHODS)
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
    run = runs.Run(tmp_path, tmp_path, torch.device("cpu"), 3)

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
        "c": ("three", 1, lambda run: f"fine, {run.left() > 0}"),
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


@pytest.fixture(scope="module")
def left(tmp_path_factory):
    """What a whole run might have left: made up, but for its shape."""
    folder = tmp_path_factory.mktemp("left")
    random = torch.Generator().manual_seed(0)
    parts = {
        x: {"title": f"part {x}", "seconds": 9.0, "error": None, "found": "", "device": "GPU X"}
        for x in "abd"
    }
    parts["c"] = parts["a"] | {"error": "ValueError: no peer"}
    about = {
        "commit": "a" * 40,
        "tiny": False,
        "minutes": 8,
        "device": "GPU X",
        "device_memory_gib": 79.6,
        "processor": "CPU Y",
        "cores": 16,
        "versions": ["Python 3.12.3", "torch 2.11.0"],
        "cudnn": 91000,
        "date": "2026-11-27",
    }
    sealed = {
        "precision": "bfloat16",
        "layout": "NCHW",
        "images": 8,
        "again": True,
        "replaced": True,
        "noise": False,
        "extreme": True,
        "largest_change": 0.25,
        "largest_logit": 3.0,
        "feature_change": 0.5,
        "largest_feature": 9.0,
        "row_above_counts": True,
        "dead_gradient": 0.0,
        "edge_gradient": 0.5,
    }
    compared = [
        {
            "network": "N",
            "images": 4,
            "method": name,
            "pair": pair,
            "map": 1e-6,
            "mu": 2e-5,
            "empty": 0,
            "empty there": 0,
            "behind the wall": 0.0,
        }
        for name in ("GradCAM", "HiResCAM")
        for pair in page.PAIRS
    ]
    timed = [
        {"precision": "bfloat16", "variant": variant, "seconds": [seconds] * 5, "peak_mb": 2048.0}
        for variant, seconds in (("ours", 0.1), ("plain", 0.15), ("plain, channels-last", 0.125))
    ]
    measured = [
        {"below": below, "method": name, "mean": mean, "std": 1.0, "images": 6, "empty": 0}
        for below, mean in zip(control.BELOW, (30.0, 20.0, 10.0, 5.0), strict=True)
        for name in ("GradCAM",)
    ]
    maps = {
        name: torch.rand(6, 14, 14, generator=random)
        for name in ("GradCAM", "GradCAM++", "HiResCAM")
    }
    maps["HiResCAM"][:, 5:] = 0
    pictures = carried.Pictures(folder / "pictures.zip")
    images = torch.randint(0, 256, (6, 3, 224, 224), dtype=torch.uint8, generator=random)
    for below, offset in zip(control.BELOW, (0.3, 0.2, 0.1, 0.0), strict=True):
        pictures.show(below, images, maps, [f"species {n}" for n in range(6)])
        activity = pd.DataFrame(
            [
                {
                    "below": below,
                    "image": n,
                    "predicted": 0,
                    "method": name,
                    "mu": 0.1 * n + offset,
                    "mu_raw": 0.1 * n,
                }
                for name in maps
                for n in range(6)
            ]
        )
        pictures.add(f"activity-{carried.slug(below)}.csv", activity.to_csv(index=False))
    for which in ("masked", "baseline"):
        pictures.add(
            f"history-{which}.csv", "epoch,train_loss,top1,top5\n1,2.0,0.3,0.6\n2,1.0,0.4,0.7\n"
        )
    p = preset.settings(None, None, tiny=True).model_dump()
    score = {
        "top1": 0.4,
        "top5": 0.7,
        "train_loss": 1.0,
        "precision": "bfloat16",
        "device": "cuda",
        "epochs": 2,
        "images_seen": 90,
        "seconds": 3.0,
    }
    claim = {
        "claim": claims.CLAIMS[0].statement,
        "where": "3.1",
        "paper": "54",
        "ours": "54",
        "verdict": "holds",
    }
    zone = make_tiny().zone(224)
    wall = {
        "image_rows": 224,
        "map_rows": 14,
        "wall_rows": 9,
        "seen_rows": 170,
        "dead_rows": 54,
        "dead_share": zone.dead_share,
        "hirescam_zero_rows": 136,
        "certified": True,
    }
    contents = {
        "run": about | {"parts": parts},
        "exactness": {
            "networks": {"N": {"opticam_steps": 50}},
            "sealed": [{"network": "N"} | sealed],
            "maps": compared,
            "errors": {"FEM on the device": "RuntimeError: no"},
        },
        "steps": {
            "network": {"width": 1.0},
            "batch": 256,
            "steps": timed,
            "errors": {},
            "loader": [
                {"images": "photographs", "workers": 15, "cores": 16, "images_per_s": 1234.5}
            ],
        },
        "networks": {
            "params": p,
            "train": {"masked": score, "baseline": score | {"top1": 0.5}},
            "control": measured,
            "errors": {},
            "claims": [claim],
            "images": {"train": 45, "val": 10},
            "epochs": 2,
            "wall": wall,
            "sealed": [sealed],
            "pace": {which: {"images_per_s": 100.0} for which in ("masked", "baseline")},
            "activity": {"GradCAM": 30.0, "uniform map": 49.1},
        },
    }
    for name, content in contents.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    table = "dataset,method,mean,std,ci_low,ci_high,mean_raw,images,empty,paper_mean,paper_std\n"
    rows = (
        "GradCAM,30.0,1.0,29,31,40,6,0,22.7,13.4",
        "HiResCAM,0.0,0.0,0,0,0,6,0,0.0,0.0",
        "uniform map,49.1,0,49.1,49.1,49.1,6,0,,",
    )
    (folder / "table1.csv").write_text(table + "".join(f"stack-mix,{row}\n" for row in rows))
    return folder


def test_the_page_says_what_the_run_left(left, tmp_path):
    written, values = page.write([left], tmp_path)
    text = written.read_text()
    assert (
        "on GPU X (80 GiB), CPU Y, 16 cores; Python 3.12.3, torch 2.11.0, cuDNN 91000; "
        "2026-11-27. Commit `aaaa" in text
    )
    assert "| N | bfloat16 | NCHW | 8 | yes, no, yes | yes | yes | 0.25 (3) | 0 (0.5) |" in text
    assert "| bfloat16 | ours | 5 | 2560 [2560, 2560] | 2.0 |" in text
    assert (
        "| bfloat16 | ours / plain | 5 | 1.50 [1.50, 1.50] |" in text
        and "as meant: bfloat16 yes." in text
    )
    assert "| bfloat16 | ours / plain, channels-last | 5 | 1.25 [1.25, 1.25] |" in text
    assert (
        "| photographs | 15 | 1234 |" in text
        and "| masked | 40.0% | 70.0% | bfloat16 | 3 | 30 |" in text
    )
    assert (
        "Broken off: ValueError: no peer." in text
        and "Not measured: FEM on the device: RuntimeError: no." in text
    )
    assert "the trained one of part d | bfloat16" in text and "rehearsal" not in text
    rows = list(csv.DictReader(values.open()))
    (ratio,) = (row for row in rows if row["subject"] == "ours / plain")
    assert (ratio["n"], ratio["median"], ratio["setting"]) == ("5", "1.5", "bfloat16")
    assert {row["part"] for row in rows} == {"a", "b", "d"}
    with pytest.raises(ValueError, match=r"holds no run.json"):
        page.write([tmp_path], tmp_path)


def test_of_two_runs_each_part_is_the_last_ones(left, tmp_path):
    """Part c alone, run again elsewhere."""
    again, turn = (
        tmp_path / "again",
        {"ours": 0.01, "grad_cam": 0.05, "torchcam": 0.03, "ours_of_torchcam": 0.01},
    )
    again.mkdir()
    run = json.loads((left / "run.json").read_text())
    run["parts"] = {"c": run["parts"]["a"] | {"title": "peers", "device": "GPU Z"}}
    (again / "run.json").write_text(json.dumps(run))
    turns = [{"geometry": "paper", "methods": "gradient family"} | turn] * 3
    turns += [{"geometry": "paper", "methods": "ScoreCAM"} | turn] * 2
    (again / "maps.json").write_text(
        json.dumps(
            {
                "images": {"gradient family": 2},
                "opticam_steps": 50,
                "tf32": {},
                "cut": {},
                "turns": turns,
                "errors": {},
            }
        )
    )
    text = page.write([left, again], tmp_path)[0].read_text()
    assert (
        "| paper | gradient family | 3 | 10.0 [10.0, 10.0] | 50.0 [50.0, 50.0] | 5.0 [5.0, 5.0] | "
        "30.0 [30.0, 30.0] | 3.0 " in text
    )
    assert (
        "Broken off" not in text
        and "c, peers, 9 s on GPU Z" in text
        and "| bfloat16 | ours / plain | 5 | 1.50" in text
    )


def test_the_showcase_says_what_the_run_left(left, tmp_path):
    (tmp_path / "showcase").mkdir()
    written = showcase.write(left, tmp_path, leave_out=[0, 1])
    text, folder = written.read_text(), written.parent
    assert (
        "| GradCAM | 30.0 ± 1.0 | 22.7 ± 13.4 |" in text
        and "masked 40.0%, baseline 50.0%" in text
        and "a" * 40 in text
    )
    # 0, 10, … 50 and 30, 20, 10, 0 more: the mean, and ten more on every image.
    assert "| GradCAM | 55.0 | 45.0 | 35.0 | 25.0 | +10.0 [+10.0, +10.0] |" in text
    assert (
        "The predicted class is the same above all of them." in text
        and "2 epochs" in text
        and "3 classes" in text
    )
    assert json.loads((folder / "metrics" / "activity.json").read_text()) == {
        "stack-mix": {"GradCAM": 30.0, "HiResCAM": 0.0}
    }
    assert json.loads((folder / "metrics" / "train.json").read_text())["masked"]["top1"] == 0.4
    shown = re.findall(r"\]\(([\w./-]+\.png)\)", text)
    for name in shown:
        with Image.open(folder / name) as picture:
            assert picture.width > 1000
    assert len(shown) == 4 and not list(folder.rglob("*.pdf"))


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


def test_the_archive_is_of_plain_xz(public, tmp_path):
    """Anybody's xz unpacks it."""
    archive.make(public, tmp_path / "few.zip.xz", 1)
    with zipfile.ZipFile(BytesIO(lzma.decompress((tmp_path / "few.zip.xz").read_bytes()))) as file:
        assert file.testzip() is None and file.read(
            "tiny-imagenet-200/wnids.txt"
        ).decode().split() == list(ANIMALS)


def test_stacked_images_have_two_animals(tmp_path):
    """What part a looks at: drawn stacks, the first ten species in turn."""
    images = exactness.stacked(2)
    assert images.shape == (2, 3, 224, 224) and images.dtype == torch.uint8
    assert (
        not torch.equal(images[0], images[1])
        and stacked.swap(images, images.flip(0), DeadZone((170,), (224,)))[0].shape == images.shape
    )
