"""benchmarks.gpu: the pages say what a run left."""

import csv
import json
import re

import pandas as pd
import pytest
import torch
from conftest import make_tiny
from PIL import Image

from benchmarks.gpu import (
    carried,
    control,
    page,
    preset,
    showcase,
)
from walls.paper import claims


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
        "id": claims.CLAIMS[0].id,
        "claim": claims.CLAIMS[0].statement,
        "where": "3.1",
        "kind": claims.CLAIMS[0].kind,
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
            "errors": {
                "FEM on the device": "RuntimeError: no",
                "compiled": "OutOfTime: its 39 s are over (run.py, line 136)",
            },
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
        and "is reached: bfloat16 yes." in text
    )
    assert "| bfloat16 | ours / plain, channels-last | 5 | 1.25 [1.25, 1.25] |" in text
    assert (
        "| photographs | 15 | 1234 |" in text
        and "| masked | 40.0% | 70.0% | bfloat16 | 3 | 30 |" in text
    )
    assert (
        "Broken off: ValueError: no peer." in text
        and "Not measured: FEM on the device: RuntimeError: no." in text
        and "Not measured: compiled: the 39 s meant for it were over." in text
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


@pytest.mark.slow
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
