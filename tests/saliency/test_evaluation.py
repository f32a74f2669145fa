"""A network and images, evaluated: the table, what a killed evaluation leaves, Opti-CAM's
tuning.
"""

import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, environment, make_tiny
from helpers.evaluations import ZONE, pictures, settings
from helpers.imports import closure

from walls.images.transforms import normalise
from walls.network.geometry import DeadZone
from walls.saliency import comparisons, evaluation, opticam
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import saliency_maps

WALLS = ROOT / "src" / "walls"


def test_the_table_is_each_maps_activity(tiny):
    images = pictures(5)
    table, maps = evaluation.evaluate(tiny, images, settings(batch_size=2), ZONE)
    inputs = normalise(images)
    raw = saliency_maps(tiny, inputs, ["GradCAM"])["GradCAM"]
    torch.testing.assert_close(maps["GradCAM"], raw, rtol=1e-4, atol=1e-6)
    assert list(table["method"]) == ["GradCAM"] * 5 + ["HiResCAM"] * 5
    assert list(table["image"]) == [0, 1, 2, 3, 4] * 2
    mine = table[table["method"] == "GradCAM"]
    assert list(mine["predicted"]) == tiny(inputs).argmax(1).tolist()
    assert mine["mu"].to_numpy() == pytest.approx(activity(upscale(raw, 224), 54).numpy(), abs=1e-4)
    assert mine["mu_raw"].to_numpy() == pytest.approx(
        activity(interpolate(raw, 224), 54).numpy(), abs=1e-4
    )
    assert (table[table["method"] == "HiResCAM"]["mu"].dropna() == 0).all()


def test_bfloat16_rounds_the_maps_and_float32_does_not(tiny):
    images = pictures(2)
    kept, rounded = (
        evaluation.evaluate(tiny, images, settings(precision=precision), ZONE)[1]["GradCAM"]
        for precision in ("float32", "bfloat16")
    )
    scale = kept.abs().max()
    raw = saliency_maps(tiny, normalise(images), ["GradCAM"])["GradCAM"]
    torch.testing.assert_close(kept, raw, rtol=1e-4, atol=1e-6)
    assert 1e-4 < (rounded - kept).abs().max() / scale < 0.2


def test_no_images_give_an_empty_table(tiny):
    table, maps = evaluation.evaluate(
        tiny, torch.empty(0, 3, 0, 0, dtype=torch.uint8), settings(), 54
    )
    assert table.empty and maps == {} and "mu_raw" in table


@pytest.mark.slow
def test_kept_batches_are_read_again_and_only_for_the_same_question(tiny, tmp_path, monkeypatch):
    images = pictures(5)
    first, _ = evaluation.evaluate(tiny, images, settings(), ZONE, tmp_path)
    computed = []
    maps = evaluation._batch_maps

    def counted(model, batch, *rest):
        computed.append(len(batch))
        return maps(model, batch, *rest)

    monkeypatch.setattr(evaluation, "_batch_maps", counted)

    def again(model=tiny, images=images, **changes):
        computed.clear()
        return evaluation.evaluate(model, images, settings(**changes), ZONE, tmp_path)[0]

    assert again().equals(first) and computed == []
    other = images.clone()
    other[4, 0, 0, 0] += 1
    again(images=other)
    assert computed == [1]  # the one batch whose pixels changed
    again(precision="float64")
    assert computed == [4, 1]
    again(model=make_tiny(seed=1))
    assert computed == [4, 1]
    for i, file in enumerate(evaluation.FILES):
        code = tmp_path / "changed.py"
        code.write_text(file.read_text() + "# another\n")
        with monkeypatch.context() as patch:
            changed = (*evaluation.FILES[:i], code, *evaluation.FILES[i + 1 :])
            patch.setattr(evaluation, "FILES", changed)
            again()
        assert computed == [4, 1], file


def test_shares_of_the_images_meet_in_one_folder(tiny, tmp_path, monkeypatch):
    """As on several devices: every second batch each, and then one look at all of them computes
    nothing.
    """
    images = pictures(10)
    alone, maps = evaluation.evaluate(tiny, images, settings(), ZONE)
    for share in ([0, 1, 2, 3, 8, 9], [4, 5, 6, 7]):
        evaluation.evaluate(tiny, images[share], settings(), ZONE, tmp_path)
    monkeypatch.setattr(evaluation, "_batch_maps", None)
    table, found = evaluation.evaluate(tiny, images, settings(), ZONE, tmp_path)
    pd.testing.assert_frame_equal(table, alone, check_exact=True)
    assert found.keys() == maps.keys() and all(
        torch.equal(found[name], maps[name]) for name in maps
    )


def test_the_kept_batches_name_stands_for_all_the_code():
    """Every module that `maps` imports, transitively, and what the batch goes through before."""
    before = [WALLS / "saliency" / name for name in ("maps.py", "activity.py")]
    before.append(WALLS / "images" / "transforms.py")
    needed = {ROOT / file for file in closure(*before)} | set(before)
    assert set(evaluation.FILES) >= needed - {WALLS / "base" / "progress.py"}  # no value's source


EVALUATION = """
import sys, torch
from pathlib import Path
from torch import nn
from walls.network.classifier import Classifier, WallLinear
from walls.saliency.evaluation import evaluate
from walls.saliency.settings import Cams

class Images:
    def __len__(self):
        return int(sys.argv[3])
    def __getitem__(self, index):
        numbers = range(len(self))[index]
        seeded = [torch.Generator().manual_seed(n) for n in numbers]
        return torch.stack([
            torch.randint(0, 256, (3, 24, 24), generator=g, dtype=torch.uint8) for g in seeded
        ])

torch.manual_seed(0)
features = nn.Sequential(
    nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU()
)
head = nn.Sequential(WallLinear(8, 12, 12, 16, 8), nn.ReLU(), nn.Linear(16, 4))
model = Classifier(features, head, 8).eval()
settings = Cams(
    methods=["GradCAM", "XGradCAM", "AblationCAM", "HiResCAM"],
    batch_size=int(sys.argv[3]) // 100,
    precision="float32",
    opticam_steps=1,
    opticam_lr=0.1,
)
table, maps = evaluate(model, Images(), settings, model.zone(24), Path(sys.argv[1]))
table.to_csv(sys.argv[2], index=False)
"""


@pytest.mark.long
def test_an_evaluation_killed_half_way_ends_with_the_same_table(tmp_path):
    images = 10_000

    def start(name):
        arguments = (tmp_path / name, tmp_path / f"{name}.csv", images)
        command = [sys.executable, "-c", EVALUATION, *map(str, arguments)]
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
    with torch.no_grad():
        predicted = tiny(normalise(images)).argmax(1).tolist()
    follows = comparisons.follows_upper(tiny, images, ZONE, predicted)
    assert (follows["images"], follows["lower_changed"], follows["upper_changed"]) == (18, 0, 18)
    # Whatever is above decides: an image's own class, or the next one's.
    assert (follows["own_named"], follows["other_named"]) == (18, 18)
    wrong = [(label + (i < 7)) % 5 for i, label in enumerate(predicted)]
    follows = comparisons.follows_upper(tiny, images, ZONE, wrong)
    assert (follows["own_named"], follows["other_named"]) == (11, 11)
    too_large = DeadZone((150, 5), (224, 14))
    assert comparisons.follows_upper(tiny, images, too_large, predicted)["lower_changed"] == 18


def test_both_ways_of_hiding_are_compared_image_by_image(tiny):
    images = pictures(3)
    table = comparisons.hidden_ways(
        tiny, images, settings(methods=["Opti-CAM", "ScoreCAM"], opticam_steps=3), ZONE
    )
    inputs = normalise(images)
    assert [*table["method"]] == ["ScoreCAM", "Opti-CAM"] and [*table["images"]] == [3, 3]
    for _, row in table.iterrows():
        name, found = row["method"], {}
        for hidden in ("black", "mean"):
            own = {"hidden": hidden} | ({"steps": 3, "lr": 0.1} if name == "Opti-CAM" else {})
            raw = saliency_maps(tiny, inputs, [name], options={name: own})[name]
            found[hidden] = 100 * activity(upscale(raw, 224), ZONE).numpy()
            assert row[hidden] == pytest.approx(found[hidden].mean(), abs=0.01)
        apart = found["black"] - found["mean"]
        assert abs(apart).max() > 0.01
        assert row["difference"] == pytest.approx(apart.mean(), abs=0.01)
        assert row["error"] == pytest.approx(np.std(apart, ddof=1) / 3**0.5, abs=0.01)


def test_tuning_compares_the_settings_with_others(tiny, monkeypatch):
    monkeypatch.setattr(comparisons, "TUNED_LR", (0.01, 10.0))
    monkeypatch.setattr(comparisons, "TUNED_STEPS", (1,))
    images = pictures(2)
    table = comparisons.tune(tiny, images, settings(opticam_steps=6), ZONE)
    assert [*zip(table["lr"], table["steps"], strict=True)] == [
        (lr, steps) for lr in (0.01, 0.1, 10.0) for steps in (1, 6)
    ]
    inputs = normalise(images)
    targets = tiny(inputs).argmax(1)
    options = {"Opti-CAM": {"steps": 6, "lr": 0.1}}
    maps = saliency_maps(tiny, inputs, ["Opti-CAM"], targets, options=options)
    expected = opticam.average_drop(tiny, inputs, maps["Opti-CAM"], targets)
    assert table.iloc[3]["average_drop"] == pytest.approx(expected["average_drop"], abs=1e-3)
    mu = activity(upscale(maps["Opti-CAM"], 224), ZONE).nanmean()
    assert table.iloc[3]["mu"] == pytest.approx(100 * float(mu), abs=1e-3)
