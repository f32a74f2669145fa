"""What a run left in its folder, and every number of it as a row of gpu.csv.

Columns: part, subject, what, setting, n, median, low, high, unit. Median and quartiles over n turns
or steps; of what was computed once, low and high are empty.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gpu import steps

COLUMNS = ["part", "subject", "what", "setting", "n", "median", "low", "high", "unit"]
FILES = {"a": "exactness", "b": "steps", "c": "maps", "d": "networks"}
LEAST = 3  # turns that a median takes
LIBRARIES = {"grad_cam": "pytorch-grad-cam", "torchcam": "torch-cam"}


def read(folder: Path) -> dict:
    """What a run left: {file: its content, or nothing where it isn't there}."""
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder}: holds no run.json; takes the folder that --out wrote")
    names = ["run", *FILES.values()]
    files = {name: folder / f"{name}.json" for name in names}
    found = {
        name: json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
        for name, file in files.items()
    }
    # What an earlier run left in the same folder is none of this one's.
    return found | {
        name: {} for letter, name in FILES.items() if letter not in found["run"]["parts"]
    }


def exact(found: dict) -> list[list]:
    """Part a's rows: what changes below the edge, the maps and their µ×100."""
    a, rows = found["exactness"], []
    kinds = {
        "largest_change": "largest change of a logit",
        "feature_change": "largest change of a feature",
        "dead_gradient": "largest gradient in the dead zone",
        "edge_gradient": "largest gradient in the row above",
    }
    for r in a.get("sealed", []):
        setting = f"{r['precision']}, {r['layout']}"
        for key, what in kinds.items():
            if key in r:
                rows.append(["a", r["network"], what, setting, r["images"], r[key], None, None, ""])
    for r in a.get("maps", []):
        for key, what in (("map", "a map"), ("mu", "µ×100")):
            subject, what = f"{r['network']}: {r['method']}", f"largest difference of {what}"
            rows.append(["a", subject, what, r["pair"], r["images"], r[key], None, None, ""])
    return rows


def stepped(found: dict) -> list[list]:
    """Part b's rows: images per second, ours against the plain loop, memory, the loader."""
    b, rows = found["steps"], []
    for precision in steps.PRECISIONS:
        seconds = {
            r["variant"]: np.array(r["seconds"])
            for r in b.get("steps", [])
            if r["precision"] == precision
        }
        for variant, values in seconds.items():
            rows.append(["b", variant, "images/s", precision, *spread(b["batch"] / values), ""])
        for one, other in (
            ("ours", "plain"),
            ("ours", "plain, channels-last"),
            ("ours, compiled", "plain, compiled"),
        ):
            if {one, other} <= seconds.keys():
                rows.append(
                    [
                        "b",
                        f"{one} / {other}",
                        "ratio",
                        precision,
                        *spread(seconds[other] / seconds[one]),
                        "",
                    ]
                )
    for r in b.get("steps", []):
        if r["peak_mb"] is not None:
            rows.append(
                [
                    "b",
                    r["variant"],
                    "memory",
                    r["precision"],
                    1,
                    r["peak_mb"] / 1024,
                    None,
                    None,
                    "GiB",
                ]
            )
    for r in b.get("loader", []):
        rows.append(
            [
                "b",
                f"loader, {r['images']}",
                "images/s",
                f"{r['workers']} workers",
                1,
                r["images_per_s"],
                None,
                None,
                "",
            ]
        )
    return rows


def mapped(found: dict) -> list[list]:
    """Part c's rows: milliseconds per image of ours and of each library, and their ratios."""
    rows, turns = [], pd.DataFrame(found["maps"].get("turns", []))
    if turns.empty:
        return rows
    for (geometry, methods), group in turns.groupby(["geometry", "methods"], sort=False):
        if len(group) < LEAST:
            continue
        rows.append(["c", methods, "ours", geometry, *spread(1000 * group["ours"]), "ms"])
        for key, library in LIBRARIES.items():
            if key in group and group[key].notna().all():
                ours = group["ours" if key == "grad_cam" else "ours_of_torchcam"]
                rows.append(["c", methods, library, geometry, *spread(1000 * group[key]), "ms"])
                rows.append(
                    ["c", methods, f"{library} / ours", geometry, *spread(group[key] / ours), ""]
                )
    return rows


def too_few(found: dict) -> dict[str, str]:
    """The comparisons of part c that a run had no time for, and why."""
    turns = pd.DataFrame(found["maps"].get("turns", []), columns=["geometry", "methods"])
    counts = turns.groupby(["geometry", "methods"], sort=False).size()
    return {
        f"{geometry}, {methods}": f"repetitions: {n}, fewer than {LEAST}"
        for (geometry, methods), n in counts.items()
        if n < LEAST
    }


def trained(found: dict) -> list[list]:
    """Part d's rows: accuracy, pace, and µ×100 above every kind of lower part."""
    d, rows = found["networks"], []
    for which, scores in d.get("train", {}).items():
        rows.append(["d", which, "top-1", "", d["images"]["val"], scores["top1"], None, None, ""])
        rows.append(
            [
                "d",
                which,
                "images/s, trained",
                scores["precision"],
                1,
                scores["images_seen"] / scores["seconds"],
                None,
                None,
                "",
            ]
        )
    for r in d.get("control", []):
        rows.append(
            [
                "d",
                r["method"],
                "µ×100, mean",
                f"below: {r['below']}",
                r["images"],
                r["mean"],
                None,
                None,
                "",
            ]
        )
    return rows


def spread(values: np.ndarray | pd.Series) -> list[float]:
    """n, median, first and third quartile."""
    values = np.asarray(values, float)
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return [len(values), median, low, high]
