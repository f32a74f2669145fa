"""Progress of what takes long: a living line in a terminal, now and then a line in a log."""

import io
import os
import sys
from collections.abc import Iterable
from typing import Any

from tqdm import tqdm

# 1: the user of `walls run` sits at a terminal, which the notebook's kernel can't see.
TERMINAL = "WALLS_TERMINAL"
# Seconds to a log's first line; the fewest and the most between the later ones.
FIRST, LEAST, MOST = 5, 10, 600


def track(iterable: Iterable | None = None, *, hidden: bool = False, **options: Any) -> tqdm:
    """A tqdm bar (`total`, `desc`, `unit`, … are its own), with the time that is left.

    Where stderr is no terminal every sign of life is a whole line: the first after 5 s, the next
    ones after 10 s or a tenth of the time so far, whichever is longer, but at most 10 minutes.
    TQDM_DISABLE=1 silences both kinds.
    """
    silent = {"disable": True} if hidden else {}  # else TQDM_DISABLE decides
    if at_a_terminal():
        return tqdm(iterable, mininterval=1, delay=1, **options, **silent)
    return _Lines(
        iterable,
        file=io.StringIO(),
        mininterval=FIRST,
        miniters=1,
        delay=FIRST,
        bar_format="{desc}: {percentage:.0f}%, {n_fmt} of {total_fmt}, {elapsed} gone, {remaining} "
        "left{postfix}",
        **options,
        **silent,
    )


def at_a_terminal() -> bool:
    """Whether somebody watches: `walls run` says so, or stderr is a terminal's own."""
    said = os.environ.get(TERMINAL)
    return sys.stderr.isatty() if said is None else said == "1"


class _Lines(tqdm):
    """A bar that prints itself as a whole line, ever more rarely.

    It does so itself: where its interval changes, tqdm counts some steps of an iteration twice.
    """

    due, said = 0.0, -1

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        elapsed = self.format_dict["elapsed"]
        at_end = pos is not None  # so tqdm calls it once, as the bar closes
        if self.n != self.said and (at_end or elapsed >= self.due):
            print(self, file=sys.stderr, flush=True)
            self.said, self.due = self.n, elapsed + min(max(LEAST, elapsed / 10), MOST)
