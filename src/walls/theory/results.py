"""A check's rows: how they are shown, written, and how far two sides lie apart.

Every statement of the theory is computed two independent ways and compared. A check returns {name:
{number: value, ..., "holds": bool}}: the rows of notebook 1 and of theory.json. Thresholds: 10^-12
relative for algebra in float64; four standard errors for means over draws.
"""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from walls.base import files
from walls.figures import style
from walls.theory.formulas import Array

Rows = dict[str, dict[str, Any]]
EXACT = 1e-12
ERRORS = 4.0


class Checks:
    """A section's rows as a notebook shows them: a line, which opens the table on request."""

    def __init__(self, section: str, rows: Rows):
        self.section, self.rows = section, rows

    def __repr__(self) -> str:
        return f"{_count(self.section, self.rows)}\n{text(self.rows)}"

    def _repr_html_(self) -> str:
        return style.opens(_count(self.section, self.rows), table(self.rows))


class Overview:
    """All sections, one a row, as a notebook shows them: a line, which opens the table on request.

    `difference`, `errors`: the largest of the section's rows.
    """

    def __init__(self, found: dict[str, Rows]):
        self.every = {
            f"{name}: {key}": row for name, one in found.items() for key, row in one.items()
        }
        self.rows: Rows = {
            name: {
                "checks": len(rows),
                "hold": sum(row["holds"] for row in rows.values()),
                "difference": _largest(rows, "difference"),
                "errors": _largest(rows, "errors"),
            }
            for name, rows in found.items()
        }

    def __repr__(self) -> str:
        return f"{_count('All sections', self.every)}\n{text(self.rows)}"

    def _repr_html_(self) -> str:
        return style.opens(_count("All sections", self.every), table(self.rows))


def table(rows: Rows) -> pd.DataFrame:
    """The rows as text with three significant digits, so that processors agree on it.

    `difference` is the power of ten that it stays below, `errors` (standard errors) has two digits.
    """

    def cell(name: str, value: float | bool | str | None) -> str:
        if value is None or isinstance(value, str | bool):
            return "-" if value is None else str(value)
        if name.startswith("difference"):
            return f"< 1e{max(-12, math.floor(math.log10(value)) + 1) if value else -12}"
        return f"{value:.2g}" if name.startswith("errors") else f"{value:.3g}"

    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    cells = [[cell(name, row.get(name)) for name in names] for row in rows.values()]
    return pd.DataFrame(cells, index=list(rows), columns=names)


def text(rows: Rows) -> str:
    """`table` in lines, its columns flush left."""
    found = table(rows)
    lines = [
        ["", *found.columns],
        *([key, *line] for key, line in zip(found.index, found.values, strict=True)),
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    return "\n".join(
        "  ".join(one.ljust(width) for one, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def show(rows: Rows) -> None:
    """Print the rows."""
    print(text(rows))


def _count(section: str, rows: Rows) -> str:
    failed = [name for name, row in rows.items() if not row["holds"]]
    said = f"{section}: {len(rows) - len(failed)} of {len(rows)} checks hold"
    return said + (f"; not: {', '.join(failed)}" if failed else "")


def _largest(rows: Rows, name: str) -> float | None:
    return max((row[name] for row in rows.values() if row.get(name) is not None), default=None)


def write(found: dict[str, Rows], path: Path) -> str:
    """Write every section's rows to `path`, flat, six digits each; one sentence of summary."""
    rows = {
        f"{section}: {name}": row for section, part in found.items() for name, row in part.items()
    }
    failed = [name for name, row in rows.items() if not row["holds"]]
    rounded = {
        name: {
            key: float(f"{value:.6g}") if isinstance(value, float) else value
            for key, value in row.items()
        }
        for name, row in rows.items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files.write_json({"checks": len(rows), "failed": failed, **rounded}, path)
    return f"{len(rows) - len(failed)} of {len(rows)} checks hold" + (
        f"; not: {', '.join(failed)}" if failed else ""
    )


def verdict(found: dict[str, Rows]) -> str:
    """The notebook's last sentence: what Theorem 1's chain of checks came to, with its numbers."""
    rows = found["Theorem 1"]
    worst = max(row["errors"] for row in rows.values())
    last = list(rows)[-1]
    picture = found["Figure 3"]["GradCAM in the dead zone"]
    predicted = next(row for name, row in found["Predicted class"].items() if "K = 10," in name)
    return (
        "GradCAM sees through the wall: the network's logits never change with the dead zone, "
        f"yet GradCAM's expected score there is exactly {rows[last]['exact']:.3g} at {last} "
        f"(Monte Carlo: {rows[last]['sampled']:.3g}; all positions and V within {worst:.2g} "
        f"standard errors). The paper's bound is {100 * rows[last]['Eq. 5 / exact']:.0f}% of it, "
        "and tends to 71%. For the predicted one of ten classes (8 filters), the expected score is "
        f"{predicted['of a fixed class']:.2g} times that of a fixed class, and the score is "
        f"positive in {100 * predicted['P, law']:.0f}% of the networks. One network's map has "
        f"µ = {picture['µ of the raw map']:.2f} there. HiResCAM and LayerCAM score exactly "
        f"{found['Beyond GradCAM']['HiResCAM']['mean']:.0f}."
    )


def relative(ours: Array, theirs: Array) -> float:
    """Largest difference over the largest value; 0 where all are 0, 999 for infinity and NaN."""
    difference, scale = np.abs(np.asarray(ours) - theirs).max(), np.abs(theirs).max()
    share = difference / scale if scale else np.where(difference == 0, 0, 999)
    return float(np.nan_to_num(share, nan=999, posinf=999))


def errors(difference: Array, error: Array) -> float:
    """Largest |difference| in standard errors; 0 where both are 0, 999 for infinity and NaN."""
    difference, error = np.abs(np.atleast_1d(difference)), np.atleast_1d(error)
    z = np.where(
        difference == 0,
        0,
        np.divide(difference, error, out=np.full_like(difference, 999.0), where=error > 0),
    )
    return float(min(np.nan_to_num(z, nan=999).max(), 999.0))
