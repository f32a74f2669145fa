"""Numbers in sentences: where a caption or a printed line quotes a committed file, a link to it."""

import re
from collections.abc import Iterator
from typing import NamedTuple

from walls.project.origins import Origins, activity_id, cell_id, numbers
from walls.saliency.controls import SAME, STACKED

N = r"(\d+(?:\.\d+)?)"  # a number, whose sign and unit stand outside
CONTROL = f"({'|'.join(STACKED)})"
AFTER = re.compile(rf"{N} \({CONTROL}\)")
BEFORE = re.compile(rf"\b{CONTROL} {N}(?=[,.;]|$)")
EACH = re.compile(rf"{N} whatever lies there")
EVERYWHERE = re.compile(rf"same everywhere(?: has)? {N}")
TOP = re.compile(rf"same class: ([^,]+), µ×100 = {N}")
INSTEAD = re.compile(rf"\b{CONTROL} instead: {N} → {N} \([+-]{N} \[[+-]{N}, [+-]{N}\]")
CHANGE = ("difference", "difference_high", "difference_low")  # shown with the other sign
MASS = re.compile(
    rf"{N}% \[{N}, {N}\] of its mass in the dead zone lies on the animal, [^%]*? {N}%"
)
ON = ("on", "on_low", "on_high", "area")
LAST = re.compile(rf"^([\w-]+) +{N}$", re.MULTILINE)
NOWHERE = re.compile(r"HiResCAM(?:'s)?\s+(?:is|stays at) (0) on every image")
ZERO = "hirescam-dark"  # the claim that says so
DATASET = re.compile(r"STACK-\w+")


class Place(NamedTuple):
    """A number in a text, and where it may come from: a cell's id, and its value."""

    start: int
    end: int
    target: str
    value: float


class Quoted:
    """What the committed files say, to be found in sentences.

    A number is linked where the words around it name a cell (method, control, dataset) and the
    cell's value, rounded as the number is, equals it up to the sign.
    """

    def __init__(self, origins: Origins):
        """Of the files of `origins`."""
        reports = enumerate(origins.networks.items())
        self._reports = {name: (number, report) for number, (name, report) in reports}
        self._control = {
            (row["dataset"].upper(), row["method"], row["control"]): (line, row)
            for line, row in enumerate(origins.control, 2)
        }
        self._history = origins.history
        zero = (claim["ours"] for claim in origins.claims if claim["id"] == ZERO)
        self._most = re.search(r"at most ([\d.]+)", next(zero, ""))
        known = {
            row["method"] for report in origins.networks.values() for row in report["activity"]
        }
        known |= {method for _, method, _ in self._control}
        # The longest first: GradCAM++ is no GradCAM.
        self._methods = _any_of(sorted(known, key=len, reverse=True))
        self._networks = _any_of(sorted(self._reports, key=len, reverse=True))

    def linked(self, fragment: str) -> str:
        """A sentence as HTML, with a link on every number whose cell is known."""
        found = {place[:2]: place for place in self._found(fragment)}
        for place in sorted(found.values(), reverse=True):
            shown = fragment[place.start : place.end]
            if shown == f"{abs(place.value):.{len(shown.partition('.')[2])}f}":
                link = str(numbers(shown, place.target))
                fragment = fragment[: place.start] + link + fragment[place.end :]
        return fragment

    def _found(self, text: str) -> Iterator[Place]:
        yield from self._of_networks(text)
        yield from self._of_control(text)
        for at in NOWHERE.finditer(text) if self._most else ():
            yield Place(*at.span(1), f"claim-{ZERO}", float(self._most[1]))
        if self._history:
            line, row = len(self._history) + 1, self._history[-1]
            for at in LAST.finditer(text):
                if at[1] != "epoch" and row.get(at[1]):
                    yield Place(*at.span(2), cell_id("fig5", line, at[1]), float(row[at[1]]))

    def _of_networks(self, text: str) -> Iterator[Place]:
        """Means of metrics/networks.json, of the network and the method named last."""
        for pattern, number, control in ((AFTER, 1, 2), (BEFORE, 2, 1), (EACH, 1, None)):
            for at in pattern.finditer(text):
                method = _before(self._methods, text, at.start())
                yield from self._mean(text, at, number, method, at[control] if control else SAME)
        for at in TOP.finditer(text):
            yield from self._mean(text, at, 2, at[1], SAME)
        for at in EVERYWHERE.finditer(text):
            which, report = self._report(text, at.start())
            if report:
                yield Place(*at.span(1), f"networks-{which}-uniform", report["uniform"])

    def _mean(
        self, text: str, at: re.Match, number: int, method: str, control: str
    ) -> Iterator[Place]:
        which, report = self._report(text, at.start())
        for place, row in enumerate(report.get("activity", [])):
            if (row["method"], row["control"]) == (method, control) and row["mean"] is not None:
                yield Place(*at.span(number), activity_id(which, place, "mean"), row["mean"])

    def _report(self, text: str, place: int) -> tuple[int, dict]:
        """The report of the network named last before a place; else the first one."""
        name = _before(self._networks, text, place) or next(iter(self._reports), "")
        return self._reports.get(name, (0, {}))

    def _of_control(self, text: str) -> Iterator[Place]:
        """Cells of figures/control.csv, of the dataset and the method named last."""
        for at in INSTEAD.finditer(text):
            cells = [(SAME, "mean"), (at[1], "mean"), *((at[1], name) for name in CHANGE)]
            yield from self._cells(text, at, 2, cells)
        for at in MASS.finditer(text):
            yield from self._cells(text, at, 1, [("no animal", name) for name in ON])

    def _cells(
        self, text: str, at: re.Match, first: int, cells: list[tuple[str, str]]
    ) -> Iterator[Place]:
        dataset = _before(DATASET, text, at.start())
        method = _before(self._methods, text, at.start())
        for number, (control, column) in enumerate(cells, first):
            line, row = self._control.get((dataset, method, control), (0, {}))
            if row.get(column):
                yield Place(*at.span(number), cell_id("control", line, column), float(row[column]))


def _any_of(names: list[str]) -> re.Pattern:
    """Any of these names; nothing where there is none."""
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def _before(pattern: re.Pattern, text: str, place: int) -> str:
    """What a pattern found last before a place, or nothing."""
    return next((at[0] for at in reversed([*pattern.finditer(text, 0, place)])), "")
