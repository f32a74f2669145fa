"""benchmarks.scale: the lines it fits and the hours it reckons; and a rehearsal of all of it, with
its kill.
"""

import re
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run

from benchmarks import scale
from walls.project import commands


def test_a_line_is_fitted_to_what_was_made():
    """10 ms an image after two seconds of loading, 400 bytes an image; what doesn't grow any more
    isn't looked at.
    """
    images = np.concatenate([[0, 0], np.arange(0, 10_000, 100), [10_000, 10_000]])
    seconds = np.concatenate([[0, 1], 2 + 0.01 * np.arange(0, 10_000, 100), [102, 120]])
    seen = pd.DataFrame({"seconds": seconds, "images": images, "bytes": 1e9 + 400.0 * images})
    found = scale.fit(seen)
    assert (
        found["seconds"] == pytest.approx(0.01)
        and found["r2"] == pytest.approx(1)
        and found["bend"] == pytest.approx(1)
    )
    assert found["bytes"] == pytest.approx(400) == found["bytes at last"]
    assert found["images"] == 9800 and found["peak"] == 1e9 + 4e6
    slower = seen.assign(seconds=seen["seconds"] ** 2)  # each image costs more than the one before
    assert scale.fit(slower)["bend"] > 5
    leaking = seen.assign(bytes=seen["images"] * 600_000.0)
    assert scale.fit(leaking)["bytes"] == pytest.approx(600_000)


def test_the_plan_by_hand(tmp_path, monkeypatch):
    """50,000 images at a method's pace, read before; shared out among GPUs; all read them once."""
    cams = "methods,ours,geometry\n" + "".join(
        f"{name},{s},{geometry}\n"
        for name, s, geometry in (
            *(("EigenCAM", s, "paper") for s in (0.1, 0.2, 0.9)),
            ("ScoreCAM", 30, "paper"),
            ("ScoreCAM", 1, "default"),
            ("Opti-CAM", 10, "paper"),
        )
    )
    gpu = "subject,what,setting,median\n" + "".join(
        f'"{subject}",{what},{setting},{value}\n'
        for subject, what, setting, value in (
            (scale.READER, "images/s", "1 workers", 500),
            (scale.READER, "images/s", "8 workers", 4000),
            ("EigenCAM", "ours", "the paper's geometry", 8),
            ("EigenCAM", "pytorch-grad-cam", "the paper's geometry", 13),
            ("EigenCAM", "ours", "EfficientNet-Lite0", 6),
            ("ScoreCAM", "ours", "the paper's geometry", 50),
            ("Opti-CAM", "ours", "the paper's geometry", 200),
        )
    )
    for name, text in (("cams.csv", cams), ("gpu.csv", gpu)):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(scale, "HERE", tmp_path)
    told = scale.plan()
    cells = {
        row.split("|")[1].strip(): row.split("|")[2:-1] for row in told.splitlines() if "|" in row
    }
    for name, cores, ms in (("EigenCAM", 0.2, 8), ("ScoreCAM", 30, 50), ("all of them", 40.2, 258)):
        wanted = [(scale.STARTING + 50_000 / n * (ms / 1000 + 0.002)) / 60 for n in (1, 8, 64)]
        found = [float(cell.replace(",", "")) for cell in cells[name]]
        assert found == pytest.approx([cores, ms, *wanted], abs=0.06)
    assert "are 97% of the cost" in told  # 250 of 258


def test_the_plans_command_is_one_of_ours():
    """As the command line takes it; the committed page says the same as the next one will, and
    reckons from the committed paces.
    """
    told = scale.how()
    (command,) = re.findall(r"`accelerate launch --num_processes N -m walls (.*?)`", told)
    asked = commands.parser().parse_args(command.split())
    assert (asked.command, asked.which) == ("evaluate", "stack-mix")
    committed = (ROOT / "benchmarks" / "scale.md").read_text()
    assert committed.endswith(f"\n\n{scale.plan()}\n\n{told}\n")


@pytest.mark.long
def test_a_rehearsal(tmp_path):
    """1,300 images, killed half-way: what was computed again is the same to the last bit, or it
    ends with an error.
    """
    said = run(ROOT, sys.executable, "-m", "benchmarks.scale", "--images", "1300").stdout
    assert "512 images around the kill" in said and "maps, after it" in said
