"""The table of every method, as the site's page and showcase/methods/README.md show it.

Both read the committed showcase/methods/methods.csv, which `python -m benchmarks.methods` writes.
"""

from pathlib import Path
from typing import Any

import pandas as pd

from walls.saliency.controls import CONTROLS
from walls.saliency.methods import METHODS

FILE = "methods.html"
FOLDER = Path("showcase") / "methods"
FACTS = ("network", "verdict", "guarantee", "passes", "by")
EMPTY = "empty maps"


def methods(root: Path) -> dict[str, Any]:
    """What the page shows: `rows`, one a method and network, and `uniform`, {network: µ×100}.

    A row's `cells` are (text, number to sort by) a control: mean µ×100 [95% interval]. No rows
    where the table hasn't been made.
    """
    file = root / FOLDER / "methods.csv"
    if not file.is_file():
        return {"rows": [], "uniform": {}}
    table = _read(file)
    rows = [
        {
            "method": row["method"],
            "images": row["images"],
            "cells": [_cell(row, control) for control in CONTROLS],
            **{fact: row[fact] for fact in FACTS},
        }
        for row in table.to_dict("records")
    ]
    return {"rows": rows, "uniform": dict(zip(table["network"], table["uniform"], strict=True))}


def block(folder: Path) -> str:
    """The table as Markdown, a method a row and a network a column, of `folder`/methods.csv."""
    table = _read(folder / "methods.csv")
    networks = list(dict.fromkeys(table["network"]))
    heads = ("method", *(f"{name}: {' / '.join(CONTROLS)}" for name in networks))
    heads += ("zero behind a wall?", "passes an image", "from")
    lines = [heads, ("---", *["---:"] * len(networks), "---", "---", "---")]
    there = set(table["method"])
    ordered = [*filter(there.__contains__, METHODS), *sorted(there - set(METHODS))]
    for method in ordered:
        own = {row["network"]: row for row in _of(table, method)}
        means = [_means(own[name]) if name in own else "" for name in networks]
        some = next(iter(own.values()))
        lines.append((method, *means, some["guarantee"], some["passes"], some["by"]))
    uniform = [table[table["network"] == name]["uniform"].iloc[0] for name in networks]
    lines.append(("uniform map", *(f"{value:.1f}" for value in uniform), "", "", ""))
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def _read(file: Path) -> pd.DataFrame:
    return pd.read_csv(file, keep_default_na=False, na_values=[""])


def _of(table: pd.DataFrame, method: str) -> list[dict[str, Any]]:
    return table[table["method"] == method].to_dict("records")  # type: ignore[return-value]


def _means(row: dict[str, Any]) -> str:
    found = [row[control] for control in CONTROLS]
    return " / ".join(EMPTY if pd.isna(mean) else f"{mean:.1f}" for mean in found)


def _cell(row: dict[str, Any], control: str) -> tuple[str, float]:
    mean, low, high = (row[control + part] for part in ("", " low", " high"))
    if pd.isna(mean):
        return EMPTY, -1.0
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]", mean
