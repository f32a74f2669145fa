"""Real processes and real signals for the faults' tests: start a command in a copy, kill it or stop
it, see what is left.
"""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import psutil
import yaml
from conftest import environment

# Where pytest was started in the background Ctrl-C is ignored, and would be by all that it starts.
signal.signal(signal.SIGINT, signal.default_int_handler)

RESULTS = ("models", "data/set", "runs", "figures", "metrics", "rendered")


def forget(folder: Path, stage: str) -> None:
    """Let DVC know nothing of the stage's last run, or it would take its outputs from the cache."""
    shutil.rmtree(folder / ".dvc" / "cache" / "runs", ignore_errors=True)
    lock = yaml.safe_load((folder / "dvc.lock").read_text())
    lock["stages"].pop(stage, None)
    (folder / "dvc.lock").write_text(yaml.safe_dump(lock, sort_keys=False))


def start(folder: Path, *command: str, **options) -> subprocess.Popen:
    """A command in a copy, leading a process group as one that a terminal started."""
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True} | options
    return subprocess.Popen(
        command, cwd=folder, env=environment(folder), start_new_session=True, **pipes
    )


def family(process: subprocess.Popen) -> list[psutil.Process]:
    """The process and all below it; a kernel, which has a session of its own, too."""
    with suppress(psutil.NoSuchProcess):
        leader = psutil.Process(process.pid)
        return [leader, *leader.children(recursive=True)]
    return []


def runner(process: subprocess.Popen) -> psutil.Process | None:
    """The notebook runner that DVC has started, once it is there."""
    for member in family(process)[1:]:
        with suppress(psutil.Error):
            if member.cmdline()[1:4] == ["-m", "walls", "run"]:
                return member
    return None


def kill(process: subprocess.Popen) -> None:
    """SIGKILL for the whole family, DVC first: it must not see its stage fail and begin to
    write.
    """
    victims = family(process)
    for victim in victims:
        with suppress(psutil.NoSuchProcess):
            victim.kill()
    process.communicate()
    psutil.wait_procs(victims, timeout=10)


def interrupt(process: subprocess.Popen) -> tuple[float, list[psutil.Process]]:
    """Ctrl-C: SIGINT to the process group that the terminal knows. Seconds until it ended, and who
    outlived it by one.
    """
    members = family(process)
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=60)
    seconds = time.monotonic() - begun
    _, alive = psutil.wait_procs(members, timeout=1)
    return seconds, alive


def wait_for(
    condition: Callable[[], object], process: subprocess.Popen, seconds: float = 600
) -> None:
    """Until the condition holds, looking often; AssertionError where the process ends before."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.002)


def results(folder: Path) -> dict[str, str]:
    """{path: SHA-256} of all that a run gives: weights, images, maps, tables, figures, metrics,
    notebooks.
    """
    files = sorted(
        file for part in RESULTS for file in (folder / part).rglob("*") if file.is_file()
    )
    return {
        str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }


def partials(folder: Path) -> list[Path]:
    """What a killed writer left beside the files it didn't finish."""
    return [file for part in (*RESULTS, ".resume") for file in (folder / part).rglob("*.partial")]
