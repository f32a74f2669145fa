"""What the last run found, for who reads no notebook: five lines in the terminal, the generated blocks of the documents.

A block stands between `<!-- NAME -->` and `<!-- /NAME -->` in README.md or ARTIFACT.md; BLOCKS says who writes it.
"""

import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from walls import paths, record

DOCUMENTS = ("README.md", "ARTIFACT.md")
MARKER = re.compile(r"^<!-- (/?)([\w-]+) -->$", re.MULTILINE)

# What a claim of claims.py takes to be looked at again (its words or its place in the paper), and how exactly.
EVALUATED = "`cams@stack-mix`, `cams@stack-gen`, `paper`"
CLAIMS = (
    ("at initialisation", "`theory`, `paper`", "every check holds"),
    ("the dead zone is", "`wall`, `paper`", "exact: certified bit by bit, on any machine"),
    ("HiResCAM is zero", "`wall`, `paper`", "exact"),
    ("HiResCAM shows", EVALUATED, "exact"),
    ("highlights the dead zone", EVALUATED, "the verdict"),
    ("rank the methods alike", EVALUATED, "the verdict"),
    ("top-1 accuracy", "`train@masked`, `train@baseline`, `paper`", "the verdict"),
    ("the prediction follows", EVALUATED, "exact"),
)  # fmt: skip
PRESETS = {
    "critters": ("the default", "none: drawn here"),
    "smoke": ("the whole pipeline in three minutes, for tests", "none: drawn here"),
    "tiny-imagenet": ("photographs: Tiny-ImageNet's animals", "the public archive: downloaded (248 MB), or a copy"),
    "imagenet": ("the authors' training, as their code has it", "ImageNet (ILSVRC2012) in `data.root`, read where it lies"),
    "authors": ("Table 1 from the authors' models and images", "their release, in `authors/`"),
}  # fmt: skip
ESTIMATED = """\
Estimates, of both networks together. Training: operations (forward and backward, times images and epochs) at the pace of
[benchmarks/training.md](benchmarks/training.md) on two cores, or at {:.0f} TFLOP/s, an assumption: nothing was measured on
a GPU. Maps: the pace of [benchmarks/cams.md](benchmarks/cams.md). Memory, of training: a batch's layers, the weights with
gradient and momentum, 1 GB for Python; what each stage of the default took is in [ARTIFACT.md](ARTIFACT.md). Disk: 7 GB of
packages, images drawn or copied, the weights with DVC's copy and a checkpoint."""


def readme() -> None:
    """Write the blocks of README.md, ARTIFACT.md and the showcases' pages anew; says which stays as it was."""
    root = paths.root()
    pages = [*(root / name for name in DOCUMENTS), *sorted(root.glob("showcase/*/README.md"))]
    names = {page: str(page.relative_to(root)) for page in pages}
    texts = {page: filled(page.read_text(encoding="utf-8"), page.parent, name) for page, name in names.items()}
    for page, text in texts.items():
        with paths.whole(page) as partial:
            partial.write_text(text, encoding="utf-8")


def summary() -> None:
    """Print what the last run found, and which file to open, in five lines."""
    wall, train, claims = (_metrics(paths.root(), name) for name in ("wall", "train", "claims"))
    top1 = {which: scores["top1"] for which, scores in train.items() if scores["top1"] is not None}
    said = ", ".join(f"{which} {100 * score:.1f}%" for which, score in top1.items())
    print(f"The bottom {_dead_zone(wall)}: no logit depends on them.")
    print(f"Activity there, µ×100: {'; '.join(_headline(paths.root())) or 'not tested here'}.")
    print(f"Top-1 accuracy: {said or 'not tested here'}.")
    print(f"The paper's claims: {_verdicts(claims)}.")
    print("Open rendered/7_paper.ipynb (every figure and claim), figures/table1.md (the table), or `make site`.")


def filled(text: str, root: Path, name: str = "the text") -> str:
    """A document's text with all its blocks written anew; a block whose generator has nothing to say stays as it is.

    Raises ValueError for a marker without generator, without its other half, or inside another block.
    """
    opened = None
    for slash, block in MARKER.findall(text):
        if block not in BLOCKS:
            raise ValueError(f"{name}: nothing writes the block {block}; takes {', '.join(BLOCKS)}")
        if bool(slash) != (opened is not None) or (slash and block != opened):
            raise ValueError(f"{name}: the block {opened or block} is not closed, or not opened; takes a pair of markers")
        opened = None if slash else block
    if opened:
        raise ValueError(f"{name}: the block {opened} is not closed, or not opened; takes a pair of markers")

    def written(match: re.Match) -> str:
        content = BLOCKS[match[1]](root)
        if content is None:
            print(f"{name}: the block {match[1]} stays as it was: the log of this run is not whole", file=sys.stderr)
            return match[0]
        return f"<!-- {match[1]} -->\n{content}\n<!-- /{match[1]} -->"

    return re.sub(r"^<!-- ([\w-]+) -->$.*?^<!-- /\1 -->$", written, text, flags=re.DOTALL | re.MULTILINE)


def headline(root: Path) -> str:
    """The run in two sentences, beside the paper."""
    wall = _metrics(root, "wall")
    return f"**The dead zone: the bottom {_dead_zone(wall)}.** Activity µ×100 there: {'; '.join(_headline(root))}."


def results(root: Path) -> str:
    """Table 1 as one looks at it first: the paper's methods and the uniform map, ours beside the paper's."""
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
    """Every claim, the stages that look at it again, what to expect, and how exactly."""
    lines = [_row("claim", "in the paper", "it says", "stages to repeat", "expected", "tolerance", "verdict"),
             _row(*["---"] * 7)]  # fmt: skip
    for claim in _metrics(root, "claims"):
        stages, tolerance = next(((s, t) for words, s, t in CLAIMS if words in claim["claim"]), (None, None))
        if stages is None:
            raise ValueError(f"report.CLAIMS: nothing on the claim “{claim['claim']}”; takes its stages and tolerance")
        cells = (claim["claim"], claim["where"], claim["paper"], stages, claim["ours"], tolerance, claim["verdict"])
        lines.append(_row(*cells))
    return "\n".join(lines)


def presets(root: Path) -> str:
    """Every preset and what it needs: data, time, memory, disk."""
    from walls import estimates  # torch, which the summary needn't wait for

    lines = [_row("preset", "what", "data", "training, estimated", "memory", "disk"), _row(*["---"] * 3, *["---:"] * 3)]
    files = {file.stem: file for file in (root / "presets").glob("*.yaml")}
    for name in sorted(files, key=[*PRESETS, *sorted(files)].index):
        preset = estimates.read(files[name])
        need = estimates.needs(preset)
        cores = estimates.cores_seconds(need.operations, root / "benchmarks")
        if not need.passes:
            hours = 2 * preset.stacks.images * estimates.map_seconds(root / "benchmarks") / 3600
            time = f"none; {hours:.1f} h of maps on two cores"
        elif cores > 24 * 3600:
            time = f"{need.operations / estimates.GPU / 3600:.0f} GPU hours"
        else:
            time = f"{cores / 3600:.1f} h on two cores" if cores > 5400 else f"{math.ceil(cores / 60)} min on two cores"
        what, data = PRESETS[name]
        lines.append(_row(f"[`presets/{name}.yaml`](presets/{name}.yaml)", what, data, time,
                          f"{math.ceil(need.memory / 1e9)} GB", f"{math.ceil(need.disk / 1e9)} GB"))  # fmt: skip
    return "\n".join([*lines, "", ESTIMATED.format(estimates.GPU / 1e12)])


def showcase(root: Path) -> str:
    """The run on photographs, in two sentences."""
    from walls import estimates

    folder = root / "showcase" / "tiny-imagenet"
    classes = estimates.read(folder / "params.yaml").data.classes
    top1 = ", ".join(f"{which} {100 * scores['top1']:.1f}%" for which, scores in _metrics(folder, "train").items())
    return (f"Top-1 accuracy over {classes} classes: {top1} (guessing: {100 / classes:.1f}%). "
            f"Activity µ×100 in the dead zone: {'; '.join(_headline(folder))}.")  # fmt: skip


BLOCKS: dict[str, Callable[[Path], str | None]] = {
    "summary": headline,
    "results": results,
    "presets": presets,
    "claims": claims,
    "showcase": showcase,
    "run": lambda root: record.block(),
}


def _dead_zone(wall: dict) -> str:
    return f"{wall['dead_rows']} of {wall['image_rows']} image rows, {100 * wall['dead_share']:.0f}%"


def _headline(root: Path) -> list[str]:
    """The two methods that tell the story, those of them that ran, on each dataset beside the paper's; and chance."""
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


def _verdicts(claims: list[dict]) -> str:
    words = {"holds": "hold", "fails": "fail", "inconclusive": "inconclusive", "not tested here": "not tested here"}
    return ", ".join(f"{n} {words[verdict]}" for verdict, n in Counter(c["verdict"] for c in claims).items())


def _spread(rows: pd.DataFrame, dataset: str, kind: str) -> str:
    mean, std = (rows[kind + name].get(dataset, math.nan) for name in ("mean", "std"))
    return "" if math.isnan(mean) else f"{mean:.1f} ± {std:.1f}"


def _row(*cells: str) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _table(root: Path) -> pd.DataFrame:
    return pd.read_csv(root / "figures" / "table1.csv")


def _metrics(root: Path, name: str) -> Any:
    file = root / "metrics" / f"{name}.json"
    if not file.is_file():
        raise ValueError(f"metrics/{name}.json: not there; takes a `dvc repro` first")
    return json.loads(file.read_text(encoding="utf-8"))
