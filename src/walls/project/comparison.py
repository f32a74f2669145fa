"""Two runs' results beside each other, topic by topic.

What is derived or drawn must be equal on every machine. What is trained can't be: another processor
rounds float32 and bfloat16 differently, and a training makes another network of that, so it must
lie where honest runs do (tolerance.py).
"""

import json
import math
import subprocess
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from walls.paper import claims
from walls.project import tolerance
from walls.saliency.methods import ZERO

# Relative, of the theory's values: they have six digits, and the last may be rounded otherwise.
DIGITS = 1e-5
EMPTY = 0.05  # the share of images whose maps may be all zero for one network and not for another
# In metrics/theory.json: sampled, optimised, or the rounding itself. `holds` says whether they fit,
# and must be equal.
SAMPLED = {
    "sampled",
    "errors",
    "errors, all positions",
    "1% in errors",
    "µ, sampled",
    "P(> 0)",
    "median",
    "mean",
    "t P, sampled",
    "p-value",
    "difference",
    "difference as it is",
    "score",
    "uniform β",
    "best on a grid",
    "gap",
    "positive there",
    "µ of the raw map",
}
CELLS = ["mean", "std", "ci_low", "ci_high", "mean_raw"]

Read = Callable[[str], str]  # the text of a result, by its path in the project


class Check(NamedTuple):
    """One line of the comparison."""

    topic: str
    what: str
    committed: object
    here: object
    allowed: str
    agrees: bool


def committed(root: Path, revision: str = "HEAD") -> Read:
    """The results as git holds them; ValueError where it doesn't."""

    def read(name: str) -> str:
        done = subprocess.run(
            ["git", "show", f"{revision}:{name}"], cwd=root, capture_output=True, encoding="utf-8"
        )
        if done.returncode:
            raise ValueError(
                f"{name}: not committed here ({done.stderr.strip()}); "
                "takes a git checkout of the project"
            )
        return done.stdout

    return read


def in_folder(folder: Path) -> Read:
    """The results as they lie in a copy of the project; ValueError where they don't."""

    def read(name: str) -> str:
        try:
            return (folder / name).read_text(encoding="utf-8")
        except OSError:
            raise ValueError(
                f"{folder / name}: not there; takes a copy of the project after `dvc repro`"
            ) from None

    return read


def compare(theirs: Read, ours: Read) -> list[Check]:
    """Every claim of the committed run (`theirs`) beside another's (`ours`).

    Raises ValueError where their parameters differ.
    """
    a, b = (yaml.safe_load(read("params.yaml")) for read in (theirs, ours))
    for key in sorted(a.keys() | b.keys()):
        if a.get(key) != b.get(key):
            raise ValueError(f"params.yaml: {key} differs; takes a run of the same parameters")
    parts = (geometry, certificates, theory, images, zeros, accuracies, activity_cells, verdicts)
    return [check for part in parts for check in part(theirs, ours)]


def geometry(theirs: Read, ours: Read) -> Iterator[Check]:
    """The dead zone and what follows from it: equal."""
    a, b = _metrics("wall", theirs, ours)
    for key in a | b:
        yield _equal("geometry", key, a.get(key, "missing"), b.get(key, "missing"))


def certificates(theirs: Read, ours: Read) -> Iterator[Check]:
    """What the notebooks say about the wall on fresh and on trained weights: must be equal.

    For the fresh ones that is all of notebook 2.
    """
    for name, key in (
        ("2_wall", ""),
        ("6_cams-stack-mix", "Certified"),
        ("6_cams-stack-gen", "Certified"),
    ):
        a, b = (
            [line for line in _printed(read(f"rendered/{name}.ipynb")) if key in line]
            for read in (theirs, ours)
        )
        here = "the same" if a == b else next((line for line in b if line not in a), "fewer lines")
        yield Check(
            "certificates",
            f"rendered/{name}.ipynb",
            _counted(len(a), "line"),
            here,
            "equal",
            a == b,
        )


def theory(theirs: Read, ours: Read) -> Iterator[Check]:
    """The theory's exact values, part by part, and which of its checks hold: equal, to `DIGITS`."""
    a, b = map(_exact, _metrics("theory", theirs, ours))
    parts: dict[str, list] = {}
    for name in a | b:
        x, y = a.get(name, "missing"), b.get(name, "missing")
        parts.setdefault(name.split(":")[0], []).append((name, x, y, _close(x, y)))
    for part, found in parts.items():
        wrong = "; ".join(f"{name} {y} for {x}" for name, x, y, same in found if not same)
        yield Check(
            "theory",
            part,
            _counted(len(found), "value"),
            wrong or "the same",
            f"{DIGITS:g} of each",
            not wrong,
        )


def images(theirs: Read, ours: Read) -> Iterator[Check]:
    """The images, by DVC's digest of their files: equal, so every pixel is."""
    a, b = (yaml.safe_load(read("dvc.lock"))["stages"]["data"]["outs"] for read in (theirs, ours))
    x, y = ({out["path"]: out for out in outs}["data/set"] for outs in (a, b))
    yield _equal("images", f"data/set, {x['nfiles']} files", x["md5"], y["md5"])


def zeros(theirs: Read, ours: Read) -> Iterator[Check]:
    """The activity of HiResCAM and the other methods that can have none: exactly 0."""
    a, b = _tables(theirs, ours)
    for key, row in a.iterrows():
        if key[1] in ZERO:
            here = b.loc[key, CELLS] if key in b.index else None
            yield Check(
                "zeros",
                " ".join(key),
                "0",
                "missing" if here is None else f"{here.abs().max():g}",
                "equal",
                here is not None and not row[CELLS].any() and bool((here == 0).all()),
            )


def accuracies(theirs: Read, ours: Read) -> Iterator[Check]:
    """Top-1 and top-5, of all masked networks on average, as honest runs have them.

    As many networks, epochs and images; the precision is told.
    """
    a, b = _metrics("train", theirs, ours)
    shown = yaml.safe_load(theirs("params.yaml"))["data"]["val_images"]
    kinds = {"masked": [which for which in b if which != "baseline"], "baseline": ["baseline"]}
    expected = tolerance.expected(theirs, len(kinds["masked"]))
    yield _equal("accuracy", "networks", len(a), len(b))
    for kind, names in kinds.items():
        before = [which for which in a if which.startswith(kind)]
        for key in ("top1", "top5"):
            x, y = _average(a, before, key), _average(b, names, key)
            yield _accuracy(f"{kind} {key}", x, y, shown, expected.get(f"{kind} {key}"))
    for which in a | b:
        x, y = a.get(which, {}), b.get(which, {})
        yield from (
            _equal("accuracy", f"{which} {key}", x.get(key), y.get(key))
            for key in ("epochs", "images_seen")
        )
        yield Check(
            "accuracy", f"{which} precision", x.get("precision"), y.get("precision"), "any", True
        )


def activity_cells(theirs: Read, ours: Read) -> Iterator[Check]:
    """Every cell of Table 1, a line per dataset and method.

    Of the default the means over all networks of their own means and deviations, as honest runs
    have them; of other parameters every cell, to the width of the committed mean's own interval.
    """
    a, b = _tables(theirs, ours)
    found, networks = _by_network(ours)
    expected = tolerance.expected(theirs, networks)
    for key in [*a.index, *b.index.difference(a.index)]:
        if key not in a.index or key not in b.index:
            told = ["no such line" if key not in table.index else "a line" for table in (a, b)]
            yield Check("Table 1", " ".join(key), *told, "equal", False)
            continue
        x, y, name = a.loc[key], b.loc[key], f"{key[1]}, {key[0]}"
        if f"{name}, mean" in expected:
            low, high = expected[f"{name}, mean"]
            allowed = f"{max(low, 0):.1f} to {min(high, 100):.1f}"
            wrong = _outside(name, found, expected)
        else:
            least = 0 if key[1] in (*ZERO, "uniform map") else 100 * claims.ACTIVE
            width = max(x["ci_high"] - x["ci_low"], least)
            allowed = f"± {width:.1f}"
            wrong = _farther(x, y, width)
        fixed = ["images", "paper_mean", "paper_std"]
        wrong += [
            f"{cell} {y[cell]:.4g}" for cell in fixed if not _close(float(x[cell]), float(y[cell]))
        ]
        if abs(x["empty"] - y["empty"]) > EMPTY * x.get("maps", x["images"]):
            wrong.append(f"{y['empty']:.0f} empty maps")
        told = f"{y['mean']:.1f} ± {y['std']:.1f}" + "".join(f"; {cell}" for cell in wrong)
        yield Check(
            "Table 1",
            " ".join(key),
            f"{x['mean']:.1f} ± {x['std']:.1f}",
            told,
            allowed,
            not wrong,
        )


def _outside(
    name: str, found: dict[str, float], expected: dict[str, tuple[float, float]]
) -> list[str]:
    """The numbers of a line that honest runs don't have: each network's, averaged."""
    wrong = []
    for cell in tolerance.CELLS:
        low, high = expected.get(f"{name}, {cell}", (-math.inf, math.inf))
        value = found.get(f"{name}, {cell}", math.nan)
        if not low <= value <= high:
            wrong.append(f"{cell} {value:.4g}, not {low:.4g} to {high:.4g}")
    return wrong


def _farther(x: pd.Series, y: pd.Series, allowed: float) -> list[str]:
    """The cells of a line that lie farther apart than allowed."""
    reach = allowed + 1e-4  # the files have four decimals
    far = {
        cell: abs(x[cell] - y[cell])
        for cell in CELLS
        if not (math.isnan(x[cell]) and math.isnan(y[cell]))
    }
    return [f"{cell} {y[cell]:.4g}" for cell, distance in far.items() if not distance <= reach]


def _by_network(read: Read) -> tuple[dict[str, float], int]:
    """A run's cells averaged over its networks, and how many those are."""
    try:
        table = pd.read_csv(StringIO(read("figures/by_network.csv")))
    except ValueError:  # from before there were several
        table = pd.read_csv(StringIO(read("figures/table1.csv"))).assign(network=0)
    return tolerance.cells(table), table["network"].nunique()


def _average(records: dict, names: list[str], key: str) -> float | None:
    """Of some networks' records the mean of a number; None where one lacks it."""
    found = [records[name].get(key) for name in names]
    return None if not found or None in found else float(np.mean(found))


def verdicts(theirs: Read, ours: Read) -> Iterator[Check]:
    """The verdict on every claim of the paper."""
    a, b = (
        {row["id"]: row["verdict"] for row in rows} for rows in _metrics("claims", theirs, ours)
    )
    for id in a | b:
        x, y, claim = a.get(id, "missing"), b.get(id, "missing"), claims.by_id(id)
        observed = claim.kind == claims.OBSERVED
        near = (
            observed
            and claims.INCONCLUSIVE in (x, y)
            and {x, y} <= {claims.HOLDS, claims.FAILS, claims.INCONCLUSIVE}
        )
        allowed = "one step" if observed else "equal"
        yield Check("verdict", claim.statement, x, y, allowed, x == y or near)


def _metrics(name: str, *reads: Read) -> list:
    return [json.loads(read(f"metrics/{name}.json")) for read in reads]


def _tables(*reads: Read) -> list[pd.DataFrame]:
    return [
        pd.read_csv(StringIO(read("figures/table1.csv"))).set_index(["dataset", "method"])
        for read in reads
    ]


def _printed(notebook: str) -> list[str]:
    """The lines that a notebook's cells printed."""
    outputs = [
        output for cell in json.loads(notebook)["cells"] for output in cell.get("outputs", [])
    ]
    return "".join("".join(output.get("text", "")) for output in outputs).splitlines()


def _exact(found: dict) -> dict[str, object]:
    """{"check, name": value} of what metrics/theory.json holds, without what was sampled."""
    flat = {}
    for check, values in found.items():
        for name, value in values.items() if isinstance(values, dict) else [("", values)]:
            if name not in SAMPLED:
                flat[f"{check}, {name}".strip(", ")] = value
    return flat


def _counted(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _close(x: object, y: object) -> bool:
    if isinstance(x, float) and isinstance(y, float):
        return math.isclose(x, y, rel_tol=DIGITS) or (math.isnan(x) and math.isnan(y))
    return x == y


def _equal(topic: str, what: str, x: object, y: object) -> Check:
    return Check(topic, what, x, y, "equal", x == y)


def _accuracy(
    what: str,
    x: float | None,
    y: float | None,
    shown: int | None,
    expected: tuple[float, float] | None,
) -> Check:
    if x is None or y is None:
        return _equal("accuracy", what, x, y)
    if expected:
        low, high = expected
        words = f"{max(low, 0):.1f}% to {min(high, 100):.1f}%"
        return Check("accuracy", what, f"{x:.1%}", f"{y:.1%}", words, low <= 100 * y <= high)
    interval = stats.binomtest(round(x * (shown or 500)), shown or 500).proportion_ci(0.95, "exact")
    allowed = 100 * (interval.high - interval.low)
    near = 100 * abs(x - y) <= allowed + 1e-9
    return Check("accuracy", what, f"{x:.1%}", f"{y:.1%}", f"± {allowed:.1f} points", near)
