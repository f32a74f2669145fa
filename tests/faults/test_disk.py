"""A full disk, and folders that take no file: one line, exit code 1, nothing lost, and the next run
goes on.
"""

import resource
import shutil

import pytest
from conftest import fork, run
from helpers.processes import kill, partials, start, wait_for

pytestmark = pytest.mark.pipeline
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
def trained_half(smoke_run, tmp_path_factory):
    """A training killed after its first epoch."""
    folder = fork(smoke_run, tmp_path_factory.mktemp("disk") / "project")
    (folder / WEIGHTS).unlink()
    process = start(folder, "python", "-m", "walls", "run", "train@masked")
    wait_for(lambda: list(folder.glob(".resume/*/epoch-*.pt")), process)
    kill(process)
    return folder


@pytest.mark.parametrize(
    "command",
    [("train", "masked"), pytest.param(("run", "train@masked"), marks=pytest.mark.long)],
    ids=["training", "run"],
)
def test_a_full_disk_keeps_the_last_checkpoint(smoke_run, trained_half, tmp_path, command):
    folder = shutil.copytree(trained_half, tmp_path / "project")
    (checkpoint,) = folder.glob(".resume/*/epoch-*.pt")
    before = checkpoint.read_bytes()
    walls = ("python", "-m", "walls")
    full = start(folder, *walls, *command, preexec_fn=limited(len(before) // 2))
    assert "File too large" in one_line(full)
    assert checkpoint.read_bytes() == before
    assert not (folder / WEIGHTS).exists() and partials(folder) == []
    run(folder, "python", "-m", "walls", "run", "train@masked")
    assert (folder / WEIGHTS).read_bytes() == (smoke_run / WEIGHTS).read_bytes()


@pytest.mark.long
def test_a_disk_too_full_for_the_weights_keeps_the_training(smoke_run, trained_half, tmp_path):
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
    assert (folder / WEIGHTS).read_bytes() == (smoke_run / WEIGHTS).read_bytes()
    assert not list(folder.glob(".resume/*/*"))


@pytest.mark.parametrize(
    "command, place",
    [
        ("run train@masked", ".resume"),
        ("run stacks", "runs/stacks"),
        ("run render", "rendered"),
        ("readme", "README.md.partial"),
    ],
)
def test_a_place_that_takes_no_file_is_named(smoke_run, tmp_path, command, place):
    """Even root can't write into a file as into a folder, or into a folder as into a file."""
    folder = fork(smoke_run, tmp_path / "project")
    taken = folder / place
    if command == "readme":
        taken.mkdir()
    else:
        shutil.rmtree(taken, ignore_errors=True)
        taken.touch()
    readme, weights = (folder / "README.md").read_bytes(), (folder / WEIGHTS).read_bytes()
    line = one_line(start(folder, "python", "-m", "walls", *command.split()))
    assert line.startswith("[Errno") and place in line, line
    assert (folder / "README.md").read_bytes() == readme
    assert (folder / WEIGHTS).read_bytes() == weights
