"""The training loop: resumed runs give the same bytes, the schedule and the score are what they
say.
"""

import gc
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from conftest import ROOT, run
from imports import closure
from PIL import Image
from torch import nn

from walls.base import seeds
from walls.images import loaders, transforms
from walls.network import architecture, certificate, checkpoints
from walls.project import commands
from walls.sources import manifest
from walls.sources.settings import Data
from walls.training import job, loop
from walls.training.settings import Train

SETTINGS = {
    "epochs": 3,
    "batch_size": 4,
    "accumulate": 1,
    "lr": 0.02,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "onecycle",
    "precision": "float32",
    "compile": False,
    "workers": 0,
}


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp("set")
    manifest.build(
        Data(name="critters", root=None, classes=2, train_images=12, val_images=6), 0, 128, folder
    )
    train = loaders.Images(loaders.read_manifest(folder, "train"), 128, (0.6, 1.0), seed=0)
    return train, loaders.Images(loaders.read_manifest(folder, "val"), 128)


def network():
    return architecture.seeded(
        0, width=0.0625, dense=8, classes=2, batch_norm=True, wall_rows=7, image_size=128
    )


def fit(images, resume, **changes):
    model = network()
    history, record = loop.train(model, *images, Train(**(SETTINGS | changes)), resume)
    return model, history, record


def equal(one, other):
    return all(
        torch.equal(a, b)
        for a, b in zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    )


def plain_images(folder):
    """8 training images and 5 to validate on, 128 pixels."""
    manifest.build(
        Data(name="critters", root=None, classes=2, train_images=8, val_images=5), 0, 128, folder
    )
    return read_plain(folder)


def read_plain(folder):
    train = loaders.Images(loaders.read_manifest(folder, "train"), 128, (0.5, 1.0), seed=0)
    return train, loaders.Images(loaders.read_manifest(folder, "val"), 128)


def plain_run(images, resume, **changes):
    """20 steps, two an epoch, in float64 without batch norm and dropout: the losses and the
    weights.
    """
    model = architecture.seeded(
        0,
        width=0.0625,
        dense=8,
        classes=2,
        batch_norm=False,
        wall_rows=7,
        image_size=128,
        dropout=0.0,
    )
    usual = SETTINGS | {"epochs": 10, "batch_size": 4, "schedule": "constant", "lr": 1.0}
    history, _ = loop.train(model.double(), *images, Train(**usual | changes), resume)
    weights = torch.cat([p.detach().flatten() for p in model.parameters()])
    return history["train_loss"].to_numpy(), weights.numpy()


def stop_after(count, kept):
    """`training._keep`, and an interrupt right after the `count`-th."""
    written = []

    def keep(file, saved):
        kept(file, saved)
        written.append(file)
        if len(written) == count:
            raise KeyboardInterrupt

    return keep


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"schedule": "onecycle", "workers": 2}, marks=pytest.mark.bulk),
        {"schedule": "step", "accumulate": 2},
    ],
)
def test_an_interrupted_run_ends_with_the_same_bytes(images, tmp_path, monkeypatch, changes):
    whole, history, _ = fit(images, tmp_path / "whole", **changes)
    kept, written = loop._keep, []
    monkeypatch.setattr(loop, "_keep", stop_after(2, kept))
    with pytest.raises(KeyboardInterrupt):
        fit(images, tmp_path / "broken", **changes)
    monkeypatch.setattr(
        loop, "_keep", lambda file, saved: (written.append(file.name), kept(file, saved))
    )
    resumed, again, _ = fit(images, tmp_path / "broken", **changes)
    assert equal(whole, resumed)
    pd.testing.assert_frame_equal(history, again, check_exact=True)
    assert [name[:6] for name in written] == ["epoch-", "finish"]  # one epoch was left to do


def test_a_finished_run_is_taken_up_on_any_machine(images, tmp_path, monkeypatch):
    """What `accelerate launch` leaves for the notebook: other threads and processes than trained
    find the weights.
    """
    trained, history, record = fit(images, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["finished.pt"]
    monkeypatch.setattr(loop, "_machine", lambda *_: "another")
    monkeypatch.setattr(loop, "_keep", None)  # nothing is left to do
    model, again, same = fit(images, tmp_path)
    assert equal(trained, model) and same == record and not model.training
    pd.testing.assert_frame_equal(history, again, check_exact=True)


def test_half_a_run_goes_on_in_its_own_kind_alone(images, tmp_path, monkeypatch):
    kept = loop._keep
    monkeypatch.setattr(loop, "_keep", stop_after(1, kept))
    with pytest.raises(KeyboardInterrupt):
        fit(images, tmp_path)
    monkeypatch.setattr(loop, "_machine", lambda *_: "another")
    epochs: list[int] = []
    monkeypatch.setattr(
        loop, "_keep", lambda file, saved: (epochs.append(len(saved["history"])), kept(file, saved))
    )
    fit(images, tmp_path)
    assert epochs == [1, 2, 3, 3]


def test_parts_of_a_batch_take_the_whole_batchs_step(tmp_path):
    images = plain_images(tmp_path)
    whole = plain_run(images, tmp_path / "1", epochs=3)
    parts = plain_run(images, tmp_path / "4", epochs=3, accumulate=4)
    np.testing.assert_allclose(whole[0], parts[0], rtol=0, atol=1e-12)
    np.testing.assert_allclose(whole[1], parts[1], rtol=0, atol=1e-12)


PROCESSES = """
import faulthandler
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from test_training import SETTINGS, fit, network, plain_run, read_plain
from walls.training import loop
from walls.training.settings import Train

faulthandler.dump_traceback_later(300, exit=True)  # a test that hangs is a test that fails
folder = Path(sys.argv[1])
accelerator = Accelerator(cpu=True)
rank = accelerator.process_index
images = read_plain(folder)
losses, weights = plain_run(images, folder / "same", accumulate=2)
taken_up, _ = plain_run(images, folder / ("same", "another machine")[rank], accumulate=2)
normed, *_ = fit(images, folder / "normed", epochs=1)
one, all = [
    loop.predict(network(), images[1], Train(**SETTINGS), who) for who in (None, accelerator)
]
statistics = torch.cat([b.flatten().float() for b in normed.buffers()])
np.savez(
    folder / f"same{rank}.npz",
    losses=losses,
    weights=weights,
    taken_up=taken_up,
    one=one,
    all=all,
    statistics=statistics,
    allow_pickle=True,
)
real, calls = loop.cross_entropy, []


def diverging(*arguments):
    calls.append(1)
    return real(*arguments) * (torch.nan if len(calls) == 6 else 1)


if rank == 1:
    # Two steps an epoch in two parts: the first step of the second epoch, in one of the processes.
    loop.cross_entropy = diverging
for name, changes in {"diverges": {}, "odd": {"batch_size": 2}}.items():
    try:
        plain_run(images, folder / name, accumulate=2, **changes)
    except ValueError as error:
        (folder / f"{name}{rank}.txt").write_text(str(error))
"""


@pytest.mark.bulk
def test_two_processes_take_the_steps_of_one(tmp_path):
    """Losses and weights of 20 steps in float64, scores, checkpoints; and what one can't go on with
    stops both.
    """
    images = plain_images(tmp_path)
    losses, weights = plain_run(images, tmp_path / "one")
    (tmp_path / "script.py").write_text("import sys; sys.path.insert(0, 'tests')\n" + PROCESSES)
    launch = ("python", "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
    run(ROOT, *launch, str(tmp_path / "script.py"), str(tmp_path))
    statistics = []
    for rank in (0, 1):
        found = np.load(tmp_path / f"same{rank}.npz", allow_pickle=True)
        assert len(losses) == 10 and np.ptp(losses) > 0.01
        np.testing.assert_allclose(found["losses"], losses, rtol=0, atol=1e-9)
        np.testing.assert_allclose(found["weights"], weights, rtol=0, atol=1e-9)
        # Only the first process's machine had the checkpoint; scores are of all images; statistics
        # are the first one's.
        assert np.array_equal(found["taken_up"], found["losses"])
        assert np.array_equal(found["one"], found["all"])
        statistics.append(found["statistics"])
        diverged = (tmp_path / f"diverges{rank}.txt").read_text()
        assert "from step 1 of epoch 2 on" in diverged
        odd = "got 2; takes a multiple of 4, the processes times train.accumulate (2 × 2)"
        assert odd in (tmp_path / f"odd{rank}.txt").read_text()
    assert np.array_equal(*statistics)
    (kept,) = (tmp_path / "diverges").iterdir()
    assert len(torch.load(kept)["history"]) == 1  # the last good epoch


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


def test_sgd_is_the_textbooks(images, tmp_path):
    """One step by hand: v = g + λw; w - lr·v."""
    train = images[0]
    model, *_ = fit(images, tmp_path, epochs=1, batch_size=12, schedule="constant", lr=0.1)
    other = network().train()
    other.features.to(memory_format=torch.channels_last)
    ((batch, labels, flips),) = list(loaders.loader(train, 12, 0, [1]))
    torch.manual_seed(int(seeds.stream(0, "dropout", 1, 0).integers(2**63)))
    nn.functional.cross_entropy(
        other(transforms.on_device(batch, flips, torch.device("cpu"))), labels
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


def test_a_diverging_loss_is_named(images, tmp_path):
    told = r"^the loss is not finite from step \d+ of epoch 1 on; takes a lower train\.lr$"
    with pytest.raises(ValueError, match=told):
        fit(images, tmp_path, lr=1e30)
    assert not list(tmp_path.iterdir())


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


def test_the_checkpoints_name_tells_runs_apart(images):
    train, other = images
    keys = [
        (train, "float32", "masked"),
        (train, "float32", "baseline"),
        (other, "float32", "masked"),
        (train, "bfloat16", "masked"),
    ]
    names = [job.resume_folder(*key).name for key in keys]
    assert len(set(names)) == 4
    path = Path(train.paths[0])
    before = path.read_bytes()
    Image.fromarray(255 - np.array(Image.open(path))).save(path)
    assert job.resume_folder(*keys[0]).name != names[0]  # other pixels under the same name
    path.write_bytes(before)
    assert job.resume_folder(*keys[0]).name == names[0]


def test_the_checkpoints_name_stands_for_all_the_code(images, tmp_path, monkeypatch):
    """Every module that `job` imports, transitively, but for what no weight follows from."""
    walls = ROOT / "src" / "walls"
    apart = ("base/fields", "base/files", "base/messages", "base/paths", "base/progress")
    apart += ("network/checkpoints", "training/authors", "training/settings")
    needed = {ROOT / file for file in closure(walls / "training" / "job.py")}
    named = {Path(module.__file__) for module in job.MODULES}
    assert named == needed - {walls / f"{name}.py" for name in apart}
    name = job.resume_folder(images[0]).name
    for module in (job, *job.MODULES):
        code = tmp_path / "changed.py"
        code.write_text(Path(module.__file__).read_text() + "# another\n")
        with monkeypatch.context() as patch:
            patch.setattr(module, "__file__", str(code))
            assert job.resume_folder(images[0]).name != name, module
    assert job.resume_folder(images[0]).name == name


@pytest.mark.parametrize(
    "which, old, new, message",
    [
        ("both", "", "", "train: got both; takes masked, masked-1 or baseline"),
        ("masked-2", "", "", "train: got masked-2; takes masked, masked-1 or baseline"),
        ("masked", "", "", "runs/wall/masked.json: not there; takes a `dvc repro wall` first"),
        ("masked", "rows: 7", "rows: nine", "wall.rows: got 'nine'"),
        ("masked", "checkpoint: null", "checkpoint: models", "model.checkpoint: got models, "),
    ],
)
def test_the_command_says_what_it_takes(tmp_path, monkeypatch, capsys, which, old, new, message):
    text = (ROOT / "presets" / "smoke.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "models").mkdir()
    for name in (*job.WHICH, "masked-1"):
        (tmp_path / "models" / f"{name}.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert commands.main(["train", which]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(message) and "\n" not in said


@pytest.mark.pipeline
def test_the_notebook_takes_what_a_launch_has_trained(smoke, tmp_path):
    folder = shutil.copytree(smoke, tmp_path / "project")
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 1"))
    launch = ("python", "-m", "accelerate.commands.launch", "--cpu")
    launch += ("--num_cpu_threads_per_process=2", "-m", "walls")
    launched = run(folder, *launch, "train", "baseline")
    (finished,) = folder.glob(".resume/*/finished.pt")
    assert "baseline: 1 epochs in float32 on cpu" in launched.stdout
    file = folder / "models" / "baseline.safetensors"
    weights, before = torch.load(finished)["model"], file.read_bytes()
    run(folder, "python", "-m", "walls", "run", "train@baseline")  # what `dvc repro` calls
    after = checkpoints.load(file).state_dict()
    assert all(torch.equal(weights[name], after[name]) for name in after)
    assert file.read_bytes() != before and not list(folder.glob(".resume/*/*"))
