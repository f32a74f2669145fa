"""Bad input in bulk: what a clear refusal is, and how many were tried.

Every module test_bad_input_*.py tries one family of input; tests/conftest.py prints the counts at
the end.
"""

import re
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings

REFUSED: Counter[str] = Counter()  # family -> different inputs that were refused clearly
TAKEN: Counter[str] = Counter()  # … and odd ones that were handled
SEEN: set[tuple[str, int]] = set()
LONGEST = 1500  # characters of a line that somebody still reads
# What a library's inside sounds like.
FOREIGN = re.compile(
    r"Traceback|object at 0x|site-packages|0x[0-9a-f]{8}|For further information|pydantic|\[Errno|codec can't"
)


def bulk(examples: int):
    """Hypothesis with `examples` inputs, the same in every run, writing nothing into the tree."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    phases = [Phase.explicit, Phase.generate]  # inputs are small: no time for making them smaller
    return settings(max_examples=examples, derandomize=True, deadline=None, database=None, phases=phases,
                    report_multiple_bugs=False, suppress_health_check=checks)  # fmt: skip


def refused(
    family: str, case: object, act, names: re.Pattern | str, keep: Path | None = None
) -> str | None:
    """The message with which `act()` refuses `case`; None where it takes it.

    A refusal is a plain ValueError, every line of which matches `names` (the field or the file) and
    reads well; it comes within a minute and leaves the folder `keep` as it was.
    """
    before = snapshot(keep) if keep else None
    message = None
    try:
        with within(60):
            act()
    except ValueError as error:
        assert type(error) is ValueError, (
            f"{type(error).__name__} from within, for {case!r:.300}: {error}"
        )
        message = str(error)
        clear(message, names, case)
    assert message is None or keep is None or snapshot(keep) == before, (
        f"{case!r:.300} left something behind"
    )
    count(family, case, message is not None)
    return message


def count(family: str, case: object, refusal: bool) -> None:
    """One more different input."""
    key = family, hash(case if isinstance(case, str | bytes) else repr(case))
    if key not in SEEN:
        SEEN.add(key)
        (REFUSED if refusal else TAKEN)[family] += 1


def clear(message: str, names: re.Pattern | str, case: object = "") -> None:
    """Fail unless every line of a message names what was wrong, and reads well on any terminal."""
    assert message.strip(), f"no words for {case!r:.300}"
    for line in message.split("\n"):
        assert re.search(names, line), f"{line!r} names nothing, for {case!r:.300}"
        assert line.isprintable() and len(line) <= LONGEST, f"{line!r:.300} can't be read"
        assert not FOREIGN.search(line), f"{line!r} is a library's inside, for {case!r:.300}"


def snapshot(folder: Path) -> dict[str, tuple]:
    """What lies in a folder: every name, its kind and size."""
    return {str(path): (stat.st_mode, stat.st_size, stat.st_mtime_ns if path.is_file() else 0)
            for path in sorted(folder.rglob("*")) for stat in (path.lstat(),)}  # fmt: skip


class Hangs(BaseException):
    """No Exception, lest a handler takes it for a damaged file."""


@contextmanager
def within(seconds: int):
    """Raise Hangs where the block takes longer: a pipe without a writer would wait for ever."""

    def stop(*_):
        raise Hangs(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
