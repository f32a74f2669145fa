"""`walls evaluate`: several processes give what one gives, one that dies, what the notebook takes."""

import os
import shutil
import signal
from dataclasses import replace

import psutil
import pytest
import torch
from conftest import ROOT, fork, run
from helpers.evaluations import ZONE, pictures, settings
from helpers.processes import start, wait_for
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from walls.project import commands
from walls.saliency import evaluation, kept
from walls.saliency.processes import Processes

ONE = ("env", "OMP_NUM_THREADS=1")
TORCHRUN = (*ONE, "torchrun", "--standalone", "--nproc-per-node")
ACCELERATE = (*ONE, "python", "-m", "accelerate.commands.launch", "--cpu", "--num_processes")
COMMAND = ("-m", "walls", "evaluate", "stack-mix")

SCRIPT = """
import sys
from pathlib import Path

sys.path.insert(0, "tests")
import torch
from conftest import fork, make_tiny
from helpers.evaluations import ZONE, pictures, settings
from walls.saliency import evaluation
from walls.saliency.processes import launched

folder = Path(sys.argv[1])
with launched() as processes:
    wanted = settings(batch_size=2)
    found = evaluation.evaluate(make_tiny(), pictures(5), wanted, ZONE, folder, processes)
    found[0].to_csv(folder / f"{processes.rank}.csv", index=False)
    torch.save(found[1], folder / f"{processes.rank}.pt")
"""


@pytest.fixture
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.bulk
def test_two_processes_give_the_table_of_one(tiny, tmp_path, one_thread):
    """To the byte, each of them, and what the first leaves in the folder; the last batch is
    short.
    """
    (tmp_path / "script.py").write_text(SCRIPT)
    run(ROOT, *TORCHRUN, "2", str(tmp_path / "script.py"), str(tmp_path))
    wanted, folder = settings(batch_size=2), tmp_path / "one"
    table, maps = evaluation.evaluate(tiny, pictures(5), wanted, ZONE, folder, Processes())
    alone = table.to_csv(index=False)
    assert alone.count("\n") == 1 + 2 * 5 and len({*alone.split("\n")}) == 12
    for rank in range(2):
        assert (tmp_path / f"{rank}.csv").read_text() == alone
        found = torch.load(tmp_path / f"{rank}.pt")
        assert all(torch.equal(found[name], maps[name]) for name in maps | found)
    assert (tmp_path / kept.FINISHED).read_bytes() == (folder / kept.FINISHED).read_bytes()


@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_shares_are_put_together_in_order(tiny, ranks, monkeypatch):
    """Every n-th batch each, whose pictures alone are read; of seven four have none of the three."""
    read, shares = [], []

    class Pictures:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            read.append((index.start, index.stop))
            return pictures(5)[index]

    class Found(Exception):
        pass

    def told(self, mine):
        shares.append(mine)
        raise Found

    def evaluate(rank, images):
        among = Processes(rank, ranks)
        return evaluation.evaluate(tiny, images, settings(batch_size=2), ZONE, None, among)

    table, maps = evaluation.evaluate(tiny, pictures(5), settings(batch_size=2), ZONE)
    monkeypatch.setattr(Processes, "gather", told)
    for rank in range(ranks):
        read.clear()
        with pytest.raises(Found):
            evaluate(rank, Pictures())
        assert read == [(0, 2), (2, 4), (4, 5)][rank::ranks]
    monkeypatch.setattr(Processes, "gather", lambda self, mine: shares)
    again, found = evaluate(0, pictures(5))
    assert again.equals(table) and all(torch.equal(found[name], maps[name]) for name in maps)


def test_a_finished_evaluation_is_taken_on_any_machine(tiny, tmp_path, monkeypatch):
    """Half of one isn't; nor is it taken where a picture, or the question, is another."""
    images = pictures(5)
    computed, maps = [], evaluation._batch_maps

    def counted(model, batch, *rest):
        computed.append(len(batch))
        return maps(model, batch, *rest)

    def evaluate(images=images, zone=ZONE, processes=None, **changes):
        computed.clear()
        wanted = settings(**{"batch_size": 2} | changes)
        return evaluation.evaluate(tiny, images, wanted, zone, tmp_path, processes)

    monkeypatch.setattr(evaluation, "_batch_maps", counted)
    first, _ = evaluate()
    assert computed == [2, 2, 1] and not (tmp_path / kept.FINISHED).exists()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 99)  # another machine
    again, _ = evaluate(processes=Processes())
    assert computed == [2, 2, 1] and (tmp_path / kept.FINISHED).exists()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 98)
    taken, found = evaluate()
    assert computed == [] and taken.equals(again) and taken.equals(first)
    assert found["GradCAM"].shape == (5, 14, 14)
    other = images.clone()
    other[4, 0, 0, 0] += 1
    assert evaluate(images=other) and computed == [1]
    assert evaluate(zone=replace(ZONE, side="top")) and computed == [2, 2, 1]
    assert evaluate(precision="float64") and computed == [2, 2, 1]


@pytest.mark.parametrize(
    "which, missing, message",
    [
        ("both", "", "evaluate: got both; takes stack-mix or stack-gen"),
        ("stack\n", "", r"evaluate: got stack\n; takes stack-mix or stack-gen"),
        ("stack-mix", "runs/wall/masked.json", "takes a `dvc repro wall` first"),
        ("stack-mix", "models/masked.safetensors", "takes a `dvc repro train@masked` first"),
        ("stack-gen", "runs/stacks/manifest.csv", "takes a `dvc repro stacks` first"),
        ("stack-mix", "params.yaml", "params.yaml: no such file"),
    ],
)
def test_the_command_says_what_it_takes(tmp_path, monkeypatch, capsys, which, missing, message):
    files = ("dvc.yaml", "runs/wall/masked.json", "models/masked.safetensors")
    for name in (*files, "runs/stacks/manifest.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    shutil.copy(ROOT / "presets" / "smoke.yaml", tmp_path / "params.yaml")
    (tmp_path / missing).unlink() if missing else None
    monkeypatch.chdir(tmp_path)
    assert commands.main(["evaluate", which]) == 1
    said = capsys.readouterr().err.removesuffix("\n")
    assert message in said and missing in said and "\n" not in said


@pytest.mark.long
@pytest.mark.pipeline
def test_a_process_that_dies_and_what_the_notebook_takes(smoke_run, tmp_path):
    folder = fork(smoke_run, tmp_path / "project")
    file, resume = folder / "params.yaml", folder / ".resume" / "cams-stack-mix"
    file.write_text(file.read_text().replace("batch_size: 4", "batch_size: 1"))
    run(folder, *ONE, "python", *COMMAND)
    finished = resume / kept.FINISHED
    alone = finished.read_bytes()
    shutil.rmtree(resume)

    launcher = start(folder, *TORCHRUN, "2", *COMMAND)
    wait_for(lambda: len([*resume.glob("*.safetensors")]) > 1, launcher)
    children = psutil.Process(launcher.pid).children(recursive=True)
    (victim,) = (child for child in children if child.environ().get("RANK") == "1")
    os.kill(victim.pid, signal.SIGKILL)
    said = launcher.communicate()[1]
    assert launcher.returncode and not finished.exists()
    assert said.count("evaluate: stopped; run it again to go on\n") == 1
    assert "walls/" not in said  # no traceback of ours
    before = {path: path.stat().st_mtime_ns for path in resume.glob("*.safetensors")}
    assert 1 < len(before) < 6

    done = run(folder, *ACCELERATE, "2", *COMMAND)
    assert done.stdout == "stack-mix: 6 images, 12 methods; `dvc repro` takes it from here\n"
    assert all(path.stat().st_mtime_ns == when for path, when in before.items())
    assert finished.read_bytes() == alone

    with safe_open(finished, "pt") as whole:
        metadata = whole.metadata()
    found = load_file(finished)
    mark = found["GradCAM: mu"].flip(0).contiguous()
    save_file(found | {"GradCAM: mu": mark}, finished, metadata)
    run(folder, "python", "-m", "walls", "run", "cams@stack-mix")  # what `dvc repro` calls
    table = (folder / "runs" / "cams-stack-mix" / "activity.csv").read_text().split("\n")
    taken = [float(row.split(",")[4]) for row in table if ",GradCAM," in row]
    assert taken == mark.tolist() and not resume.exists()


@pytest.mark.pipeline
def test_what_is_wrong_with_all_is_said_once(smoke_run, tmp_path):
    told = "evaluate: got stack-gen, without images (stacks.generator); takes others"
    folder = fork(smoke_run, tmp_path / "project")
    manifest = folder / "runs" / "stacks" / "manifest.csv"
    rows = manifest.read_text().splitlines(keepends=True)
    manifest.unlink()
    manifest.write_text("".join(row for row in rows if "stack-gen" not in row))
    done = run(folder, *TORCHRUN, "2", *COMMAND[:-1], "stack-gen", check=False)
    assert done.returncode and done.stderr.split("\n").count(told) == 1
