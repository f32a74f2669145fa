"""benchmarks/gpu.md and gpu.csv, from what a run left; what the run lacks is said, not left out."""

import math
import re
from pathlib import Path

import pandas as pd

from benchmarks.gpu import rows, steps

PAIRS = ("processor: float32 to float64", "float64", "float32", "float32, TF32", "bfloat16")
GOAL = 1.2  # times the plain loop's images per second that the step is meant to reach


def write(folders: list[Path], target: Path) -> list[Path]:
    """Write gpu.md and gpu.csv into `target`; their paths. ValueError where a folder holds no run.

    Of several folders, each part is of the last one that ran it.
    """
    found = rows.read(folders[0])
    for folder in folders[1:]:
        later = rows.read(folder)
        for letter, part in later["run"]["parts"].items():
            found["run"]["parts"][letter] = part
            found[rows.FILES[letter]] = later[rows.FILES[letter]]
    table = pd.DataFrame(
        [
            row
            for part in (rows.exact, rows.stepped, rows.mapped, rows.trained)
            for row in part(found)
        ],
        columns=rows.COLUMNS,
    )
    page, values = target / "gpu.md", target / "gpu.csv"
    table.to_csv(values, index=False, float_format="%.6g", lineterminator="\n")
    page.write_text(text(found, table), encoding="utf-8")
    return [page, values]


def text(found: dict, table: pd.DataFrame) -> str:
    """The page."""
    run = found["run"]
    memory = f" ({run['device_memory_gib']:.0f} GiB)" if run.get("device_memory_gib") else ""
    commit = f" Commit `{run['commit']}`." if run.get("commit") else ""
    parts = sorted(run["parts"].items())
    said = "; ".join(
        f"{letter}, {part['title']}, {part['seconds']:.0f} s"
        + (f" on {part['device']}" if part.get("device", run["device"]) != run["device"] else "")
        for letter, part in parts
    )
    lines = [
        "# On a GPU, measured",
        "",
        f"`python -m benchmarks.gpu --out DIR --minutes {run['minutes']:g}` on "
        f"{run['device']}{memory}, {run['processor']}, "
        f"{run['cores']} cores; {', '.join(run['versions'])}, cuDNN {run['cudnn']}; "
        f"{run['date']}.{commit}",
        f"Its parts: {said}. Each was run once. The numbers of this page are in "
        "[gpu.csv](gpu.csv).",
        "",
    ]
    if run["tiny"]:
        lines += ["**A rehearsal at the smallest sizes: nothing here is worth reading.**", ""]
    for section in (exact_text, steps_text, maps_text, networks_text):
        lines += [*section(found, table), ""]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


def exact_text(found: dict, table: pd.DataFrame) -> list[str]:
    """What is equal, and within what."""
    a = found["exactness"]
    lines = ["## The dead zone, and the maps, against a processor", ""]
    sealed = a.get("sealed", []) + [
        {"network": "the trained one of part d"} | r for r in found["networks"].get("sealed") or []
    ]
    if sealed:
        lines += [*sealed_text(sealed), ""]
    maps = pd.DataFrame(a.get("maps", []))
    if not maps.empty:
        lines += [
            "Upscaled maps, in [0, 1], and their µ×100: the largest difference of a pixel, and of "
            "µ×100, between the device "
            "and the same call on the processor (float32, but for float64 against float64), for "
            "the same target class. First, "
            "how far the processor's own float32 is from its float64. The sign of EigenCAM and "
            "its kin is whatever a library "
            "returns, so that a map may turn over as a whole; Opti-CAM is an optimisation, which "
            "any rounding may lead "
            "elsewhere.",
            "",
        ]
        for network, group in maps.groupby("network", sort=False):
            pairs = [pair for pair in PAIRS if pair in set(group["pair"])]
            lines += [
                f"{network}, images: {group['images'].iloc[0]}, Opti-CAM with "
                f"{a['networks'][network]['opticam_steps']} steps; map, µ×100:",
                "",
                f"| method | {' | '.join(pairs)} |",
                "| --- |" + " ---: |" * len(pairs),
            ]
            for method, one in group.groupby("method", sort=False):
                by_pair = one.set_index("pair")
                cells = [
                    f"{by_pair.loc[pair, 'map']:.1g}, {by_pair.loc[pair, 'mu']:.1g}"
                    if pair in by_pair.index
                    else ""
                    for pair in pairs
                ]
                lines.append(f"| {method} | {' | '.join(cells)} |")
            lines.append("")
    return [*lines, *missing(found, "a")]


def sealed_text(sealed: list[dict]) -> list[str]:
    """The dead zone, bit by bit, and its gradient."""
    lines = [
        "On the device, at full height, before and after everything below the edge was replaced: "
        "by another image's rows, by noise, by finite values up to ±1e30. Equal: every bit of the "
        "logits"
        + (", and of the features they are made of" if "feature_change" in sealed[0] else "")
        + ". So that the comparison can fail: the same for the row above the edge, which must "
        "count.",
        "",
        "| network | precision | layout | images | equal when replaced, noise, extreme "
        "| the same twice | row above counts | largest change of a logit (largest logit) "
        "| gradient in the dead zone (in the row above) |",
        "| --- | --- | --- | ---: | --- | --- | --- | ---: | ---: |",
    ]
    for r in sealed:
        equal = ", ".join(yes(r[name]) for name in ("replaced", "noise", "extreme"))
        cells = [
            r["network"],
            r["precision"],
            r["layout"],
            r["images"],
            equal,
            yes(r["again"]),
            yes(r["row_above_counts"]),
            f"{r['largest_change']:.2g} ({r['largest_logit']:.2g})",
            f"{r['dead_gradient']:.2g} ({r['edge_gradient']:.2g})",
        ]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    rounded = [r for r in sealed if r["dead_gradient"] > 0]
    if rounded:
        most = max(r["dead_gradient"] / r["edge_gradient"] for r in rounded)
        lines += [
            "",
            f"In {len(rounded)} of {len(sealed)} settings the gradient of the logits in the dead "
            f"zone isn't exactly 0, but up to {most:.1g} of the one in the row above. No logit "
            "depends on it, as the table shows, and on the processor it is 0: this is how the "
            "device computes a convolution's gradient. Methods that look at the gradient in the "
            "image, not at **B**, see it.",
        ]
    return lines


def steps_text(found: dict, table: pd.DataFrame) -> list[str]:
    """The step against the plain loop; the loader."""
    b = found["steps"]
    lines = ["## Masked training against a plain loop", ""]
    if b.get("steps"):
        network = ", ".join(f"{name} {value}" for name, value in b["network"].items())
        lines += [
            f"[VGG] with {network}; batches of {b['batch']}. The plain loop is torchvision's "
            "reference recipe: NCHW, ready-made "
            "float images, every row computed, the wall's mask multiplied in after every step. "
            "Ours gets the loader's uint8, "
            "flips and normalises them, channels-last, and computes the rows that the head can "
            "see. The same architecture, "
            "precision, batch and optimiser, a step each in turn; medians, quartiles in brackets. "
            "Memory: weights, gradient, "
            "momentum and a step's activations at their peak.",
            "",
            "| precision | step | n | images/s | memory (GiB) |",
            "| --- | --- | ---: | ---: | ---: |",
        ]
        mine = table[table["part"] == "b"]
        for r in mine[
            (mine["what"] == "images/s") & mine["setting"].isin(steps.PRECISIONS)
        ].itertuples():
            memory = mine[
                (mine["what"] == "memory")
                & (mine["subject"] == r.subject)
                & (mine["setting"] == r.setting)
            ]["median"]
            lines.append(
                f"| {r.setting} | {r.subject} | {r.n} | {r.median:.0f} [{r.low:.0f}, "
                f"{r.high:.0f}] | "
                f"{f'{memory.iloc[0]:.1f}' if len(memory) else ''} |"
            )
        lines += [
            "",
            "| precision | what by what | n | ratio of images/s |",
            "| --- | --- | ---: | ---: |",
        ]
        ratios = mine[mine["what"] == "ratio"]
        for r in ratios.itertuples():
            lines.append(
                f"| {r.setting} | {r.subject} | {r.n} | {r.median:.2f} [{r.low:.2f}, "
                f"{r.high:.2f}] |"
            )
        plain = ratios[ratios["subject"] == "ours / plain"]
        reached = ", ".join(
            f"{r.setting} {'yes' if r.median >= GOAL else 'no'}" for r in plain.itertuples()
        )
        lines += [
            "",
            f"The aim, {GOAL} times the plain loop, is reached: {reached or 'not measured'}.",
            "",
        ]
    if b.get("loader"):
        cores = b["loader"][0]["cores"]
        lines += [
            f"The loader alone on {cores} cores, images/s, of the images that the training reads "
            "and of photographs of a usual "
            "size:",
            "",
            "| images | workers | images/s |",
            "| --- | ---: | ---: |",
            *(f"| {r['images']} | {r['workers']} | {r['images_per_s']:.0f} |" for r in b["loader"]),
            "",
        ]
    return [*lines, *missing(found, "b")]


def maps_text(found: dict, table: pd.DataFrame) -> list[str]:
    """Saliency maps against the peers."""
    c, mine = found["maps"], table[table["part"] == "c"]
    lines = ["## Saliency maps against pytorch-grad-cam and torch-cam", ""]
    if len(mine):
        shortened = ", ".join(f"{what} {yes(value)}" for what, value in c["tf32"].items())
        lines += [
            f"Milliseconds per image, float32 (TF32 as torch has it: {shortened}), the same "
            "network and images in turn; "
            "medians, quartiles in brackets. Ours: all of a group's methods by one call; a "
            "library: the sum of its calls. "
            "torch-cam has some of the methods: its ratio is against ours of those alone. "
            "Opti-CAM's peer is a plain loop of "
            f"its definition, at most {c['opticam_steps']} steps.",
            "Images at once: "
            + ", ".join(f"{group} {number}" for group, number in c["images"].items())
            + ".",
            *(f"{name} is cut {how}." for name, how in c["cut"].items()),
            "",
            "| geometry | methods | n | ours (ms) | pytorch-grad-cam (ms) | ratio | torch-cam "
            "(ms) | ratio |",
            "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        ]
        for (geometry, methods), group in mine.groupby(["setting", "subject"], sort=False):
            by_what = {r.what: r for r in group.itertuples()}
            cells = [
                cell(by_what.get(what), digits)
                for what, digits in (
                    ("ours", 1),
                    ("pytorch-grad-cam", 1),
                    ("pytorch-grad-cam / ours", 1),
                    ("torch-cam", 1),
                    ("torch-cam / ours", 1),
                )
            ]
            lines.append(f"| {geometry} | {methods} | {by_what['ours'].n} | {' | '.join(cells)} |")
        lines.append("")
    return [*lines, *missing(found, "c")]


def networks_text(found: dict, table: pd.DataFrame) -> list[str]:
    """What was trained, shortly: the showcase has the rest."""
    d = found["networks"]
    lines = ["## The paper's networks, trained", ""]
    if d.get("train"):
        p = d["params"]
        lines += [
            f"[VGG] at width {p['model']['width']:g}, dense layers of {p['model']['dense']}, "
            f"batch norm {yes(p['model']['batch_norm'])}, "
            f"{p['data']['classes']} classes, {d['images']['train']:,} images, {d['epochs']} "
            "epochs in batches of "
            f"{p['train']['batch_size']}, chosen to fit the time. Before the training, loader and "
            "step made "
            + ", ".join(
                f"{one['images_per_s']:.0f} images/s ({which})" for which, one in d["pace"].items()
            )
            + ".",
            "",
            "| network | top-1 | top-5 | precision | seconds | images/s, with validation |",
            "| --- | ---: | ---: | --- | ---: | ---: |",
        ]
        for which, s in d["train"].items():
            lines.append(
                f"| {which} | {100 * s['top1']:.1f}% | {100 * s['top5']:.1f}% | {s['precision']} "
                f"| {s['seconds']:.0f} | "
                f"{s['images_seen'] / s['seconds']:.0f} |"
            )
        lines += [
            "",
            "Table 1 and its control: "
            "[showcase/tiny-imagenet-gpu](../showcase/tiny-imagenet-gpu/README.md).",
            "",
        ]
    return [*lines, *missing(found, "d")]


def missing(found: dict, letter: str) -> list[str]:
    """What a part says it could not do."""
    part = found["run"]["parts"].get(letter)
    if part is None:
        return ["Not part of this run."]
    said = [f"Broken off: {part['error']}."] if part["error"] else []
    errors = found[rows.FILES[letter]].get("errors", {})
    if letter == "c":
        errors = errors | rows.too_few(found)
    return said + [f"Not measured: {what}: {reason(why)}." for what, why in errors.items()]


def reason(error: str) -> str:
    """An error as a reader is told it: that its time ran out is none of the code."""
    return re.sub(r"^OutOfTime: its (\d+) s are over.*", r"the \1 s meant for it were over", error)


def cell(row: object, digits: int) -> str:
    """Median [quartiles] of a row of the table; empty where there is none."""
    return (
        ""
        if row is None
        else f"{row.median:.{digits}f} [{row.low:.{digits}f}, {row.high:.{digits}f}]"
    )


def yes(value: bool) -> str:
    """A truth as a word."""
    return "yes" if value and not (isinstance(value, float) and math.isnan(value)) else "no"
