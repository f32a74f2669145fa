"""Ctrl-C, two runs at once, and what a kill leaves of DVC's own notes."""

import json
import os
import signal

import psutil
import pytest
from conftest import fork, run
from helpers.processes import family, forget, interrupt, partials, runner, start, wait_for

from walls.pipeline import locks

pytestmark = pytest.mark.pipeline
WEIGHTS = "models/masked.safetensors"


@pytest.fixture
def waiting(smoke_run, tmp_path):
    """A copy in which the stage wall takes ten minutes, and a command that starts it and comes back
    once it is at work.
    """
    folder = fork(smoke_run, tmp_path / "project")
    file = folder / "notebooks" / "2_wall.ipynb"
    notebook = json.loads(file.read_text())
    codes = (cell for cell in notebook["cells"] if cell["cell_type"] == "code")
    first = next(cell for cell in codes if "tags" not in cell["metadata"])
    lines = ("\n\nimport pathlib, time\n", "pathlib.Path('started').touch()\n", "time.sleep(600)")
    first["source"] += lines
    file.write_text(json.dumps(notebook))

    def begin(*command):
        process = start(folder, *command)
        wait_for((folder / "started").exists, process)
        return process

    return folder, begin


@pytest.mark.long
@pytest.mark.parametrize(
    "command",
    [
        ("dvc", "repro", "--single-item", "train@masked"),
        ("python", "-m", "walls", "run", "train@masked"),
    ],
    ids=["dvc", "run"],
)
def test_ctrl_c_stops_within_five_seconds_and_the_next_run_goes_on(smoke_run, tmp_path, command):
    folder = fork(smoke_run, tmp_path / "project")
    forget(folder, "train@masked")
    (folder / WEIGHTS).unlink()
    process = start(folder, *command)
    wait_for(lambda: list(folder.glob(".resume/*/epoch-*.pt")), process)
    members = len(family(process))
    seconds, alive = interrupt(process)
    errors = process.stderr.read()
    # 5 s where no other work waits for the processors.
    crowd = max(1, os.getloadavg()[0] / os.cpu_count())
    assert members >= 2 and alive == [] and seconds < 5 * crowd, (seconds, crowd, alive)
    assert process.returncode in (130, 255) and "Traceback" not in errors, errors
    assert "train@masked: stopped; run it again to go on" in errors
    (checkpoint,) = folder.glob(".resume/*/epoch-*.pt")
    assert checkpoint.is_file() and not (folder / WEIGHTS).exists() and partials(folder) == []
    run(folder, "python", "-m", "walls", "run", "train@masked")
    assert (folder / WEIGHTS).read_bytes() == (smoke_run / WEIGHTS).read_bytes()
    assert not list(folder.glob(".resume/*/*"))


@pytest.mark.long
def test_two_repros_at_once_one_says_so(waiting):
    folder, begin = waiting
    first = begin("dvc", "repro", "--single-item", "wall")
    second = run(folder, "dvc", "repro", "--single-item", "wall", check=False)
    assert second.returncode != 0 and "it is being blocked by" in second.stderr
    assert f"(PID {first.pid})" in second.stderr
    at_work = runner(first)
    third = run(folder, "python", "-m", "walls", "run", "wall", check=False)
    said = "wall: another process runs it; wait until that one has ended\n"
    assert third.returncode == 1 and third.stderr == said
    assert at_work.is_running() and first.poll() is None  # neither harmed the first
    _, alive = interrupt(first)
    assert alive == []


@pytest.mark.long
def test_a_stage_that_outlived_its_dvc_is_not_run_twice(waiting):
    folder, begin = waiting
    orphaned = begin("dvc", "repro", "--single-item", "wall")
    members, at_work = family(orphaned), runner(orphaned)
    orphaned.kill()
    orphaned.wait()
    again = run(folder, "dvc", "repro", "--single-item", "wall", check=False)
    assert again.returncode != 0 and "wall: another process" in again.stderr
    at_work.kill()  # its kernel follows
    _, alive = psutil.wait_procs(members[1:], timeout=10)
    assert alive == []
    (folder / "started").unlink()
    process = begin("dvc", "repro", "--single-item", "wall")  # and now it runs
    interrupt(process)


@pytest.mark.parametrize(
    "how", [pytest.param(signal.SIGINT, marks=pytest.mark.long), signal.SIGTERM]
)
def test_a_stopped_verify_leaves_nothing_behind(smoke_run, tmp_path, how):
    folder, scratch = fork(smoke_run, tmp_path / "project"), tmp_path / "scratch"
    scratch.mkdir()
    process = start(folder, "env", f"TMPDIR={scratch}", "python", "-m", "walls", "verify")
    wait_for(lambda: runner(process) and list(scratch.glob("*/project/.dvc/tmp/*.lock")), process)
    members = family(process)
    process.send_signal(how)
    assert process.wait(timeout=60) == 130
    assert process.stderr.read().endswith("verify: stopped; nothing was compared\n")
    assert psutil.wait_procs(members, timeout=1)[1] == [] and list(scratch.iterdir()) == []


@pytest.mark.parametrize("torn", ["", "{", '{"write": {"a": 1'])
def test_a_torn_list_of_files_in_use_is_removed(smoke_run, tmp_path, monkeypatch, torn, capsys):
    folder = fork(smoke_run, tmp_path / "project")
    monkeypatch.chdir(folder)
    file = folder / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(exist_ok=True)
    file.write_text(torn)
    if not torn:
        stuck = run(folder, "dvc", "repro", "--dry", check=False)
        assert stuck.returncode != 0 and "JSON structure is corrupted" in stuck.stderr
    locks.unlock()
    assert capsys.readouterr().err == ".dvc/tmp/rwlock: cut short by a kill; removed\n"
    assert not file.exists()
    if not torn:
        assert "up to date" in run(folder, "dvc", "repro", "--dry").stdout


def test_a_torn_lock_is_removed_and_a_whole_one_stays(smoke_run, tmp_path, monkeypatch, capsys):
    """dvc.lock cut at 40 places: what DVC can read stays (its stages run again), what it can't
    goes.
    """
    folder = fork(smoke_run, tmp_path / "project")
    monkeypatch.chdir(folder)
    file = folder / "dvc.lock"
    whole = file.read_text()
    locks.unlock()
    assert file.read_text() == whole and capsys.readouterr().err == ""
    removed = 0
    for length in range(0, len(whole), len(whole) // 40):
        file.write_text(whole[:length])
        locks.unlock()
        said = capsys.readouterr().err
        assert said == ("" if file.exists() else "dvc.lock: cut short by a kill; removed\n")
        removed += not file.exists()
    assert 0 < removed < 40


def test_what_another_process_writes_stays(smoke_run, tmp_path, monkeypatch, capsys):
    """The list is empty for a moment whenever DVC rewrites it; it holds the list's lock
    meanwhile.
    """
    from dvc.lock import make_lock

    folder = fork(smoke_run, tmp_path / "project")
    monkeypatch.chdir(folder)
    file = folder / ".dvc" / "tmp" / "rwlock"
    file.parent.mkdir(exist_ok=True)
    file.write_text("")
    with make_lock(str(file.with_name("rwlock.lock"))):
        locks.unlock()
    assert file.exists() and capsys.readouterr().err == ""
