"""The table of all methods: an entry, one JSON file, for every network and method.

An entry says what a check found of one method, and what is known of the method. `write` makes
entries of a report, `table` reads all below a folder: a row per entry.
"""

import json
import math
import re
from pathlib import Path
from typing import Any

import pandas as pd

from walls.base import files
from walls.saliency.controls import CONTROLS
from walls.saliency.methods import BY, GUARANTEES, PASSES
from walls.sanity.report import Report

FACTS = ("by", "guarantee", "passes")
OWN = {"by": "its author", "guarantee": "not stated", "passes": "not stated"}  # of a user's method


def entry(report: Report, method: str, network: str) -> dict[str, Any]:
    """What a report says of one method: facts, certificate, verdict, µ×100 by what lies hidden.

    Raises ValueError for a method that was not checked.
    """
    verdict = report.verdict(method)
    known = {"by": BY, "guarantee": GUARANTEES, "passes": PASSES}
    found = report.as_json()
    rows = [row for row in found["activity"] if row["method"] == method]
    return {
        "method": method,
        "network": network,
        **{fact: known[fact].get(method, OWN[fact]) for fact in FACTS},
        "sign": report.sign,
        "image_rows": found["image_rows"],
        "seen_rows": found["seen_rows"],
        "uniform": found["uniform"],
        "certified": found["certificate"]["holds"],
        "classes": int(report.table["class"].nunique()),
        "verdict": verdict,
        "activity": [{k: v for k, v in row.items() if k != "method"} for row in rows],
    }


def write(report: Report, folder: Path, network: str) -> list[Path]:
    """Write every method's entry, `folder`/NETWORK/METHOD.json; the files."""
    written = []
    for method in report.methods:
        file = place(folder, network, method)
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(entry(report, method, network), file)
        written.append(file)
    return written


def place(folder: Path, network: str, method: str) -> Path:
    """The file of an entry."""
    return folder / _plain(network) / f"{_plain(method)}.json"


def table(folder: Path) -> pd.DataFrame:
    """All entries below `folder`, a row each: facts, verdict, and µ×100 with interval a control.

    Columns: method, network, by, guarantee, passes, sign, verdict, uniform, images, and for every
    control its mean, `CONTROL low` and `CONTROL high`. Sorted by network and method. Raises
    ValueError naming a file that is no entry.
    """
    rows = []
    for file in sorted(folder.glob("*/*.json")):
        try:
            rows.append(_row(json.loads(file.read_text(encoding="utf-8"))))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{file}: no entry ({type(error).__name__}: {error}); takes a file that "
                "`walls check --submit` wrote"
            ) from None
    found = pd.DataFrame(rows)
    return found.sort_values(["network", "method"], ignore_index=True) if rows else found


def _row(content: dict[str, Any]) -> dict[str, Any]:
    keys = ("method", "network", *FACTS, "sign", "verdict", "uniform")
    cells: dict[str, Any] = {key: content[key] for key in keys}
    by_control = {row["control"]: row for row in content["activity"]}
    cells["images"] = max(row["images"] for row in by_control.values())
    for control in CONTROLS:
        row = by_control.get(control, {})
        for name, key in (("", "mean"), (" low", "ci_low"), (" high", "ci_high")):
            value = row.get(key)
            cells[control + name] = math.nan if value is None else value
    return cells


def _plain(name: str) -> str:
    """A name as that of a file: other characters than letters, digits, + and - are one -."""
    return re.sub(r"[^\w+-]+", "-", name).strip("-")
