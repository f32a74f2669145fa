"""The control of the paper's datasets: what is in a map beyond the hidden animal, in numbers.

The same upper part above other hidden parts, and the share of a map that lies on the hidden animal.
Of the first network, by the methods that cost little.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from walls.base import files, paths
from walls.images import stacked
from walls.paper.networks import ACTIVE
from walls.saliency.controls import ANOTHER, GREY, REDRAWN, SAME, STACKED, left_out
from walls.saliency.statistics import interval, summary
from walls.sanity.report import OBJECT

MOST = 0.5  # the part of µ that must go with the hidden animal for it to be most of what lights up
CELLS = ["mean", "ci_low", "ci_high", "images", "empty"]  # as in Table 1
COLUMNS = ["dataset", "method", "control", *CELLS, "difference", "difference_low"]
COLUMNS += ["difference_high", "on", "on_low", "on_high", "area"]
SAID = [SAME, ANOTHER, GREY]  # the controls that a sentence quotes of notebook 9


@dataclass(frozen=True)
class Control:
    """Every map under every control, long, with dataset, image and class.

    `under`: method, control, mu, mu_raw. `where`: method, on, area (saliency/control.py).
    """

    under: pd.DataFrame
    where: pd.DataFrame


def read(datasets: Sequence[str]) -> Control:
    """What the cams stages of the first network left: control.csv and where.csv of each."""
    parts: dict[str, list[pd.DataFrame]] = {"control": [], "where": []}
    for dataset in datasets:
        rows, _ = stacked.read(paths.runs("stacks"), dataset, 1)
        for name, tables in parts.items():
            table = pd.read_csv(paths.runs(f"cams-{dataset}", f"{name}.csv"))
            classes = table["image"].map(rows["class"])
            tables.append(table.assign(**{"dataset": dataset, "class": classes}))
    under, where = (pd.concat(tables, ignore_index=True) for tables in parts.values())
    return Control(under, where)


def write(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    """`tabulate`'s table as control.csv below `folder`; as text, to be shown."""
    folder.mkdir(parents=True, exist_ok=True)
    files.write_csv(table, folder / "control.csv", digits=4)
    return wide(table)


def tabulate(found: Control, seed: int = 0) -> pd.DataFrame:
    """Per dataset, method and control the mean µ×100 and its difference: figures/control.csv.

    Columns: dataset, method, control; mean, ci_low, ci_high, images, empty as in Table 1;
    `difference`, `difference_low`, `difference_high`: image by image, µ×100 with the hidden animal
    less µ×100 under this control, an empty map counting as 0; `on`, `on_low`, `on_high`, `area`:
    with the control "no animal", the percentage of the squared norm in the dead zone that lies on
    the animal, and the percentage of the dead zone that it covers, over the images whose map isn't
    0 there. All 95% intervals draw whole classes again.
    """
    rows = []
    for (dataset, method), group in found.under.groupby(["dataset", "method"], sort=False):
        mu = group.pivot(index="image", columns="control", values="mu").fillna(0.0)
        classes = group.drop_duplicates("image").set_index("image")["class"].loc[mu.index]
        for control in (name for name in STACKED if name in mu):
            own = group[group["control"] == control]
            values, raw = own["mu"].to_numpy(), own["mu_raw"].to_numpy()
            cells = summary(values, raw, seed, own["class"].to_numpy())
            row = {"dataset": dataset, "method": method, "control": control}
            row |= {name: cells[name] for name in CELLS}
            lost = 100 * (mu[SAME] - mu[control]).to_numpy()
            row |= _with_limits("difference", lost, classes.to_numpy(), seed)
            if control == REDRAWN:
                row |= _mass(found.where, dataset, method, seed)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _with_limits(name: str, values, classes, seed: int) -> dict[str, float]:
    low, high = interval(values, classes, seed)
    return {name: float(values.mean()), f"{name}_low": low, f"{name}_high": high}


def _mass(where: pd.DataFrame, dataset: str, method: str, seed: int) -> dict[str, float]:
    """Where one method's mass lies, in percent; NaN where all its maps are 0 in the dead zone."""
    own = where[(where["dataset"] == dataset) & (where["method"] == method)].dropna(subset="on")
    if own.empty:
        return {}
    on = _with_limits("on", 100 * own["on"].to_numpy(float), own["class"].to_numpy(), seed)
    return on | {"area": 100 * float(own["area"].astype(float).mean())}


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The table as text, a dataset's method per row and a control per column.

    Each cell has the mean and, after the first column, the change from that one with its interval;
    the last two columns, how much lies on the hidden animal, and its area.
    """
    cells: dict[tuple[str, str], dict[str, str]] = {}
    for row in table.itertuples():
        own = cells.setdefault((row.dataset.upper(), row.method), {})
        change = "" if row.control == SAME else f" ({_change(row)})"
        own[row.control] = f"{row.mean:.1f}{change}"
        if row.control == REDRAWN and row.on == row.on:
            own["on the animal, %"] = f"{row.on:.0f} [{row.on_low:.0f}, {row.on_high:.0f}]"
            own["its area, %"] = f"{row.area:.0f}"
    columns = [*STACKED, "on the animal, %", "its area, %"]
    found = pd.DataFrame.from_dict(cells, orient="index")
    return found.reindex(columns=[name for name in columns if name in found]).fillna("")


def _change(row) -> str:
    """The change from "same class" to a row's control, and its interval, with their signs."""
    differences = row.difference, row.difference_high, row.difference_low
    return "{:+.1f} [{:+.1f}, {:+.1f}]".format(*(0.0 - value for value in differences))


def sentences(table: pd.DataFrame, networks: Mapping[str, dict]) -> str:
    """What lights up in each dataset and in notebook 9's networks, a line each, by the numbers.

    `table`: `tabulate`'s; `networks`: runs/networks/networks.json. Of GradCAM, or the first method
    in the table, with how many other methods say the same.
    """
    if table.empty:
        return "No control: no method that costs little, or no images."
    known = list(table["method"])
    method = "GradCAM" if "GradCAM" in known else known[0]
    lines = [_dataset(own, name, method) for name, own in table.groupby("dataset", sort=False)]
    for name, report in networks.items():
        if method in report["verdicts"]:
            rows = {row["control"]: row for row in report["activity"] if row["method"] == method}
            means = ", ".join(f"{word} {rows[word]['mean']:.1f}" for word in SAID if word in rows)
            seen = report["verdicts"][method] == OBJECT
            told = "depends" if seen else "is not shown to depend"
            said = f"{name} on photographs (notebook 9): {method}'s µ {told} on the hidden object"
            lines.append(f"{said}. {method}'s µ×100: {means}.")
    return "\n".join(lines)


def _dataset(table: pd.DataFrame, dataset: str, method: str) -> str:
    """One dataset's line."""
    rows = table[table["method"] == method].set_index("control")
    same, parts = rows.loc[SAME], []
    lit = table[(table["control"] == SAME) & (table["mean"] > 100 * ACTIVE)]["method"]
    others = table[table["method"].isin(lit)]
    for control in (name for name in (REDRAWN, ANOTHER, GREY) if name in rows.index):
        row = rows.loc[control]
        each = others[others["control"] == control]
        fall = int((each["difference_low"] > 0).sum())
        verb = "falls" if fall == 1 else "fall"
        parts.append(
            f"{control} instead: {same['mean']:.1f} → {row['mean']:.1f} ({_change(row)}; "
            f"{fall} of the {len(each)} methods above {100 * ACTIVE:.0f} {verb})"
        )
    if REDRAWN in rows.index and rows.loc[REDRAWN, "on"] == rows.loc[REDRAWN, "on"]:
        row = rows.loc[REDRAWN]
        parts.append(
            f"{row['on']:.0f}% [{row['on_low']:.0f}, {row['on_high']:.0f}] of its mass in the dead "
            f"zone lies on the animal, which covers {row['area']:.0f}% of the zone"
        )
    parts += filter(None, [left_out(rows.index)])
    return f"{dataset.upper()}: {answer(rows, method)}. {method}'s µ×100, {'; '.join(parts)}."


def answer(rows: pd.DataFrame, method: str) -> str:
    """Whether the hidden animal is what lights up, in words; `rows`: a method's, by control.

    By what goes with the animal where it can be left out, else with its class: most of µ (more than
    MOST, with the whole interval), a part, more or less than half, or nothing that is shown; then
    how much it may be, by the interval's upper end.
    """
    control = next((name for name in (REDRAWN, ANOTHER) if name in rows.index), None)
    if control is None or not rows.loc[SAME, "mean"] > 0:
        return f"nothing can be said of {method}"
    what = "the hidden animal" if control == REDRAWN else "the hidden animal's class"
    half, row = MOST * rows.loc[SAME, "mean"], rows.loc[control]
    if row["difference_low"] > half:
        return f"{what} is what lights up: without it, most of {method}'s µ is gone"
    if row["difference_low"] <= 0:
        most = max(row["difference_high"], 0.0)
        fall = f"{method}'s µ×100 falls by {most:.1f} at most, if at all"
        return f"no effect of {what} is shown: without it, {fall}"
    part = "less than half" if row["difference_high"] < half else "about half"
    return f"{what} is part of what lights up: without it, {part} of {method}'s µ is gone"
