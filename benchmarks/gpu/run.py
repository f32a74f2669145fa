"""A run's clock, its parts one after the other, and what each has found so far, on the disk.

A part gets until its share of the time is over, and what the parts before it left. What it hands to
`Run.keep` is written at once; where it fails, or doesn't end in time, its error is recorded and the
next part runs.
"""

import gc
import json
import signal
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from walls.base import files

PATIENCE = 0.2  # of a part's share: how much longer it may take before it is broken off


class OutOfTime(BaseException):
    """A part is broken off; no Exception, which somebody on the way might catch."""


@dataclass
class Run:
    """One run: where it runs and writes, what it was given, how much time is left."""

    out: Path
    scratch: Path  # a folder for what is needed only now
    device: torch.device
    seconds: float
    tiny: bool = False
    archive: Path | None = None
    photographs: Path | None = None
    weights: Path | None = None
    prepared: Future | None = None  # the images of part d, made beside part a
    started: float = field(default_factory=time.perf_counter)
    ends: float = float("inf")  # of the part that runs, in seconds from the start

    def clock(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self.started

    def left(self) -> float:
        """Seconds that the part has left; below 0 where it is late."""
        return self.ends - self.clock()

    def images(self) -> Path:
        """The folder of part d's images, once they are made."""
        if self.prepared is None:
            raise ValueError("no images were made; takes part b or d among --parts")
        return Path(self.prepared.result(timeout=max(self.left(), 1)))

    def say(self, text: str) -> None:
        """A line of progress, with the time."""
        print(f"[{self.clock():6.1f} s] {text}", flush=True)

    def keep(self, name: str, content: object) -> None:
        """Write `name`.json, whole or not at all."""
        with files.whole(self.out / f"{name}.json") as partial:
            partial.write_text(
                json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
            )

    def attempt(
        self,
        what: str,
        work: Callable[[], Any],
        errors: dict[str, str],
        seconds: float | None = None,
    ) -> Any:
        """What `work` returns; None where it raises or outlasts `seconds`, noted in `errors`."""
        try:
            if seconds is None:
                return work()
            with limit(seconds):
                return work()
        except Exception as error:
            errors[what] = told(error)
        except OutOfTime as error:
            if seconds is None:
                raise
            errors[what] = told(error)
        # Outside the handler the traceback no longer holds the tensors.
        self.say(f"  {what} failed: {errors[what]}")
        self.free()
        return None

    def free(self) -> None:
        """Give unused memory back to the device."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()


def told(error: BaseException) -> str:
    """An error in a line: its kind, its first line, and where in this project it happened."""
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if "benchmarks" in f.filename or "walls" in f.filename
    ]
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    reason = (str(error).strip() or "no reason given").splitlines()[0][:300]
    return f"{type(error).__name__}: {reason}{where}"


def go(run: Run, parts: dict[str, tuple[str, float, Callable[[Run], str]]], about: dict) -> dict:
    """Run the parts: {letter: (title, seconds, function)}; a function returns a sentence.

    Returns `about` with what became of each part, {letter: {title, seconds, error, found, device}},
    which is written as run.json whenever a part ends.
    """
    record = about | {"parts": {}}
    scale = run.seconds / sum(seconds for _, seconds, _ in parts.values())
    due = 0.0
    for letter, (title, share, work) in parts.items():
        due += share * scale
        run.ends = due
        began, error, found = run.clock(), None, None
        run.say(f"part {letter}, {title}: {run.left():.0f} s")
        last = letter == list(parts)[-1]
        try:
            with limit(run.left() + (0 if last else PATIENCE * share * scale)):
                found = work(run)
        except (Exception, OutOfTime) as failure:
            error = told(failure)
            traceback.print_exception(failure, limit=-6)
        run.say(f"part {letter} " + (f"failed: {error}" if error else f"done: {found}"))
        record["parts"][letter] = {
            "title": title,
            "seconds": round(run.clock() - began, 1),
            "error": error,
            "found": found,
            "device": about.get("device"),
        }
        run.keep("run", record | {"seconds": round(run.clock(), 1)})
        run.free()
    return record


@contextmanager
def limit(seconds: float) -> Iterator[None]:
    """Raise OutOfTime inside once that many seconds are over, and every 5 s from then on."""

    def over(*_: object) -> None:
        raise OutOfTime(f"its {seconds:.0f} s are over")

    before, began = signal.signal(signal.SIGALRM, over), time.perf_counter()
    # Again and again: a destructor may swallow the first one.
    outer, _ = signal.setitimer(signal.ITIMER_REAL, max(seconds, 0.01), 5)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        if outer:  # that of a limit around this one
            signal.setitimer(
                signal.ITIMER_REAL, max(outer - (time.perf_counter() - began), 0.01), 5
            )


def table(record: dict) -> str:
    """What became of every part, in lines."""
    lines = []
    for letter, part in record["parts"].items():
        said = f"FAILED  {part['error']}" if part["error"] else part["found"]
        lines.append(f"{letter}  {part['title']:<34} {part['seconds']:6.1f} s  {said}")
    return "\n".join(lines)
