"""The training loop: resumed runs give the same bytes, the schedule and the score are what they say."""

import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from conftest import copy_tree, environment, run
from PIL import Image
from torch import nn

from walls import data, models, params, training
from walls.params import Data

SETTINGS = {"epochs": 3, "batch_size": 4, "lr": 0.02, "momentum": 0.9, "weight_decay": 5e-4, "schedule": "onecycle",
            "precision": "float32", "compile": False, "workers": 0}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    data.build(Data(name="critters", root=None, classes=2, train_images=12, val_images=6), 0, 128, folder)
    train = data.Images(data.read_manifest(folder, "train"), 128, (0.6, 1.0), seed=0)
    return train, data.Images(data.read_manifest(folder, "val"), 128)


def network():
    return models.seeded(0, width=0.0625, dense=8, classes=2, batch_norm=True, wall_rows=7, image_size=128)


def fit(images, resume, **changes):
    model = network()
    history, record = training.train(model, *images, params.Train(**(SETTINGS | changes)), resume)
    return model, history, record


@pytest.mark.parametrize("schedule", ["onecycle", "step"])
def test_an_interrupted_run_ends_with_the_same_bytes(images, tmp_path, monkeypatch, schedule):
    whole, history, _ = fit(images, tmp_path / "whole", schedule=schedule)
    kept, written = training._keep, []

    def stop_after_two(*arguments):
        kept(*arguments)
        written.append(1)
        if len(written) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(training, "_keep", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        fit(images, tmp_path / "broken", schedule=schedule)
    monkeypatch.setattr(training, "_keep", lambda *arguments: (written.append(1), kept(*arguments)))
    resumed, again, _ = fit(images, tmp_path / "broken", schedule=schedule)
    assert all(torch.equal(a, b) for a, b in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True))
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert len(written) == 3  # one epoch was left to do


def test_training_changes_the_weights_and_records_what_it_did(images, tmp_path):
    model, history, record = fit(images, tmp_path)
    assert not torch.equal(model.head[0].weight, network().head[0].weight)
    assert history.columns.tolist() == ["epoch", "train_loss", "top1", "top5"] and len(history) == 3
    assert record == {"precision": "float32", "device": "cpu", "epochs": 3, "images_seen": 36}
    assert models.certify(model, 128).holds


def test_the_masked_training_never_reads_the_dead_zone(images, tmp_path, monkeypatch):
    first, *_ = fit(images, tmp_path / "a", epochs=1)
    original = data.normalise

    def blacked(batch):
        out = original(batch)
        out[:, :, 106:] = 50.0
        return out

    monkeypatch.setattr(data, "normalise", blacked)
    second, *_ = fit(images, tmp_path / "b", epochs=1)
    assert all(torch.equal(a, b) for a, b in zip(first.state_dict().values(), second.state_dict().values(), strict=True))


def test_sgd_is_the_textbooks(images, tmp_path):
    """One step by hand: v = g + λw; w - lr·v."""
    train = images[0]
    model, *_ = fit(images, tmp_path, epochs=1, batch_size=12, schedule="constant", lr=0.1)
    other = network().train()
    other.features.to(memory_format=torch.channels_last)
    torch.manual_seed(int(data.stream(0, "dropout", 1).integers(2**63)))
    ((batch, labels),) = list(data.loader(train, 12, 0, 1))
    nn.functional.cross_entropy(
        other(data.normalise(batch).contiguous(memory_format=torch.channels_last)), labels
    ).backward()
    weight = other.head[0].weight
    expected = weight - 0.1 * (weight.grad + 5e-4 * weight)
    torch.testing.assert_close(model.head[0].weight, expected.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("schedule, rates", [
    ("constant", [1, 1, 1, 1, 1, 1]), ("step", [1, 1, 0.1, 0.1, 0.01, 0.01]),
    ("cosine", [1, 0.93301, 0.75, 0.5, 0.25, 0.06699]),
])  # fmt: skip
def test_schedules(schedule, rates):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = training.schedule(optimizer, params.Train(**(SETTINGS | {"schedule": schedule, "lr": 1.0})), steps=2)
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(rates, abs=1e-5)


def test_onecycle_peaks_at_the_learning_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = training.schedule(optimizer, params.Train(**(SETTINGS | {"lr": 0.7})), steps=10)
    rates = []
    for _ in range(30):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert max(rates) == pytest.approx(0.7, rel=1e-2) and rates[-1] < 0.01


def test_predictions_and_accuracy(images):
    class Fixed(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, batch):
            return torch.tensor([[2.0, 1.0]]).repeat(len(batch), 1)

    predictions = training.predict(Fixed(), images[1], params.Train(**SETTINGS))
    assert predictions["label"].tolist() == [0, 1] * 3 and predictions["rank"].tolist() == [1, 2] * 3
    assert training.accuracy(predictions) == {"top1": 0.5, "top5": 1.0}


def test_logits_that_are_no_numbers_score_nothing(images):
    model = network()
    model.head[-1].bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="logits are not finite"):
        training.predict(model, images[1], params.Train(**SETTINGS))


def test_a_diverging_loss_is_named(images, tmp_path):
    with pytest.raises(ValueError, match="not finite from step .* of epoch 1 on; takes a lower train.lr"):
        fit(images, tmp_path, lr=1e30)
    assert not (tmp_path / "epoch.pt").exists()


def test_a_batch_larger_than_the_set_is_named(images, tmp_path):
    with pytest.raises(ValueError, match="train.batch_size: got 13; takes up to 12"):
        fit(images, tmp_path, batch_size=13)


def test_a_checkpoint_instead_of_training(images, tmp_path):
    trained, *_ = fit(images, tmp_path / "resume", epochs=1)
    models.save(trained, tmp_path / "masked.safetensors")
    model = network()
    history, record = training.obtain(model, "masked", str(tmp_path), *images, params.Train(**SETTINGS), tmp_path / "none")
    assert torch.equal(model.head[0].weight, trained.head[0].weight) and history.empty and record["epochs"] == 0
    other = models.seeded(0, width=0.125, dense=8, classes=2, batch_norm=True, wall_rows=7, image_size=128)
    with pytest.raises(ValueError, match=r"masked\.safetensors: .* width is 0.0625, not 0.125"):
        training.obtain(other, "masked", str(tmp_path), *images, params.Train(**SETTINGS), tmp_path / "none")


def test_the_checkpoints_name_tells_runs_apart(images):
    train, other = images
    keys = [
        (train, "float32", "masked"),
        (train, "float32", "baseline"),
        (other, "float32", "masked"),
        (train, "bfloat16", "masked"),
    ]
    names = [training.resume_folder(*key).name for key in keys]
    assert len(set(names)) == 4
    path = Path(train.paths[0])
    before = path.read_bytes()
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    assert training.resume_folder(*keys[0]).name != names[0]  # other pixels under the same name
    path.write_bytes(before)
    assert training.resume_folder(*keys[0]).name == names[0]


def kill_and_resume(folder, moments):
    """Start a training in real processes, kill -9 it at the given moments, let `dvc repro` finish it; the weights' bytes."""
    for seconds in moments:
        process = subprocess.Popen(["dvc", "repro", "train@masked"], cwd=folder, env=environment(folder),
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
        deadline = time.monotonic() + 120
        while seconds is None and not list(folder.glob(".resume/*/epoch.pt")) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(seconds or 0)
        for child in psutil.Process(process.pid).children(recursive=True):  # the kernel has a session of its own
            child.kill()
        process.kill()
        process.wait()
    assert None not in moments or list(folder.glob(".resume/*/epoch.pt"))
    run(folder, "dvc", "repro", "train@masked")
    return (folder / "models" / "masked.safetensors").read_bytes()


def test_a_killed_training_ends_with_the_same_bytes(smoke, tmp_path):
    folder = copy_tree(tmp_path / "project", "smoke")
    # None: right after the first epoch's checkpoint
    assert kill_and_resume(folder, [None]) == (smoke / "models" / "masked.safetensors").read_bytes()
    assert not list(folder.glob(".resume/*/*"))


@pytest.mark.long
def test_a_training_killed_at_many_moments_ends_with_the_same_bytes(smoke, tmp_path):
    folder = copy_tree(tmp_path / "project", "smoke")
    moments = [data.stream(seed, "kill").uniform(1, 30) for seed in range(8)]
    assert kill_and_resume(folder, moments) == (smoke / "models" / "masked.safetensors").read_bytes()
