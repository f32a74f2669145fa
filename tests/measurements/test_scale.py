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


def test_the_plan_by_hand():
    """A method that takes ten forward passes: 50,000 times their operations at a GPU's assumed
    pace, and the reading.
    """
    rows = [
        {"method": name, "seconds": s}
        for name, s in (("forward pass", 0.2), ("GradCAM", 2.0), ("ScoreCAM", 20.0))
    ]
    table = scale.plan(pd.DataFrame(rows), read=0.001)
    (counted,) = re.findall(r"GradCAM +\|[^|]*\| +([\d,]+) \|", table)
    operations = float(counted.replace(",", "")) * 1e9
    assert operations == pytest.approx(
        10 * 2 * 15.47e9, rel=0.01
    )  # VGG16's multiplications at 224 × 224, and its additions
    per_gpu = operations / scale.GPU
    (minutes,) = re.findall(r"GradCAM .*\| +([\d.,]+) \| +([\d.,]+) \| +([\d.,]+) \|", table)
    wanted = [(scale.STARTING + 50_000 / n * (per_gpu + 0.001)) / 60 for n in (1, 8, 64)]
    assert [float(m.replace(",", "")) for m in minutes] == pytest.approx(wanted, abs=0.06)
    assert re.search(r"all of them +\| +22\.0 \|", table)


def test_the_plans_command_is_one_of_ours():
    """As the command line takes it; the committed page says the same as the next one will."""
    told = scale.how()
    (command,) = re.findall(r"`accelerate launch --num_processes N -m walls (.*?)`", told)
    asked = commands.parser().parse_args(command.split())
    assert (asked.command, asked.which) == ("evaluate", "stack-mix")
    committed = (ROOT / "benchmarks" / "scale.md").read_text()
    anyhow, now = (re.sub(r"[\d.]+ GB", "some GB", text) for text in (committed, told))
    assert anyhow.endswith(f"\n\n{now}\n")  # the methods grow in number


@pytest.mark.long
def test_a_rehearsal(tmp_path):
    """1,300 images, killed half-way: what was computed again is the same to the last bit, or it
    ends with an error.
    """
    said = run(ROOT, sys.executable, "-m", "benchmarks.scale", "--images", "1300").stdout
    assert "512 images around the kill" in said and "maps, after it" in said
