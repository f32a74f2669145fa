"""Progress: a living line in a terminal, few whole lines in a log, nothing where it is switched
off.
"""

import io
import sys

import pytest
from conftest import ROOT, run

from walls.base import progress


@pytest.fixture
def clock(monkeypatch):
    """tqdm's clock, moved by hand; in a log, unless a test says otherwise."""
    now = [1000.0]
    monkeypatch.setattr("tqdm.std.time", lambda: now[0])
    monkeypatch.setenv(progress.TERMINAL, "0")
    return now


def worked(clock, seconds, step=0.5, **options):
    """Whole lines that a bar over `seconds` of steps leaves on stderr."""
    bar = progress.track(total=int(seconds / step), desc="training", unit="step", **options)
    for _ in range(int(seconds / step)):
        clock[0] += step
        bar.update()
    bar.close()


def test_a_log_gets_few_whole_lines_with_the_time_left(clock, capsys):
    worked(clock, 60)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "training: 8%, 10 of 120, 00:05 gone, 00:55 left"
    assert [line.split(",")[2].strip() for line in lines] == [
        f"00:{s:02d} gone" for s in (5, 15, 25, 35, 45, 55)
    ] + ["01:00 gone"]


def test_an_iteration_counts_every_step_once(clock, capsys):
    for _ in progress.track(range(600), desc="drawing", unit="image"):
        clock[0] += 0.5
    said = [line.split(",")[1].strip() for line in capsys.readouterr().err.splitlines()]
    assert said[:3] == ["10 of 600", "30 of 600", "50 of 600"] and said[-1] == "600 of 600"


def test_ever_fewer_lines_the_longer_it_takes(clock, capsys):
    worked(clock, 48 * 3600, step=5)
    lines = capsys.readouterr().err.splitlines()
    assert "\r" not in "".join(lines) and 250 < len(lines) < 400  # one in ten minutes at the end


def test_what_is_done_in_five_seconds_says_nothing(clock, capsys):
    worked(clock, 4)
    assert capsys.readouterr().err == ""


def test_one_long_step_is_heard(clock, capsys):
    assert list(progress.track([1], desc="tuning")) == [1]
    worked(clock, 14, step=7)
    assert [line.split(",")[0] for line in capsys.readouterr().err.splitlines()] == [
        "training: 50%",
        "training: 100%",
    ]


def test_a_terminal_gets_one_living_line(clock, capsys, monkeypatch):
    monkeypatch.setenv(progress.TERMINAL, "1")
    worked(clock, 20)
    text = capsys.readouterr().err
    assert text.count("\n") == 1 and text.count("\r") > 15 and "40/40" in text


def test_hidden_says_nothing(clock, capsys):
    worked(clock, 60, hidden=True)
    assert capsys.readouterr().err == ""


def test_tqdm_disable_says_nothing():
    """In a process of its own, as conftest.run starts it: tqdm reads the variable when it is
    imported.
    """
    code = (
        "import time; from walls.base import progress as p; p.FIRST = 0\n"
        "for _ in p.track(range(3)): time.sleep(0.01)"
    )
    assert run(ROOT, sys.executable, "-c", code).stderr == ""
    assert (
        run(ROOT, "env", "-u", "TQDM_DISABLE", sys.executable, "-c", code).stderr.count("\n") >= 1
    )


def test_who_watches(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.delenv(progress.TERMINAL, raising=False)
    for stream, watched in ((io.StringIO(), False), (Terminal(), True)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert progress.at_a_terminal() is watched
    monkeypatch.setenv(progress.TERMINAL, "0")
    assert progress.at_a_terminal() is False  # `walls run` knows better than its kernel
