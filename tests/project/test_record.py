"""`walls summary` and `walls record`: what a run found, took and left."""

import json
import re

import pytest
import torch
from conftest import ROOT, run
from helpers.pages_of_results import ARTIFACT, block, cells, committed

from walls.pipeline.log import digest, executed, machine, os


@pytest.mark.pipeline
def test_the_summary_is_six_lines(smoke):
    lines = run(smoke, "python", "-m", "walls", "summary").stdout.splitlines()
    wall, claims = (committed(name, smoke) for name in ("wall", "claims"))
    gradcam = committed("activity", smoke)["stack-mix"]["GradCAM"]
    assert len(lines) == 6 and lines[2].startswith("Top-1 accuracy: masked")
    assert (
        lines[0]
        == f"The bottom {wall['dead_rows']} of 128 image rows, 17%: no logit depends on them."
    )
    assert f"GradCAM {gradcam:.1f} (the paper: 22.7) on STACK-MIX" in lines[1]
    assert sum(map(int, re.findall(r"(\d+) ", lines[3]))) == len(claims)
    noted = json.loads((smoke / ".resume" / "run.json").read_text())
    minutes = sum(entry["seconds"] for entry in noted.values()) / 60
    assert lines[4].startswith(f"It took {minutes:.0f} min and at most ")
    assert all(f"{stage} {entry['seconds']:.0f} s" in lines[4] for stage, entry in noted.items())
    for name in re.findall(r"[\w/]+\.(?:ipynb|md)", lines[5]):
        assert (smoke / name).is_file()


@pytest.mark.long
@pytest.mark.pipeline
def test_a_run_is_recorded_by_a_command_of_its_own(smoke):
    """Every stage's seconds, memory and notebook. `walls readme` leaves them alone, so that a rerun
    leaves the tree clean; and a log that isn't whole is none.
    """
    page = smoke / "ARTIFACT.md"
    log = json.loads((smoke / ".resume" / "run.json").read_text())
    notebooks = executed(smoke)
    assert set(log) == set(notebooks) and all(file.is_file() for file in notebooks.values())
    assert {file.name for file in notebooks.values()} == {
        file.name for file in (smoke / "rendered").iterdir()
    }
    before = block(page.read_text(), "run")
    assert run(smoke, "python", "-m", "walls", "readme").stderr == ""
    assert block(page.read_text(), "run") == before
    assert run(smoke, "python", "-m", "walls", "record").stderr == ""
    shown = block(page.read_text(), "run")
    assert f"torch {torch.__version__.split('+')[0]}" in shown and "float32 on cpu" in shown
    for stage, file in notebooks.items():
        row = cells(shown, f"`{stage}`")
        assert row[1] == f"{log[stage]['seconds']:.0f} s"
        assert 50 < int(row[2].removesuffix(" MB")) < 20000
        link = f"[{file.stem}](rendered/{file.name})"
        assert row[4] == f"{link} `{digest(smoke / 'rendered' / file.name)}`"
    (smoke / ".resume" / "run.json").write_text(
        json.dumps(log | {"wall": log["wall"] | {"notebook": "00000000"}})
    )
    done = run(smoke, "python", "-m", "walls", "record", check=False)
    assert done.returncode == 1 and done.stderr.startswith("the log of this run is not whole; ")
    assert block(page.read_text(), "run") == shown
    (smoke / ".resume" / "run.json").write_text(json.dumps(log))
    run(smoke, "git", "checkout", "README.md", "ARTIFACT.md", "docs")


def test_a_machine_that_tells_no_affinity(monkeypatch):
    """macOS: all its processors are counted."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert ", 10 threads; " in machine()


def test_the_recorded_run_is_the_committed_one():
    """The block that can't be made again names every stage, and the very notebooks that are
    committed.
    """
    shown = block(ARTIFACT, "run")
    for stage, file in executed(ROOT).items():
        assert cells(shown, f"`{stage}`")[4].endswith(
            f"`{digest(ROOT / 'rendered' / file.name)}`"
        ), stage
