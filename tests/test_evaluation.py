"""A network and images, evaluated: the table, what a killed evaluation leaves, Opti-CAM's
tuning.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import ROOT, environment, make_tiny, noise
from imports import closure

from walls.images.transforms import normalise
from walls.saliency import evaluation, opticam
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.settings import Cams


def settings(**changes) -> Cams:
    return Cams(**{"methods": ["GradCAM", "HiResCAM"], "batch_size": 4, "precision": "float32", "opticam_steps": 3,
                   "opticam_lr": 0.1} | changes)  # fmt: skip


def pictures(n: int) -> torch.Tensor:
    return (noise(n).clamp(0, 1) * 255).to(torch.uint8)


def test_the_table_is_each_maps_activity(tiny):
    images = pictures(5)
    table, maps = evaluation.evaluate(tiny, images, settings(batch_size=2), 54)
    inputs = normalise(images)
    raw = saliency_maps(tiny, inputs, ["GradCAM"])["GradCAM"]
    torch.testing.assert_close(maps["GradCAM"], raw, rtol=1e-4, atol=1e-6)
    assert (
        list(table["method"]) == ["GradCAM"] * 5 + ["HiResCAM"] * 5
        and list(table["image"]) == [0, 1, 2, 3, 4] * 2
    )
    mine = table[table["method"] == "GradCAM"]
    assert list(mine["predicted"]) == tiny(inputs).argmax(1).tolist()
    assert mine["mu"].to_numpy() == pytest.approx(activity(upscale(raw, 224), 54).numpy(), abs=1e-4)
    assert mine["mu_raw"].to_numpy() == pytest.approx(
        activity(interpolate(raw, 224), 54).numpy(), abs=1e-4
    )
    assert (table[table["method"] == "HiResCAM"]["mu"].dropna() == 0).all()


def test_no_images_give_an_empty_table(tiny):
    table, maps = evaluation.evaluate(
        tiny, torch.empty(0, 3, 0, 0, dtype=torch.uint8), settings(), 54
    )
    assert table.empty and maps == {} and "mu_raw" in table


def test_kept_batches_are_read_again_and_only_for_the_same_question(tiny, tmp_path, monkeypatch):
    images = pictures(5)
    first, _ = evaluation.evaluate(tiny, images, settings(), 54, tmp_path)
    computed = []
    maps = evaluation._maps
    monkeypatch.setattr(
        evaluation, "_maps", lambda *args: computed.append(len(args[1])) or maps(*args)
    )

    def again(model=tiny, images=images, **changes):
        computed.clear()
        return evaluation.evaluate(model, images, settings(**changes), 54, tmp_path)[0]

    assert again().equals(first) and computed == []
    other = images.clone()
    other[4, 0, 0, 0] += 1
    again(images=other)
    assert computed == [1]  # the one batch whose pixels changed
    again(precision="float64")
    assert computed == [4, 1]
    again(model=make_tiny(seed=1))
    assert computed == [4, 1]
    for module in (evaluation, *evaluation.SOURCES):
        code = tmp_path / "changed.py"
        code.write_text(Path(module.__file__).read_text() + "# another\n")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(code))
            again()
        assert computed == [4, 1], module


def test_shares_of_the_images_meet_in_one_folder(tiny, tmp_path, monkeypatch):
    """As on several devices: every second batch each, and then one look at all of them computes
    nothing.
    """
    images = pictures(10)
    alone, maps = evaluation.evaluate(tiny, images, settings(), 54)
    for share in ([0, 1, 2, 3, 8, 9], [4, 5, 6, 7]):
        evaluation.evaluate(tiny, images[share], settings(), 54, tmp_path)
    monkeypatch.setattr(evaluation, "_maps", None)
    table, found = evaluation.evaluate(tiny, images, settings(), 54, tmp_path)
    pd.testing.assert_frame_equal(table, alone, check_exact=True)
    assert found.keys() == maps.keys() and all(
        torch.equal(found[name], maps[name]) for name in maps
    )


def test_the_kept_batches_name_stands_for_all_the_code():
    """Every module that `cams` imports, transitively, and what the batch goes through before."""
    needed = {Path(file).stem for file in closure(ROOT / "src" / "walls" / "cams.py")} | {
        "cams",
        "data",
    }
    assert needed - {"archives", "critters", "params", "paths", "progress", "sources", "species"} == {
        module.__name__.split(".")[1] for module in evaluation.SOURCES}  # fmt: skip


EVALUATION = """
import sys, torch
from pathlib import Path
from torch import nn
from walls.evaluation import evaluate
from walls.models import Classifier, WallLinear
from walls.params import Cams

class Images:
    def __len__(self):
        return int(sys.argv[3])
    def __getitem__(self, index):
        numbers = range(len(self))[index]
        return torch.stack([torch.randint(0, 256, (3, 24, 24), generator=torch.Generator().manual_seed(n), dtype=torch.uint8)
                            for n in numbers])

torch.manual_seed(0)
features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())
model = Classifier(features, nn.Sequential(WallLinear(8, 12, 12, 16, 8), nn.ReLU(), nn.Linear(16, 4)), 8).eval()
settings = Cams(methods=["GradCAM", "XGradCAM", "AblationCAM", "HiResCAM"], batch_size=int(sys.argv[3]) // 100,
                precision="float32", opticam_steps=1, opticam_lr=0.1)
table, maps = evaluate(model, Images(), settings, model.zone(24).dead_rows, Path(sys.argv[1]))
table.to_csv(sys.argv[2], index=False)
"""


@pytest.mark.parametrize("images", [2000, pytest.param(10_000, marks=pytest.mark.long)])
def test_an_evaluation_killed_half_way_ends_with_the_same_table(tmp_path, images):
    def start(name):
        command = [
            sys.executable,
            "-c",
            EVALUATION,
            str(tmp_path / name),
            str(tmp_path / f"{name}.csv"),
            str(images),
        ]
        return subprocess.Popen(command, cwd=ROOT, env=environment(ROOT) | {"OMP_NUM_THREADS": "1"})

    assert start("whole").wait() == 0
    for share in (0.2, 0.6):
        process = start("killed")
        while len(list((tmp_path / "killed").glob("*.safetensors"))) < share * 100:
            assert process.poll() is None
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not (tmp_path / "killed.csv").exists()
    before = {
        file.name: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("*.safetensors")
    }
    assert start("killed").wait() == 0
    after = {
        file.name: file.stat().st_mtime_ns for file in (tmp_path / "killed").glob("*.safetensors")
    }
    assert 60 <= len(before) < 100 == len(after) and all(
        after[name] == when for name, when in before.items()
    )
    assert (tmp_path / "killed.csv").read_bytes() == (tmp_path / "whole.csv").read_bytes()
    table = pd.read_csv(tmp_path / "whole.csv")
    assert len(table) == 4 * images and table[table["method"] == "GradCAM"]["mu"].mean() > 0.1


def test_changing_the_lower_part_changes_no_logit(tiny):
    images = pictures(18)
    follows = evaluation.follows_upper(tiny, images, 170)
    assert (follows["images"], follows["lower_changed"], follows["upper_changed"]) == (18, 0, 18)
    assert evaluation.follows_upper(tiny, images, 150)["lower_changed"] == 18


def test_tuning_compares_the_settings_with_others(tiny, monkeypatch):
    monkeypatch.setattr(evaluation, "TUNED_LR", (0.01, 10.0))
    monkeypatch.setattr(evaluation, "TUNED_STEPS", (1,))
    images = pictures(2)
    table = evaluation.tune(tiny, images, settings(opticam_steps=6))
    assert [*zip(table["lr"], table["steps"], strict=True)] == [
        (lr, steps) for lr in (0.01, 0.1, 10.0) for steps in (1, 6)
    ]
    inputs = normalise(images)
    targets = tiny(inputs).argmax(1)
    maps = saliency_maps(tiny, inputs, ["Opti-CAM"], targets, opticam_steps=6, opticam_lr=0.1)[
        "Opti-CAM"
    ]
    expected = opticam.average_drop(tiny, inputs, maps, targets)
    assert table.iloc[3]["average_drop"] == pytest.approx(expected["average_drop"], abs=1e-3)
