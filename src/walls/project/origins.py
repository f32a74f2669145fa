"""Where every number of the site was made: a file's cell, a stage, a notebook's cell, parameters.

`sources.html` shows the files behind Table 1, notebook 9's table, the ledger of claims and what
captions quote, each cell with an id; `Origins` knows which of these ids a number in a table belongs
to, `quoted.py` which one a number in a sentence does.
"""

import csv
import html
import json
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pandas as pd
import yaml
from markupsafe import Markup

from walls.paper.claims import by_id
from walls.paper.table1 import wide
from walls.pipeline import log
from walls.saliency.controls import CONTROLS
from walls.sanity.start import UNIFORM, cell

PAGE = "sources.html"
# A number, with its sign of percent, as it stands in a sentence.
NUMBER = re.compile(r"\d+(?:[.,]\d+)*%?")
SHORT = 24  # letters: a cell of so few is one link, in a longer one each number is
# The files that PAGE shows: the stage that writes each, and what the cell that does it says.
WRITTEN = {
    "figures/table1.csv": ("paper", "write_table1", "walls.paper.table1.table1"),
    "metrics/networks.json": ("networks", '"networks.json"', "walls.sanity.check.check"),
    "metrics/claims.json": ("paper", "claims=ledger", "walls.paper.ledger.ledger"),
    "metrics/wall.json": ("wall", '"masked.json"', "walls.network.geometry.facts"),
    "metrics/train.json": ("paper", "train=found", "walls.paper.results.trainings"),
    "figures/control.csv": ("paper", "control.write", "walls.paper.control.tabulate"),
    "figures/fig5.csv": ("paper", "write_history", "walls.paper.results.trainings"),
}


@dataclass(frozen=True)
class Stage:
    """A stage of the run: its page and title, what it was made from, and its parameters."""

    name: str
    page: str
    before: list[str]
    parameters: dict[str, str]


class Origins:
    """The committed files, and the ids of their numbers on `sources.html`."""

    def __init__(self, root: Path):
        """Of the project at `root`; ValueError where a file isn't there."""
        self.table1 = self._rows(_there(root, "figures/table1.csv"))
        self.networks = json.loads(_there(root, "metrics/networks.json"))
        self.claims = json.loads(_there(root, "metrics/claims.json"))
        self.wall = json.loads(_there(root, "metrics/wall.json"))
        self.train = json.loads(_there(root, "metrics/train.json"))
        self.control = self._rows(_there(root, "figures/control.csv", ""))
        self.history = self._rows(_there(root, "figures/fig5.csv", ""))
        self.stages = _stages(root, yaml.safe_load(_there(root, "dvc.lock"))["stages"])
        self.commit = _commit(root)
        self._ids = dict(_of_table1(self.table1)) | dict(_of_networks(self.networks))
        self._claims = {claim["claim"]: f"claim-{claim['id']}" for claim in self.claims}

    def _rows(self, text: str) -> list[dict[str, str]]:
        return list(csv.DictReader(text.splitlines()))

    def repeats(self, claim: dict[str, Any]) -> tuple[str, list[str]]:
        """The function that judges a claim, and the stages whose results it looks at."""
        known = by_id(claim["id"])
        judge = getattr(known.judge, "func", known.judge)
        every = [s for s in self.stages if s in known.stages or s.partition("@")[0] in known.stages]
        return f"{judge.__module__}.{judge.__name__}", every

    def find(self, heads: list[str], column: str, cells: list[str], place: int) -> str | None:
        """The id of the number in a table's row: None where no file here holds it.

        `heads`: the row's headings; `cells`: its texts, of which the one in `place` is asked for.
        What is printed must be the file's number, rounded.
        """
        network = next((name for name in heads if name in self.networks), None)
        network = network or next(iter(self.networks), "")
        method = heads[-1] if heads else ""
        for key in ((method, column), (network, method, column)):
            if (*key, cells[place]) in self._ids:
                return self._ids[*key, cells[place]]
        return next((self._claims[text] for text in cells if text in self._claims), None)

    def linked(self, table: str) -> str:
        """A notebook's table, HTML, with a link on every number whose id is known."""
        try:
            tree = ElementTree.fromstring(table)
        except ElementTree.ParseError:
            return table
        columns = [_text(one) for one in tree.findall("thead/tr")[0]] if tree.find("thead") else []
        links: list[Markup] = []
        open_heads: list[tuple[str, int]] = []  # a heading, and how many rows it still covers
        for row in tree.findall("tbody/tr"):
            own = [(_text(one), int(one.get("rowspan", 1))) for one in row.findall("th")]
            open_heads = [(text, left - 1) for text, left in open_heads if left > 1] + own
            found = row.findall("td")
            texts, names = [_text(one) for one in found], columns[len(columns) - len(found) :]
            for place, (one, name) in enumerate(zip(found, names, strict=False)):
                target = self.find([text for text, _ in open_heads], name, texts, place)
                if target and NUMBER.search(texts[place]):
                    one.text = f"\0{len(links)}\0"
                    links.append(numbers(texts[place], target))
        shown = ElementTree.tostring(tree, encoding="unicode", method="html")
        return re.sub("\0(\\d+)\0", lambda at: links[int(at[1])], shown) if links else table


def numbers(text: str, target: str) -> Markup:
    """A text as HTML whose numbers are links to `target` on the page of sources."""

    def link(shown: str) -> str:
        return f'<a class="number" href="{PAGE}#{html.escape(target)}">{html.escape(shown)}</a>'

    if len(text) <= SHORT and NUMBER.match(text):
        return Markup(link(text))
    parts, end = [], 0
    for found in NUMBER.finditer(text):
        parts += [html.escape(text[end : found.start()]), link(found[0])]
        end = found.end()
    return Markup("".join([*parts, html.escape(text[end:])]))


def cell_id(file: str, line: int, column: str) -> str:
    """The id of a cell of a CSV file: the file's name, its line, counted from 1, and column."""
    return f"{file}-{line}-{column}"


def line_id(number: int, column: str) -> str:
    """The id of a cell of figures/table1.csv."""
    return cell_id("table1", number, column)


def activity_id(network: int, place: int, key: str) -> str:
    """The id of NETWORK.activity[place].key in metrics/networks.json."""
    return f"networks-{network}-{place}-{key}"


def _of_table1(rows: list[dict[str, str]]):
    """{(method, the notebook's column, text): id} of Table 1, whose texts are `wide`'s."""
    columns = {"{} ↓": "mean", "95% interval ({})": "ci_low"}
    columns |= {"paper ({})": "paper_mean", "raw ({})": "mean_raw"}
    table = pd.DataFrame(rows)
    counts = table.columns.difference(["dataset", "method"])
    printed = wide(table.assign(**table[counts].apply(pd.to_numeric))).set_index("method")
    for number, row in enumerate(rows, 2):
        for title, key in columns.items():
            column = title.format(row["dataset"].upper())
            yield (row["method"], column, printed.loc[row["method"], column]), line_id(number, key)


def _of_networks(networks: dict[str, dict]):
    """{(network, method, the notebook's column, text): id} of notebook 9's table and the first."""
    for number, (name, report) in enumerate(networks.items()):
        for place, row in enumerate(report["activity"]):
            key = (name, row["method"])
            yield (*key, row["control"], cell(row)), activity_id(number, place, "mean")
            yield (*key, "images", str(row["images"])), activity_id(number, place, "images")
        for control in CONTROLS:
            text = f"{report['uniform']:.1f}"
            yield (name, UNIFORM, control, text), f"networks-{number}-uniform"


def _stages(root: Path, lock: dict[str, Any]) -> dict[str, Stage]:
    """Every stage of the lock, in dvc.yaml's order as far as it has a notebook, then the others."""
    pages = {stage: f"{file.stem}.html" for stage, file in log.executed(root).items()}
    makers = {out["path"]: name for name, stage in lock.items() for out in stage.get("outs", [])}
    found = {}
    for name in sorted(lock, key=[*pages, *lock].index):
        used = [dep["path"] for dep in lock[name].get("deps", [])]
        before = {
            maker
            for path in used
            for made, maker in makers.items()
            if path == made or path.startswith(f"{made}/") or made.startswith(f"{path}/")
        }
        values = lock[name].get("params", {}).get("params.yaml", {})
        ordered = [one for one in lock if one in before - {name, "check"}]
        found[name] = Stage(name, pages.get(name, ""), ordered, dict(_flat(values)))
    return found


def _flat(values: dict[str, Any], above: str = ""):
    """{key.key: value} of nested parameters, as text."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", json.dumps(value, ensure_ascii=False)


def _commit(root: Path) -> str:
    """The commit that these results came with; empty where git doesn't hold them."""
    command = ["git", "-C", str(root), "log", "-1", "--format=%h", "--", "dvc.lock"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError:  # no git here
        return ""
    return done.stdout.strip()


def _there(root: Path, name: str, absent: str | None = None) -> str:
    """A committed file's text; where it isn't there, `absent`, or ValueError without that."""
    if not (root / name).is_file():
        if absent is not None:
            return absent
        raise ValueError(f"{name}: not there; run `dvc repro` first")
    return (root / name).read_text(encoding="utf-8")


def _text(element: ElementTree.Element) -> str:
    return " ".join("".join(element.itertext()).split())
