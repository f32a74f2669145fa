"""The site's page of every method, from the committed table showcase/methods/methods.csv."""

from pathlib import Path
from typing import Any

import pandas as pd

from walls.saliency.controls import CONTROLS

FILE = "methods.html"
TABLE = Path("showcase") / "methods" / "methods.csv"
FACTS = ("network", "verdict", "guarantee", "passes", "by")
EMPTY = "empty maps"


def methods(root: Path) -> dict[str, Any]:
    """What the page shows: `rows`, one a method and network, and `uniform`, {network: µ×100}.

    A row's `cells` are (text, number to sort by) a control: mean µ×100 [95% interval]. No rows
    where the table hasn't been made.
    """
    if not (root / TABLE).is_file():
        return {"rows": [], "uniform": {}}
    table = pd.read_csv(root / TABLE, keep_default_na=False, na_values=[""])
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


def _cell(row: dict[str, Any], control: str) -> tuple[str, float]:
    mean, low, high = (row[control + part] for part in ("", " low", " high"))
    if pd.isna(mean):
        return EMPTY, -1.0
    return f"{mean:.1f} [{low:.1f}, {high:.1f}]", mean
