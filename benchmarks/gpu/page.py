"""benchmarks/gpu.md and gpu.csv, from what a run left in its folder; what the run lacks is said, not left out.

Every table of the page is made of rows of gpu.csv: part, subject, what, setting, n, median, low, high, unit. Median and
quartiles over n turns or steps; of what was computed once, low and high are empty.
"""

import json
import math
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.gpu import exactness, steps

COLUMNS = ["part", "subject", "what", "setting", "n", "median", "low", "high", "unit"]
FILES = {"a": "exactness", "b": "steps", "c": "maps", "d": "networks"}
PAIRS = ("processor: float32 to float64", "float64", "float32", "float32, TF32", "bfloat16")
LIBRARIES = {"grad_cam": "pytorch-grad-cam", "torchcam": "torch-cam"}
GOAL = 1.2  # times the plain loop's images per second that the step is meant to reach


def write(folders: list[Path], target: Path) -> list[Path]:
    """Write gpu.md and gpu.csv into `target`; their paths. ValueError where a folder holds no run.

    Of several folders, each part is of the last one that ran it.
    """
    found = read(folders[0])
    for folder in folders[1:]:
        later = read(folder)
        for letter, part in later["run"]["parts"].items():
            found["run"]["parts"][letter] = part
            found[FILES[letter]] = later[FILES[letter]]
    table = pd.DataFrame([row for part in (exact, stepped, mapped, trained) for row in part(found)], columns=COLUMNS)
    page, values = target / "gpu.md", target / "gpu.csv"
    table.to_csv(values, index=False, float_format="%.6g", lineterminator="\n")
    page.write_text(text(found, table), encoding="utf-8")
    return [page, values]


def read(folder: Path) -> dict:
    """What a run left: {"run": …, and per part's file its content, or nothing where it isn't there}."""
    if not (folder / "run.json").is_file():
        raise ValueError(f"{folder}: holds no run.json; takes the folder that --out wrote")
    names = ["run", *FILES.values()]
    files = {name: folder / f"{name}.json" for name in names}
    found = {name: json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {} for name, file in files.items()}
    # What an earlier run left in the same folder is none of this one's.
    return found | {name: {} for letter, name in FILES.items() if letter not in found["run"]["parts"]}


def exact(found: dict) -> list[list]:
    """Part a's rows: the logits below the edge, the maps and their µ×100."""
    a, rows = found["exactness"], []
    for r in a.get("sealed", []):
        setting = f"{r['precision']}, {r['layout']}"
        for key, what in (("logit_change", "a logit"), ("feature_change", "a feature")):
            rows.append(["a", r["network"], f"largest change of {what}", setting, r["images"], r[key], None, None, ""])
    for r in a.get("maps", []):
        for key, what in (("map", "largest difference of a map"), ("mu", "largest difference of µ×100")):
            rows.append(["a", f"{r['network']}: {r['method']}", what, r["pair"], r["images"], r[key], None, None, ""])
    return rows


def stepped(found: dict) -> list[list]:
    """Part b's rows: images per second of every variant, ours against the plain loop, memory, the loader."""
    b, rows = found["steps"], []
    for precision in steps.PRECISIONS:
        seconds = {r["variant"]: np.array(r["seconds"]) for r in b.get("steps", []) if r["precision"] == precision}
        for variant, values in seconds.items():
            rows.append(["b", variant, "images/s", precision, *spread(b["batch"] / values), ""])
        for one, other in (("ours", "plain"), ("ours", "plain, channels-last"), ("ours, compiled", "plain, compiled")):
            if {one, other} <= seconds.keys():
                rows.append(["b", f"{one} / {other}", "ratio", precision, *spread(seconds[other] / seconds[one]), ""])
    for r in b.get("steps", []):
        if r["peak_mb"] is not None:
            rows.append(["b", r["variant"], "memory", r["precision"], 1, r["peak_mb"] / 1024, None, None, "GiB"])
    for r in b.get("loader", []):
        rows.append(["b", f"loader, {r['images']}", "images/s", f"{r['workers']} workers", 1, r["images_per_s"], None, None, ""])
    return rows


def mapped(found: dict) -> list[list]:
    """Part c's rows: milliseconds per image of ours and of each library, and their ratios."""
    rows, turns = [], pd.DataFrame(found["maps"].get("turns", []))
    if turns.empty:
        return rows
    for (geometry, methods), group in turns.groupby(["geometry", "methods"], sort=False):
        rows.append(["c", methods, "ours", geometry, *spread(1000 * group["ours"]), "ms"])
        for key, library in LIBRARIES.items():
            if key in group and group[key].notna().all():
                ours = group["ours" if key == "grad_cam" else "ours_of_torchcam"]
                rows.append(["c", methods, library, geometry, *spread(1000 * group[key]), "ms"])
                rows.append(["c", methods, f"{library} / ours", geometry, *spread(group[key] / ours), ""])
    return rows


def trained(found: dict) -> list[list]:
    """Part d's rows: accuracy, pace, and µ×100 above every kind of lower part."""
    d, rows = found["networks"], []
    for which, scores in d.get("train", {}).items():
        rows.append(["d", which, "top-1", "", d["images"]["val"], scores["top1"], None, None, ""])
        rows.append(["d", which, "images/s, trained", scores["precision"], 1, scores["images_seen"] / scores["seconds"], None,
                     None, ""])  # fmt: skip
    for r in d.get("control", []):
        rows.append(["d", r["method"], "µ×100, mean", f"below: {r['below']}", r["images"], r["mean"], None, None, ""])
    return rows


def spread(values: np.ndarray | pd.Series) -> list[float]:
    """n, median, first and third quartile."""
    values = np.asarray(values, float)
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return [len(values), median, low, high]


def text(found: dict, table: pd.DataFrame) -> str:
    """The page."""
    run = found["run"]
    memory = f" ({run['device_memory_gib']:.0f} GiB)" if run.get("device_memory_gib") else ""
    commit = f" Commit `{run['commit']}`." if run.get("commit") else ""
    parts = sorted(run["parts"].items())
    said = "; ".join(f"{letter}, {part['title']}, {part['seconds']:.0f} s"
                      + (f" on {part['device']}" if part.get("device", run["device"]) != run["device"] else "") for letter, part in parts)
    lines = [
        "# On a GPU, measured", "",
        f"`python -m benchmarks.gpu --out DIR --minutes {run['minutes']:g}` on {run['device']}{memory}, {run['processor']}, "
        f"{run['cores']} cores; {', '.join(run['versions'])}, cuDNN {run['cudnn']}; {run['date']}.{commit}",
        f"Its parts: {said}. Each was run once. The numbers of this page are in [gpu.csv](gpu.csv).", "",
    ]  # fmt: skip
    if run["tiny"]:
        lines += ["**A rehearsal at the smallest sizes: nothing here is worth reading.**", ""]
    for section in (exact_text, steps_text, maps_text, networks_text):
        lines += [*section(found, table), ""]
    return "\n".join(lines).rstrip() + "\n"


def exact_text(found: dict, table: pd.DataFrame) -> list[str]:
    """What is equal, and within what."""
    a = found["exactness"]
    lines = ["## The dead zone, and the maps, against a processor", ""]
    if a.get("sealed"):
        lines += ["Logits on the device, and the features they are made of, computed at full height, before and after everything below the edge was replaced: by another image's, "
                  "by noise, by finite values up to ±1e30. Equal: to the last bit. So that the comparison can fail: the same for "
                  f"the {exactness.ABOVE} rows above the edge, which must count.", "",
                  "| network | precision | layout | images | equal when replaced, noise, extreme | the same twice | rows above "
                  "count | largest change of a logit (largest logit) | of a feature | gradient in the dead zone (in the row above) |",
                  "| --- | --- | --- | ---: | --- | --- | --- | ---: | ---: | ---: |"]  # fmt: skip
        for r in a["sealed"]:
            equal = ", ".join(yes(r[name]) for name in ("replaced", "noise", "extreme"))
            lines.append(f"| {r['network']} | {r['precision']} | {r['layout']} | {r['images']} | {equal} | {yes(r['again'])} | "
                         f"{yes(r['rows_above_count'])} | {r['logit_change']:.2g} ({r['largest_logit']:.2g}) | "
                         f"{r['feature_change']:.2g} ({r['largest_feature']:.2g}) | "
                         f"{r['dead_gradient']:.2g} ({r['edge_gradient']:.2g}) |")  # fmt: skip
        lines.append("")
    maps = pd.DataFrame(a.get("maps", []))
    if not maps.empty:
        lines += ["Upscaled maps, in [0, 1], and their µ×100: the largest difference of a pixel, and of µ×100, between the device "
                  "and the same call on the processor (float32, but for float64 against float64), for the same target class. First, "
                  "how far the processor's own float32 is from its float64. The sign of EigenCAM and its kin is whatever a library "
                  "returns, so that a map may turn over as a whole; Opti-CAM is an optimisation, which any rounding may lead "
                  "elsewhere.", ""]  # fmt: skip
        for network, group in maps.groupby("network", sort=False):
            pairs = [pair for pair in PAIRS if pair in set(group["pair"])]
            lines += [f"{network}, {group['images'].iloc[0]} images, Opti-CAM with "
                      f"{a['networks'][network]['opticam_steps']} steps; map, µ×100:", "",
                      f"| method | {' | '.join(pairs)} |", "| --- |" + " ---: |" * len(pairs)]  # fmt: skip
            for method, rows in group.groupby("method", sort=False):
                by_pair = rows.set_index("pair")
                cells = [f"{by_pair.loc[pair, 'map']:.1g}, {by_pair.loc[pair, 'mu']:.1g}" if pair in by_pair.index else ""
                         for pair in pairs]  # fmt: skip
                lines.append(f"| {method} | {' | '.join(cells)} |")
            lines.append("")
    return [*lines, *missing(found, "a")]


def steps_text(found: dict, table: pd.DataFrame) -> list[str]:
    """The step against the plain loop; the loader."""
    b = found["steps"]
    lines = ["## Masked training against a plain loop", ""]
    if b.get("steps"):
        network = ", ".join(f"{name} {value}" for name, value in b["network"].items())
        lines += [f"[VGG] with {network}; batches of {b['batch']}. The plain loop is torchvision's reference recipe: NCHW, ready-made "
                  "float images, every row computed, the wall's mask multiplied in after every step. Ours gets the loader's uint8, "
                  "flips and normalises them, channels-last, and computes the rows that the head can see. The same architecture, "
                  "precision, batch and optimiser, a step each in turn; medians, quartiles in brackets. Memory: weights, gradient, "
                  "momentum and a step's activations at their peak.", "",
                  "| precision | step | n | images/s | memory (GiB) |", "| --- | --- | ---: | ---: | ---: |"]  # fmt: skip
        mine = table[table["part"] == "b"]
        for r in mine[(mine["what"] == "images/s") & mine["setting"].isin(steps.PRECISIONS)].itertuples():
            memory = mine[(mine["what"] == "memory") & (mine["subject"] == r.subject) & (mine["setting"] == r.setting)]["median"]
            lines.append(f"| {r.setting} | {r.subject} | {r.n} | {r.median:.0f} [{r.low:.0f}, {r.high:.0f}] | "
                         f"{f'{memory.iloc[0]:.1f}' if len(memory) else ''} |")  # fmt: skip
        lines += ["", "| precision | what by what | n | ratio of images/s |", "| --- | --- | ---: | ---: |"]
        ratios = mine[mine["what"] == "ratio"]
        for r in ratios.itertuples():
            lines.append(f"| {r.setting} | {r.subject} | {r.n} | {r.median:.2f} [{r.low:.2f}, {r.high:.2f}] |")
        plain = ratios[ratios["subject"] == "ours / plain"]
        reached = ", ".join(f"{r.setting} {'yes' if r.median >= GOAL else 'no'}" for r in plain.itertuples())
        lines += ["", f"At least {GOAL} times the plain loop, as meant: {reached or 'not measured'}.", ""]
    if b.get("loader"):
        cores = b["loader"][0]["cores"]
        lines += [f"The loader alone on {cores} cores, images/s, of the images that the training reads and of photographs of a usual "
                  "size:", "", "| images | workers | images/s |", "| --- | ---: | ---: |",
                  *(f"| {r['images']} | {r['workers']} | {r['images_per_s']:.0f} |" for r in b["loader"]), ""]  # fmt: skip
    return [*lines, *missing(found, "b")]


def maps_text(found: dict, table: pd.DataFrame) -> list[str]:
    """Saliency maps against the peers."""
    c, mine = found["maps"], table[table["part"] == "c"]
    lines = ["## Saliency maps against pytorch-grad-cam and torch-cam", ""]
    if len(mine):
        shortened = ", ".join(f"{what} {yes(value)}" for what, value in c["tf32"].items())
        lines += [f"Milliseconds per image, float32 (TF32 as torch has it: {shortened}), the same network and images in turn; "
                  "medians, quartiles in brackets. Ours: all of a group's methods by one call; a library: the sum of its calls. "
                  "torch-cam has some of the methods: its ratio is against ours of those alone. Opti-CAM's peer is a plain loop of "
                  f"its definition, at most {c['opticam_steps']} steps.",
                  "Images at once: " + ", ".join(f"{group} {number}" for group, number in c["images"].items()) + ".",
                  *(f"{name} is cut {how}." for name, how in c["cut"].items()), "",
                  "| geometry | methods | n | ours (ms) | pytorch-grad-cam (ms) | ratio | torch-cam (ms) | ratio |",
                  "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |"]  # fmt: skip
        for (geometry, methods), group in mine.groupby(["setting", "subject"], sort=False):
            by_what = {r.what: r for r in group.itertuples()}
            cells = [cell(by_what.get(what), digits) for what, digits in
                     (("ours", 1), ("pytorch-grad-cam", 1), ("pytorch-grad-cam / ours", 1), ("torch-cam", 1),
                      ("torch-cam / ours", 1))]  # fmt: skip
            lines.append(f"| {geometry} | {methods} | {by_what['ours'].n} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, *missing(found, "c")]


def networks_text(found: dict, table: pd.DataFrame) -> list[str]:
    """What was trained, shortly: the showcase has the rest."""
    d = found["networks"]
    lines = ["## The paper's networks, trained", ""]
    if d.get("train"):
        p = d["params"]
        lines += [f"[VGG] at width {p['model']['width']:g}, dense layers of {p['model']['dense']}, batch norm {yes(p['model']['batch_norm'])}, "
                  f"{p['data']['classes']} classes, {d['images']['train']:,} images, {d['epochs']} epochs in batches of "
                  f"{p['train']['batch_size']}, chosen to fit the time. Before the training, loader and step made "
                  + ", ".join(f"{one['images_per_s']:.0f} images/s ({which})" for which, one in d["pace"].items()) + ".", "",
                  "| network | top-1 | top-5 | precision | seconds | images/s, with validation |",
                  "| --- | ---: | ---: | --- | ---: | ---: |"]  # fmt: skip
        for which, s in d["train"].items():
            lines.append(f"| {which} | {100 * s['top1']:.1f}% | {100 * s['top5']:.1f}% | {s['precision']} | {s['seconds']:.0f} | "
                         f"{s['images_seen'] / s['seconds']:.0f} |")  # fmt: skip
        lines += ["", "Table 1 and its control: [showcase/tiny-imagenet-gpu](../showcase/tiny-imagenet-gpu/README.md).", ""]
        if d.get("sealed"):
            kept = sum(r["replaced"] and r["noise"] and r["extreme"] for r in d["sealed"])
            lines += [f"On the trained masked network, on the device: every bit is kept in {kept} of {len(d['sealed'])} settings "
                      "of precision and layout.", ""]  # fmt: skip
    return [*lines, *missing(found, "d")]


def missing(found: dict, letter: str) -> list[str]:
    """What a part says it could not do."""
    part = found["run"]["parts"].get(letter)
    if part is None:
        return ["Not part of this run."]
    said = [f"Broken off: {part['error']}."] if part["error"] else []
    return said + [f"Not measured: {what}: {why}." for what, why in found[FILES[letter]].get("errors", {}).items()]


def cell(row: object, digits: int) -> str:
    """Median [quartiles] of a row of the table; empty where there is none."""
    return "" if row is None else f"{row.median:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"


def yes(value: bool) -> str:
    """A truth as a word."""
    return "yes" if value and not (isinstance(value, float) and math.isnan(value)) else "no"
