"""The training loop: its step, its schedules, its scores, and a loss that diverges."""

import gc
from functools import partial

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from helpers.training_runs import (
    SETTINGS,
    drawn_images,
    equal,
    fit,
    network,
    plain_images,
    plain_run,
)
from torch import nn

from walls.base import seeds
from walls.images import loaders, transforms
from walls.network import architecture, certificate, checkpoints
from walls.training import job, loop
from walls.training.settings import Train


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return drawn_images(tmp_path_factory.mktemp("set"))


def test_parts_of_a_batch_take_the_whole_batchs_step(tmp_path):
    images = plain_images(tmp_path)
    whole = plain_run(images, tmp_path / "1", epochs=3)
    parts = plain_run(images, tmp_path / "4", epochs=3, accumulate=4)
    np.testing.assert_allclose(whole[0], parts[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole[1], parts[1], rtol=0, atol=1e-12)


@pytest.mark.long
@pytest.mark.bulk
def test_memory_stays_flat(images, tmp_path, monkeypatch):
    kept, used = loop._keep, []
    rss = psutil.Process().memory_info
    monkeypatch.setattr(loop, "_keep", lambda *a: (kept(*a), gc.collect(), used.append(rss().rss)))
    fit(images, tmp_path, epochs=10, precision="bfloat16")
    # An epoch's images are 2.4 MB, a network's weights and gradients as much.
    assert max(used[5:]) - max(used[:5]) < 2e6


def test_training_changes_the_weights_and_records_what_it_did(images, tmp_path):
    model, history, record = fit(images, tmp_path)
    assert not torch.equal(model.head[0].weight, network().head[0].weight)
    assert history.columns.tolist() == ["epoch", "train_loss", "top1", "top5"] and len(history) == 3
    assert record == {"precision": "float32", "device": "cpu", "epochs": 3, "images_seen": 36}
    assert certificate.certify(model, 128).holds


def test_the_masked_training_never_reads_the_dead_zone(images, tmp_path, monkeypatch):
    first, *_ = fit(images, tmp_path / "a", epochs=1)
    original = transforms.on_device

    def blacked(*arguments):
        out = original(*arguments)
        out[:, :, 106:] = 50.0
        return out

    monkeypatch.setattr(transforms, "on_device", blacked)
    second, *_ = fit(images, tmp_path / "b", epochs=1)
    assert equal(first, second)


def test_on_a_cpu_a_steps_features_lie_row_by_row(images, tmp_path, monkeypatch):
    """Channels-last, batch norm's backward pass took half of a step in bfloat16."""
    seen, original = set(), nn.BatchNorm2d.forward

    def watched(self, x):
        if self.training:
            seen.add(x.is_contiguous())
        return original(self, x)

    monkeypatch.setattr(nn.BatchNorm2d, "forward", watched)
    fit(images, tmp_path, epochs=1)
    assert seen == {True}


def test_sgd_is_the_textbooks(images, tmp_path):
    """One step by hand: v = g + λw; w - lr·v."""
    train = images[0]
    model, *_ = fit(images, tmp_path, epochs=1, batch_size=12, schedule="constant", lr=0.1)
    other = network().train()
    ((batch, labels, flips),) = list(loaders.loader(train, 12, 0, [1]))
    torch.manual_seed(int(seeds.stream(0, "dropout", 1, 0).integers(2**63)))
    nn.functional.cross_entropy(
        other(
            transforms.on_device(batch, flips, torch.device("cpu"), layout=torch.contiguous_format)
        ),
        labels,
    ).backward()
    weight = other.head[0].weight
    expected = weight - 0.1 * (weight.grad + 5e-4 * weight)
    torch.testing.assert_close(model.head[0].weight, expected.detach(), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize(
    "schedule, rates",
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("step", [1, 1, 0.1, 0.1, 0.01, 0.01]),
        ("cosine", [1, 0.93301, 0.75, 0.5, 0.25, 0.06699]),
    ],
)
def test_schedules(schedule, rates):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = loop.schedule(
        optimizer, Train(**(SETTINGS | {"schedule": schedule, "lr": 1.0})), steps=2
    )
    seen = []
    for _ in range(6):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert seen == pytest.approx(rates, abs=1e-5)


def test_onecycle_peaks_at_the_learning_rate():
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 1.0)
    scheduler = loop.schedule(optimizer, Train(**(SETTINGS | {"lr": 0.7})), steps=10)
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

        def scores(self, parts):
            return torch.tensor([[2.0, 1.0]]).repeat(sum(map(len, parts)), 1)

    predictions = loop.predict(Fixed(), images[1], Train(**SETTINGS))
    assert predictions["label"].tolist() == [0, 1] * 3
    assert predictions["rank"].tolist() == [1, 2] * 3
    assert loop.accuracy(predictions) == {"top1": 0.5, "top5": 1.0}


def test_logits_that_are_no_numbers_score_nothing(images):
    model = network()
    model.head[-1].bias.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="logits are not finite"):
        loop.predict(model, images[1], Train(**SETTINGS))


@pytest.mark.parametrize(
    "flags, found", [("sse4_2 avx512_bf16 amx_tile", "bfloat16"), ("sse4_2 avx2", "float32"), ("", "float32")]
)  # fmt: skip
def test_auto_is_what_the_processor_has_in_hardware(monkeypatch, flags, found):
    monkeypatch.setattr(loop, "_cpu_flags", lambda: flags)
    assert loop.resolve("auto", torch.device("cpu")) == found
    assert loop.resolve("float16", torch.device("cpu")) == "float16"


def test_a_diverging_loss_is_named(images, tmp_path):
    told = r"^the loss is not finite from step \d+ of epoch 1 on; takes a lower train\.lr$"
    with pytest.raises(ValueError, match=told):
        fit(images, tmp_path, lr=1e30)
    assert not list(tmp_path.iterdir())


def test_a_long_epoch_stops_within_fifty_steps_of_the_first_infinite_loss(tmp_path, monkeypatch):
    """A look at the loss waits for the device: every fifty steps, and at the epoch's end."""
    images, calls = plain_images(tmp_path), []
    many = loaders.Images(pd.concat([loaders.read_manifest(tmp_path, "train")] * 15), 128)

    def diverging(logits, labels):
        calls.append(1)
        return logits.sum() * (torch.inf if len(calls) == 30 else 0)

    monkeypatch.setattr(loop, "cross_entropy", diverging)
    with pytest.raises(ValueError, match="from step 30 of epoch 1 on"):
        fit((many, images[1]), tmp_path / "resume", batch_size=2)
    assert len(calls) == 50


def test_a_loss_that_diverges_later_leaves_the_last_good_epoch(images, tmp_path, monkeypatch):
    real, calls = loop.cross_entropy, []

    def diverging(*arguments):
        calls.append(1)
        return real(*arguments) * (torch.inf if len(calls) == 8 else 1)

    monkeypatch.setattr(loop, "cross_entropy", diverging)
    with pytest.raises(ValueError, match="from step 2 of epoch 3 on"):
        fit(images, tmp_path)
    monkeypatch.undo()
    (kept,) = tmp_path.iterdir()
    saved = torch.load(kept)
    assert len(saved["history"]) == 2
    assert all(torch.isfinite(weight).all() for weight in saved["model"].values())
    assert equal(fit(images, tmp_path)[0], fit(images, tmp_path / "whole")[0])  # it was good


@pytest.mark.bulk
def test_float16_scales_its_loss_and_leaves_out_what_overflows(images, tmp_path, monkeypatch):
    _, history, record = fit(images, tmp_path / "a", precision="float16")
    exact = fit(images, tmp_path / "b")[1]
    assert record["precision"] == "float16"
    assert np.allclose(history["train_loss"], exact["train_loss"], rtol=0.05)
    monkeypatch.setattr(torch.amp, "GradScaler", partial(torch.amp.GradScaler, init_scale=2.0**60))
    kept, schedulers = loop._keep, []
    monkeypatch.setattr(
        loop, "_keep", lambda *a: (kept(*a), schedulers.append(a[1].get("scheduler")))
    )
    model, *_ = fit(images, tmp_path / "c", precision="float16")
    assert schedulers[0]["last_epoch"] == 0  # a step left out is none of the schedule's
    # Nine steps at most halve it to 2⁵¹.
    assert torch.equal(model.head[0].weight, network().head[0].weight)


def test_a_batch_larger_than_the_set_is_named(images, tmp_path):
    with pytest.raises(ValueError, match=r"train\.batch_size: got 13; takes up to 12"):
        fit(images, tmp_path, batch_size=13)


def test_a_checkpoint_instead_of_training(images, tmp_path):
    trained, *_ = fit(images, tmp_path / "resume", epochs=1)
    checkpoints.save(trained, tmp_path / "masked.safetensors")
    model = network()
    history, record = job.obtain(
        model, "masked", str(tmp_path), *images, Train(**SETTINGS), tmp_path / "none"
    )
    assert torch.equal(model.head[0].weight, trained.head[0].weight)
    assert history.empty and record["epochs"] == 0
    other = architecture.seeded(
        0, width=0.125, dense=8, classes=2, batch_norm=True, wall_rows=7, image_size=128
    )
    with pytest.raises(ValueError, match=r"masked\.safetensors: .* width is "):
        job.obtain(other, "masked", str(tmp_path), *images, Train(**SETTINGS), tmp_path / "none")
