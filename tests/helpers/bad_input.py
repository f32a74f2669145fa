"""Bad input in bulk: what a clear refusal is, and how many were tried.

Every module test_bad_input_*.py tries one family of input. The hooks at the end, which conftest.py
takes, print the counts, and fail a run of all families in which too few were refused.
"""

import hashlib
import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

FAMILIES = ("archives", "arguments", "checkpoints", "images", "params.yaml")
# Different inputs that a whole run refuses, of all and of each family.
LEAST, LEAST_EACH = 2000, 200

# (family, digest of an input) -> whether it was refused; otherwise it was an odd one, and handled.
SEEN: dict[tuple[str, str], bool] = {}
# Tests of a family that were deselected: then nothing is said of the total.
LEFT_OUT: list[str] = []
LONGEST = 1500  # characters of a line that somebody still reads
# How an image file is refused, after its name.
UNREADABLE = r": not a readable image \((.+)\)$"
# What a library's inside sounds like.
FOREIGN = re.compile(
    r"Traceback|object at 0x|site-packages|0x[0-9a-f]{8}|For further information|pydantic|\[Errno|codec can't"
)


def bulk(examples: int) -> Callable:
    """Hypothesis with `examples` inputs, the same in every run, writing nothing into the tree."""
    checks = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]
    chosen = settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # inputs are small: no time to make them smaller
        report_multiple_bugs=False,
        suppress_health_check=checks,
    )
    return lambda test: pytest.mark.bulk(chosen(test))


def too_few(refusals: Mapping[str, int]) -> list[str]:
    """What a run of all families lacks, a line each: so many were refused, so many must be."""
    counts = {family: refusals.get(family, 0) for family in FAMILIES}
    lacking = [
        f"{count} {family}, not {LEAST_EACH}"
        for family, count in counts.items()
        if count < LEAST_EACH
    ]
    total = sum(counts.values())
    return lacking + ([f"{total} in all, not {LEAST}"] if total < LEAST else [])


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
    content = case
    if not isinstance(case, bytes):
        text = case if isinstance(case, str) else repr(case)
        content = b"text " + text.encode(errors="surrogatepass")
    SEEN.setdefault((family, hashlib.sha256(content).hexdigest()), refusal)


def counted(refusal: bool) -> Counter[str]:
    """{family: different inputs} that were refused clearly, or that were handled."""
    return Counter(family for (family, _), refused in SEEN.items() if refused is refusal)


def clear(message: str, names: re.Pattern | str, case: object = "") -> None:
    """Fail unless every line of a message names what was wrong, and reads well on any terminal."""
    assert message.strip(), f"no words for {case!r:.300}"
    for line in message.split("\n"):
        assert re.search(names, line), f"{line!r} names nothing, for {case!r:.300}"
        assert line.isprintable() and len(line) <= LONGEST, f"{line!r:.300} can't be read"
        assert not FOREIGN.search(line), f"{line!r} is a library's inside, for {case!r:.300}"


def snapshot(folder: Path) -> dict[str, tuple]:
    """What lies in a folder: every name, its kind and size."""
    found = {}
    for path in sorted(folder.rglob("*")):
        stat = path.lstat()
        found[str(path)] = (stat.st_mode, stat.st_size, stat.st_mtime_ns if path.is_file() else 0)
    return found


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


# --- How many: pytest's hooks
# --------------------------------------------------------------------------------------------------


def pytest_deselected(items):
    LEFT_OUT.extend(item.name for item in items if item.path.name.startswith("test_bad_input_"))


def lacking(config) -> list[str]:
    """`too_few` of a run of all families; empty where only some, or parts of them, were asked
    for.
    """
    whole = not LEFT_OUT and not any("::" in argument for argument in config.args)
    refusals = counted(True)
    return too_few(refusals) if whole and set(refusals) == set(FAMILIES) else []


def pytest_sessionfinish(session, exitstatus):
    if hasattr(session.config, "workeroutput"):  # one of several processes: the first adds up
        session.config.workeroutput["bad_input"] = [SEEN, LEFT_OUT]
    elif exitstatus == pytest.ExitCode.OK and lacking(session.config):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    seen, left_out = getattr(node, "workeroutput", {}).get("bad_input", ({}, []))
    SEEN.update(seen)
    LEFT_OUT.extend(left_out)


def pytest_terminal_summary(terminalreporter, exitstatus, config):
    refusals, handled = counted(True), counted(False).total()
    if not refusals:  # none were tried where others were asked for
        return
    counts = ", ".join(f"{refusals[family]} {family}" for family in sorted(refusals))
    total = refusals.total()
    terminalreporter.write_line(
        f"bad input: {total} refused clearly ({counts}), {handled} odd ones handled"
    )
    for line in lacking(config):
        terminalreporter.write_line(f"too few: {line}", red=True)
