"""A training that was stopped, or that another machine or several processes go on with: the same bytes."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, run
from helpers.imports import closure
from helpers.training_runs import (
    SETTINGS,
    drawn_images,
    equal,
    fit,
    network,
    plain_images,
    plain_run,
)
from PIL import Image

from walls.training import job, loop
from walls.training.settings import Train


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    return drawn_images(tmp_path_factory.mktemp("set"))


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


PROCESSES = """
import faulthandler
import sys
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from helpers.training_runs import SETTINGS, fit, network, plain_run, read_plain
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


def test_a_look_at_a_training_changes_nothing_of_it(images, tmp_path):
    """Whoever watches may draw at random and put the network into evaluation mode meanwhile."""
    plain, _, _ = fit(images, tmp_path / "plain", epochs=2)
    model, seen = network(), []

    def watch(steps):
        torch.manual_seed(5)
        model.eval()
        seen.append((steps, model(torch.rand(1, 3, 128, 128)).sum().item()))
        model.train()

    settings = Train(**(SETTINGS | {"epochs": 2}))
    loop.train(model, *images, settings, tmp_path / "watched", watch)
    assert [steps for steps, _ in seen] == list(range(7))  # 3 steps an epoch, and before them
    assert len({value for _, value in seen}) == 7 and equal(plain, model)
