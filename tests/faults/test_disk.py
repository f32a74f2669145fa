"""A full disk, and folders that take no file: one line, exit code 1, nothing lost, and the next run
goes on.
"""

import resource
import shutil

import pytest
from conftest import run
from processes import fork, kill, partials, start, wait_for

WEIGHTS = "models/masked.safetensors"


def limited(size):
    """Files may not grow beyond `size` bytes: writing more fails as on a full disk, with an
    OSError.
    """
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


def one_line(process):
    """The last line of what a failed command says, after those that only tell how far it came; no
    traceback.
    """
    _, errors = process.communicate()
    assert process.returncode == 1 and "Traceback" not in errors, errors
    return errors.strip().splitlines()[-1]


@pytest.fixture(scope="module")
def trained_half(smoke, tmp_path_factory):
    """A training killed after its first epoch."""
    folder = fork(smoke, tmp_path_factory.mktemp("disk") / "project")
    (folder / WEIGHTS).unlink()
    process = start(folder, "python", "-m", "walls", "run", "train@masked")
    wait_for(lambda: list(folder.glob(".resume/*/epoch-*.pt")), process)
    kill(process)
    return folder


@pytest.mark.parametrize("command", [
    ("walls", "train", "masked"), pytest.param(("walls", "run", "train@masked"), marks=pytest.mark.long),
], ids=["training", "run"])  # fmt: skip
def test_a_full_disk_keeps_the_last_checkpoint(smoke, trained_half, tmp_path, command):
    folder = shutil.copytree(trained_half, tmp_path / "project")
    (checkpoint,) = folder.glob(".resume/*/epoch-*.pt")
    before = checkpoint.read_bytes()
    full = start(folder, "python", "-m", *command, preexec_fn=limited(len(before) // 2))
    assert "File too large" in one_line(full)
    assert (
        checkpoint.read_bytes() == before
        and not (folder / WEIGHTS).exists()
        and partials(folder) == []
    )
    run(folder, "python", "-m", "walls", "run", "train@masked")
    assert (folder / WEIGHTS).read_bytes() == (smoke / WEIGHTS).read_bytes()


@pytest.mark.long
def test_a_disk_too_full_for_the_weights_keeps_the_training(smoke, trained_half, tmp_path):
    """Checkpoints fit, the results don't, here for a file in their folder's place: what was trained
    is not lost.
    """
    folder = shutil.copytree(trained_half, tmp_path / "project")
    shutil.move(folder / "models", folder / "elsewhere")
    (folder / "models").touch()
    stopped = start(folder, "python", "-m", "walls", "run", "train@masked")
    line = one_line(stopped)
    assert "models" in line and line.startswith("[Errno"), line
    (finished,) = folder.glob(".resume/*/*")
    assert finished.name == "finished.pt"
    (folder / "models").unlink()
    shutil.move(folder / "elsewhere", folder / "models")
    run(folder, "python", "-m", "walls", "run", "train@masked")
    assert (folder / WEIGHTS).read_bytes() == (smoke / WEIGHTS).read_bytes() and not list(
        folder.glob(".resume/*/*")
    )


@pytest.mark.parametrize("stage, place", [("train@masked", ".resume"), ("stacks", "runs/stacks"), ("render", "rendered"),
                                          ("readme", "README.md.partial")])  # fmt: skip
def test_a_place_that_takes_no_file_is_named(smoke, tmp_path, stage, place):
    """Even root can't write into a file as into a folder, or into a folder as into a file."""
    folder = fork(smoke, tmp_path / "project")
    taken = folder / place
    if stage == "readme":
        taken.mkdir()
    else:
        shutil.rmtree(taken, ignore_errors=True)
        taken.touch()
    readme, weights = (folder / "README.md").read_bytes(), (folder / WEIGHTS).read_bytes()
    refused = start(folder, "python", "-m", "walls", "run", stage)
    line = one_line(refused)
    assert line.startswith("[Errno") and str(place) in line, line
    assert (folder / "README.md").read_bytes() == readme and (
        folder / WEIGHTS
    ).read_bytes() == weights
