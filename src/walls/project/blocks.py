"""What the documents' generated blocks say: a function each, of a folder of results."""

import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from walls.base import params
from walls.paper.claims import HOLDS, INCONCLUSIVE, SMALL_DROP, by_id
from walls.saliency.controls import CONTROLS

WORDS = ("the same class", "another class", "noise", "grey")  # of CONTROLS, in sentences
LIT = " highlights the dead zone"  # in a claim, after the method's name
PRESETS = {
    "critters": ("the default", "none: drawn here"),
    "smoke": ("the whole pipeline in three minutes, for tests", "none: drawn here"),
    "tiny-imagenet": (
        "photographs: Tiny-ImageNet's animals",
        "the public archive: downloaded (248 MB), or a copy",
    ),
    "imagenet": (
        "the authors' training, as their code has it",
        "ImageNet (ILSVRC2012) in `data.root`, read where it lies",
    ),
    "authors": ("Table 1 from the authors' models and images", "their release, in `authors/`"),
}
ESTIMATED = """\
Estimates, of all networks together. Training: operations (forward and backward, times images and
epochs) at the pace of [benchmarks/training.md](../benchmarks/training.md) on two cores, or at that
of one H200 in [benchmarks/gpu.md](../benchmarks/gpu.md), counting the steps alone, not the time to
read images. Maps: the pace of [benchmarks/cams.md](../benchmarks/cams.md). Memory, of training: a
batch's layers, the weights with gradient and momentum, 1 GB for Python; what each stage of the
default took is in [ARTIFACT.md](../ARTIFACT.md). Disk: 7 GB of packages, images drawn or copied,
the weights with DVC's copy and a checkpoint."""


def headline(root: Path) -> str:
    """The run in two sentences, beside the paper."""
    wall = metrics(root, "wall")
    said = "; ".join(headlines(root))
    return f"**The dead zone: the bottom {dead_zone_words(wall)}.** Activity µ×100 there: {said}."


def results(root: Path) -> str:
    """Table 1 in short: the paper's methods and the uniform map, ours beside the paper's."""
    table = _table(root)
    datasets = list(table["dataset"].unique())
    heads = [cell for dataset in datasets for cell in (dataset.upper(), "the paper")]
    lines = [_row("µ×100, lower is better", *heads), _row("---", *["---:"] * len(heads))]
    for method, rows in table.groupby("method", sort=False):
        rows = rows.set_index("dataset")
        if rows["paper_mean"].notna().any() or method == "uniform map":
            pairs = [(_spread(rows, d, ""), _spread(rows, d, "paper_")) for d in datasets]
            lines.append(_row(method, *(cell for pair in pairs for cell in pair)))
    return "\n".join(lines)


def claims(root: Path) -> str:
    """Every claim, the stages that repeat it, what to expect, and how exactly."""
    lines = [
        _row(
            "claim",
            "in the paper",
            "kind",
            "the paper reports",
            "stages to repeat",
            "expected",
            "tolerance",
            "verdict",
        ),
        _row(*["---"] * 8),
    ]
    for claim in metrics(root, "claims"):
        known = by_id(claim["id"])
        stages = ", ".join(f"`{stage}`" for stage in known.stages)
        cells = (
            claim["claim"],
            claim["where"],
            claim["kind"],
            claim["paper"],
            stages,
            claim["ours"],
            known.tolerance,
            claim["verdict"],
        )
        lines.append(_row(*cells))
    return "\n".join(lines)


def ten(root: Path) -> str:
    """What more trainings of the masked network say of its accuracy, the worst one too."""
    each = pd.read_csv(root / "benchmarks" / "ten.csv").drop_duplicates("network")["top1"]
    baseline = 100 * metrics(root, "train")["baseline"]["top1"]
    small = 100 * SMALL_DROP
    return (
        f"Of {len(each)} masked networks that differ in their seed alone "
        f"([benchmarks/ten.md](benchmarks/ten.md)) {sum(baseline - each <= small)} lose at most "
        f"{small:.0f} points of top-1 accuracy against the baseline's {baseline:.1f}%; the worst "
        f"has {each.min():.1f}%."
    )


def presets(root: Path) -> str:
    """Every preset and what it needs: data, time, memory, disk."""
    from walls.project import estimates

    lines = [
        _row("preset", "what", "data", "training, estimated", "memory", "disk"),
        _row(*["---"] * 3, *["---:"] * 3),
    ]
    files = {file.stem: file for file in (root / "presets").glob("*.yaml")}
    for name in sorted(files, key=[*PRESETS, *sorted(files)].index):
        preset = estimates.read(files[name])
        need = estimates.needs(preset)
        cores = estimates.cores_seconds(need.operations, root / "benchmarks")
        if not need.passes:
            hours = 2 * preset.stacks.images * estimates.map_seconds(root / "benchmarks") / 3600
            time = f"none; {hours:.1f} h of maps on two cores"
        elif cores > 24 * 3600:
            hours = estimates.gpu_seconds(need.operations, root / "benchmarks") / 3600
            time = f"{hours:.0f} GPU hours"
        else:
            time = (
                f"{cores / 3600:.1f} h on two cores"
                if cores > 5400
                else f"{math.ceil(cores / 60)} min on two cores"
            )
        what, data = PRESETS[name]
        lines.append(
            _row(
                f"[`presets/{name}.yaml`](../presets/{name}.yaml)",
                what,
                data,
                time,
                f"{math.ceil(need.memory / 1e9)} GB",
                f"{math.ceil(need.disk / 1e9)} GB",
            )
        )
    return "\n".join([*lines, "", ESTIMATED])


def showcase(root: Path) -> str:
    """The run on photographs, in two sentences."""
    folder = root / "showcase" / "tiny-imagenet"
    # Unchecked: it may be older than a key of today's.
    content: Any = params.read(folder / "params.yaml")
    classes = content["data"]["classes"]
    top1 = ", ".join(
        f"{which} {100 * scores['top1']:.1f}%" for which, scores in metrics(folder, "train").items()
    )
    return (
        f"Top-1 accuracy over {classes} classes: {top1} (guessing: {100 / classes:.1f}%). "
        f"Activity µ×100 in the dead zone: {'; '.join(headlines(folder))}."
    )


def real(root: Path) -> str:
    """What came out on a network that people use, in a sentence."""
    name, report = next(iter(metrics(root, "networks").items()))
    cells = _cells(report)
    words = (f"{WORDS[0]} as the seen one", *WORDS[1:])
    said = []
    for method in ("GradCAM", "HiResCAM"):
        found = [_mean(cells.get((method, control))) for control in CONTROLS]
        if all(found) and not said:
            pairs = zip(found, words, strict=True)
            told = [f"{mean} where it shows {word}" for mean, word in pairs]
            said.append(f"{method} {', '.join(told)}")
        elif len(set(found)) == 1:
            said.append(f"{method} {found[0]} in all of these")
        elif all(found):
            said.append(f"{method} {', '.join(found[:-1])} and {found[-1]}")
    said.append(f"a map that is the same everywhere {report['uniform']:.1f}")
    images = max(row["images"] for row in cells.values())
    return (
        f"**{name}, trained on ImageNet by others, sees one photograph, not the one below it.** "
        f"Activity µ×100 in the hidden one, over {images} photographs: {'; '.join(said)}."
    )


def first(root: Path) -> str:
    """The paper's methods in the paper, in the [VGG] trained here, and in a network in use."""
    table = _table(root)
    table = table[table["dataset"] == "stack-mix"].set_index("method")
    name, report = next(iter(metrics(root, "networks").items()))
    cells, (same, another, *_) = _cells(report), CONTROLS
    most = max(row["images"] for row in cells.values())
    heads = (
        "µ×100, lower is better",
        "the paper: VGG16, trained on ImageNet; two animals of a class (STACK-MIX)",
        "here: VGG16, an eighth as wide, trained on drawn animals (STACK-MIX)",
        f"{name}, as it comes: two photographs, the hidden one of the {same}",
        f"the same, the hidden one of {another}",
    )
    lines = [_row(*heads), _row("---", *["---:"] * 4)]
    for method, row in table.iterrows():
        if method == "uniform map":
            uniform = f"{report['uniform']:.1f}"
            lines.append(_row(method, "", f"{row['mean']:.1f}", uniform, uniform))
        elif not math.isnan(row["paper_mean"]):
            two = [_mean(cells.get((method, control)), most) for control in (same, another)]
            paper = f"{row['paper_mean']:.1f} ± {row['paper_std']:.1f}"
            lines.append(_row(method, paper, f"{row['mean']:.1f} ± {row['std']:.1f}", *two))
    few = {row["images"] for row in cells.values()} - {most}
    less = f", or only the first n where (n) stands ({min(few)} here)" if few else ""
    trained = int(table["networks"].max()) if "networks" in table else 1
    each = int(table["images"].max())
    here = f"first two columns, {each} images"
    if trained > 1:
        fewer = table.loc[table["maps"] < trained * each, "maps"]
        named = "".join(f"; {method} {maps:.0f} in all" for method, maps in fewer.items())
        here += f" (ours: for each of {trained} networks{named})"
    counts = f"{here}; last two, {most} photographs{less}"
    sources = "[figures/table1.csv](figures/table1.csv) (stage `paper`, notebook 7)"
    sources += " and [metrics/networks.json](metrics/networks.json) (stage `networks`, notebook 9)"
    said = f"Mean ± standard deviation over images: {counts}. From {sources}."
    return "\n".join([*lines, "", said])


def limits(root: Path) -> str:
    """What the numbers above it don't say: the verdicts, the control behind a wall, true pairs."""
    return "\n".join(f"- {said}" for said in (_verdicts(root), _trained(root), _pairs(root)))


def _verdicts(root: Path) -> str:
    found = metrics(root, "claims")
    holding = sum(claim["verdict"] == HOLDS for claim in found)
    said = f"{holding} of {len(found)} claims hold."
    unsettled = [claim["claim"] for claim in found if claim["verdict"] == INCONCLUSIVE]
    lit = [claim.partition(LIT)[0] for claim in unsettled if LIT in claim]
    names = [f"that most images light up with {', '.join(lit)}"] if lit else []
    names += [f"that {claim}" for claim in unsettled if LIT not in claim]
    if unsettled:
        named = "; ".join(names)
        said += f" {len(unsettled)} are inconclusive, for want of networks and classes: {named}."
    return said


def _trained(root: Path) -> str:
    """How little the hidden object matters to a network that was trained behind its wall."""
    table = pd.read_csv(root / "figures" / "control.csv")
    own = table[(table["dataset"] == "stack-mix") & (table["method"] == "GradCAM")]
    own = own.set_index("control")
    pairs = zip(CONTROLS, WORDS, strict=True)
    means = ", ".join(f"{own['mean'][control]:.1f} with {word}" for control, word in pairs)
    another = own.loc[CONTROLS[1]]
    change, low, high = (another[f"difference{end}"] for end in ("", "_low", "_high"))
    return (
        "Maps of the network that was trained behind the wall change little with what is hidden: "
        f"GradCAM's µ×100 on STACK-MIX is {means} (the first network, "
        f"{another['images']:.0f} images). The hidden animal's class makes "
        f"{change:.1f} [{low:.1f}, {high:.1f}] of it."
    )


def _pairs(root: Path) -> str:
    """The real network again, on pairs of photographs that differ."""
    folder = root / "showcase" / "imagenet"
    name, report = next(iter(metrics(folder, "networks")["stacked"].items()))
    cells, (same, another, *_) = _cells(report), CONTROLS
    said = ", ".join(
        f"{method} {_mean(cells[method, same])} / {_mean(cells[method, another])}"
        for method in ("GradCAM", "XGradCAM", "AblationCAM", "ScoreCAM")
    )
    most = max(row["images"] for row in cells.values())
    return (
        f"Most of {name}'s photographs above are alone of their class: the hidden one of the "
        f"{same} is then the same photograph, mirrored. On {most} others, [two different ones of "
        f"each class](showcase/imagenet/README.md), {same} / {another}: {said}."
    )


def networks(root: Path) -> str:
    """µ×100 of every method, network and form of a longer run, and what each run took."""
    parts = []
    for form, reports in metrics(root, "networks").items():
        cells = [_cells(report) for report in reports.values()]
        seen = [f"{n}: {r['seen_rows']} of {r['image_rows']} rows" for n, r in reports.items()]
        lines = [_row(f"{form}: {' / '.join(CONTROLS)}", *seen)]
        lines.append(_row("---", *["---:"] * len(reports)))
        for method in dict.fromkeys(method for own in cells for method, _ in own):
            found = ([_mean(own.get((method, control))) for control in CONTROLS] for own in cells)
            lines.append(_row(method, *(" / ".join(filter(None, means)) for means in found)))
        lines.append(_row("uniform map", *(f"{r['uniform']:.1f}" for r in reports.values())))
        parts.append("\n".join(lines))
    heads = ("run", "top-1 of the seen part", "photographs of ScoreCAM and Opti-CAM", "time")
    lines = [_row(*heads), _row("---", *["---:"] * 3)]
    for name, ran in metrics(root, "runs").items():
        top1, minutes = f"{100 * ran['top1']:.1f}%", f"{ran['seconds'] / 60:.0f} min"
        link = f"[{name}](rendered/9_networks-{name}.ipynb)"
        lines.append(_row(link, top1, str(ran["costly_images"]), minutes))
    return "\n\n".join([*parts, "\n".join(lines)])


def _cells(report: dict) -> dict[tuple[str, str], dict]:
    """{(method, control): its row} of one network's report."""
    return {(row["method"], row["control"]): row for row in report["activity"]}


def _mean(row: dict | None, most: int | None = None) -> str:
    """A mean; with `most`, its standard deviation and, where it is of fewer images, how many."""
    if row is None:
        return ""
    if row["mean"] is None:
        return "empty maps"
    if most is None:
        return f"{row['mean']:.1f}"
    few = f" ({row['images']})" if row["images"] < most else ""
    return f"{row['mean']:.1f} ± {row['std'] or 0:.1f}{few}"


def dead_zone_words(wall: dict) -> str:
    return (
        f"{wall['dead_rows']} of {wall['image_rows']} image rows, {100 * wall['dead_share']:.0f}%"
    )


def headlines(root: Path) -> list[str]:
    """The two methods that tell the story, on each dataset beside the paper's; and chance.

    A method that did not run is left out.
    """
    table = _table(root).set_index(["method", "dataset"])
    said = []
    for method in ("GradCAM", "HiResCAM", "uniform map"):
        cells = []
        for dataset in table.index.unique("dataset"):
            if (method, dataset) in table.index:
                row = table.loc[(method, dataset)]
                paper = f" (the paper: {row['paper_mean']:.1f})" if row["paper_mean"] > 0 else ""
                cells.append((f"{row['mean']:.1f}", f"{paper} on {dataset.upper()}"))
        if method == "uniform map" and cells:
            said.append(f"a map that is the same everywhere {cells[0][0]}")
        elif cells:
            said.append(f"{method} " + ", ".join(mean + rest for mean, rest in cells))
    return said


def verdicts_words(claims: list[dict]) -> str:
    words = {
        "holds": "hold",
        "fails": "fail",
        "inconclusive": "inconclusive",
        "not tested here": "not tested here",
    }
    return ", ".join(
        f"{n} {words[verdict]}" for verdict, n in Counter(c["verdict"] for c in claims).items()
    )


def _spread(rows: pd.DataFrame, dataset: str, kind: str) -> str:
    mean, std = (rows[kind + name].get(dataset, math.nan) for name in ("mean", "std"))
    return "" if math.isnan(mean) else f"{mean:.1f} ± {std:.1f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "figures" / "table1.csv")


def metrics(root: Path, name: str) -> Any:
    file = root / "metrics" / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"metrics/{name}.json: not there; run `dvc repro` first")
    return json.loads(file.read_text(encoding="utf-8"))
