"""SIGKILL, to DVC and all below it, at moments of every kind of stage: the next `dvc repro` gives
the same bytes.
"""

import time

import pytest
import yaml
from conftest import fork, run
from helpers.processes import forget, kill, results, runner, start, wait_for

from walls.base import seeds

pytestmark = pytest.mark.pipeline
STAGES = ["data", "train@masked", "stacks", "cams@stack-mix", "render"]
WEIGHTS = "models/masked.safetensors"
MOMENTS = 4  # of each stage, 20 in all


def begin(folder, stage):
    forget(folder, stage)
    return start(folder, "dvc", "repro", "--single-item", stage)


def finish(folder, smoke_run):
    """`dvc repro` of everything, after a kill that may have torn DVC's own notes, as `make repro`
    does it; what it said.
    """
    run(folder, "python", "-m", "walls", "unlock")
    done = run(folder, "dvc", "repro")
    assert "up to date" in run(folder, "dvc", "status").stdout
    ours, theirs = (yaml.safe_load((copy / "dvc.lock").read_text()) for copy in (folder, smoke_run))
    assert ours == theirs
    changed = run(folder, "git", "status", "--porcelain").stdout.split()
    assert changed in ([], ["M", "dvc.lock"])  # its stages in another order
    assert results(folder) == results(smoke_run) and not list(folder.glob(".resume/*/*"))
    return done.stdout


@pytest.mark.parametrize(
    "stage, mark",
    [
        pytest.param(  # the first checkpoint, whole or still partial
            "train@masked", ".resume/*/epoch-*", marks=pytest.mark.long
        ),
        pytest.param(  # the first batch
            "cams@stack-mix", ".resume/cams-stack-mix/*", marks=pytest.mark.long
        ),
        ("render", "rendered/*"),  # the first page
    ],
)
def test_a_stage_killed_as_it_writes_is_made_again(smoke_run, tmp_path, stage, mark):
    folder = fork(smoke_run, tmp_path / "project")
    before = set(folder.glob(mark))
    process = begin(folder, stage)
    # DVC removes what lay there.
    wait_for(lambda: before - set(folder.glob(mark)) or not before, process)
    wait_for(lambda: list(folder.glob(mark)), process)
    kill(process)
    assert f"Running stage '{stage}'" in finish(folder, smoke_run)


@pytest.mark.long
def test_outputs_that_dvc_has_not_recorded_are_made_again(smoke_run, tmp_path):
    """Killed between the stage's end and dvc.lock's writing; and an output cut in half isn't taken
    for whole.
    """
    folder = fork(smoke_run, tmp_path / "project")
    process = begin(folder, "wall")
    wait_for(lambda: runner(process), process)
    runner(process).wait()
    kill(process)
    file = folder / "runs" / "wall" / "masked.json"
    file.write_bytes(file.read_bytes()[:40])
    assert "Stage 'wall' didn't change" not in finish(folder, smoke_run)


@pytest.mark.long
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_killed_at_random_moments_is_made_again(smoke_run, tmp_path, stage):
    """At moments drawn from the time that an undisturbed run takes, DVC's own work before and after
    it included.
    """
    folder = fork(smoke_run, tmp_path / "project")
    begun = time.monotonic()
    begin(folder, stage).communicate()
    whole, made_again = time.monotonic() - begun, 0
    for moment in range(MOMENTS):
        process = begin(folder, stage)
        time.sleep(seeds.stream(moment, "kill", stage).uniform(0, whole))
        kill(process)
        made_again += f"Running stage '{stage}'" in finish(folder, smoke_run)
    assert made_again > 0


@pytest.mark.long
def test_a_training_killed_again_and_again_ends_with_the_same_bytes(smoke_run, tmp_path):
    """Eight kills without a whole run between them; and workers load the images, which changes no
    byte either.
    """
    folder = fork(smoke_run, tmp_path / "project")
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("workers: 0", "workers: 2"))
    for number in range(8):
        process = start(folder, "dvc", "repro", "train@masked")
        time.sleep(seeds.stream(number, "kill").uniform(1, 30))
        kill(process)
        run(folder, "python", "-m", "walls", "unlock")
    run(folder, "dvc", "repro", "train@masked")
    assert (folder / WEIGHTS).read_bytes() == (smoke_run / WEIGHTS).read_bytes()
    assert not list(folder.glob(".resume/*/*"))
