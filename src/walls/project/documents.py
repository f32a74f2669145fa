"""The documents' generated blocks: this run's numbers in README, ARTIFACT, docs, the showcases.

A block stands between `<!-- NAME -->` and `<!-- /NAME -->`; BLOCKS says who writes it.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from walls.base import params, paths
from walls.base.files import whole
from walls.paper.claims import by_id
from walls.pipeline import log
from walls.project import method_table
from walls.saliency.controls import CONTROLS

DOCUMENTS = ("README.md", "ARTIFACT.md", "docs/presets.md")
Maker = Callable[[Path], str]  # of the folder whose results it shows
MARKER = re.compile(r"^<!-- (/?)([\w-]+) -->$", re.MULTILINE)

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


def fill() -> None:
    """Write the blocks of README.md, ARTIFACT.md, docs/ and the showcases' pages anew.

    The record of the run stays: `record` alone writes it.
    """
    root = paths.root()
    pages = {root / name: root for name in DOCUMENTS}  # and the folder whose results it shows
    pages |= {page: page.parent for page in sorted(root.glob("showcase/*/README.md"))}
    texts = {}
    for page, results in pages.items():
        text, name = page.read_text(encoding="utf-8"), page.relative_to(root).as_posix()
        texts[page] = filled(text, results, name)
    for page, text in texts.items():
        _write(text, page)


def record() -> None:
    """Make the last run the committed one: its machine and times, in ARTIFACT.md.

    Raises ValueError unless the log holds every stage of the run that lies in `runs/`.
    """
    page = paths.root() / "ARTIFACT.md"
    content = log.table()
    if content is None:
        raise ValueError(
            "the log of this run is not whole; takes a `dvc repro --force` on one machine"
        )
    _write(
        filled(
            page.read_text(encoding="utf-8"), page.parent, page.name, {"run": lambda _: content}
        ),
        page,
    )


def _write(text: str, page: Path) -> None:
    with whole(page) as partial:
        partial.write_text(text, encoding="utf-8")


def filled(
    text: str, root: Path, name: str = "the text", makers: dict[str, Maker] | None = None
) -> str:
    """A document's text with its blocks written anew by `makers` (BLOCKS); the others stay.

    Raises ValueError for a marker without generator, without its other half, or inside another
    block.
    """
    opened = None
    for slash, block in MARKER.findall(text):
        if block not in KNOWN:
            raise ValueError(f"{name}: nothing writes the block {block}; takes {', '.join(KNOWN)}")
        if bool(slash) != (opened is not None) or (slash and block != opened):
            raise ValueError(
                f"{name}: the block {opened or block} is not "
                "closed, or not opened; takes a pair of markers"
            )
        opened = None if slash else block
    if opened:
        raise ValueError(
            f"{name}: the block {opened} is not closed, or not opened; takes a pair of markers"
        )

    def written(match: re.Match) -> str:
        maker = (makers or BLOCKS).get(match[1])
        if maker is None:
            return match[0]
        content = maker(root)
        return f"<!-- {match[1]} -->\n{content}\n<!-- /{match[1]} -->"

    return re.sub(
        r"^<!-- ([\w-]+) -->$.*?^<!-- /\1 -->$", written, text, flags=re.DOTALL | re.MULTILINE
    )


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
    words = ("the same class as the seen one", "another class", "noise", "grey")
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
    here = f"first two columns, {int(table['images'].max())} images"
    here += f" (ours: for each of {trained} networks)" if trained > 1 else ""
    counts = f"{here}; last two, {most} photographs{less}"
    sources = "[figures/table1.csv](figures/table1.csv) (stage `paper`, notebook 7)"
    sources += " and [metrics/networks.json](metrics/networks.json) (stage `networks`, notebook 9)"
    said = f"Mean ± standard deviation over images: {counts}. From {sources}."
    return "\n".join([*lines, "", said])


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


BLOCKS: dict[str, Maker] = {
    "real": real,
    "first": first,
    "networks": networks,
    "methods": method_table.block,
    "summary": headline,
    "results": results,
    "presets": presets,
    "claims": claims,
    "showcase": showcase,
}
KNOWN = (*BLOCKS, "run")  # `record` writes the last


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
