"""How far honest runs of the same code and images lie apart: what `walls verify` may tolerate.

    python -m benchmarks.spread                   every setting that hasn't run yet;
                                                  writes benchmarks/spread.{csv,md}
    python -m benchmarks.spread "1 thread"        this setting alone
    python -m benchmarks.spread --preset smoke    a rehearsal on another preset, all in --folder

A setting changes the seed, the threads, the precision or the processor's instructions of what comes
after the images: both trainings, the saliency maps, the tables. The images, the stacks and the
theory are made once, with params.yaml's seed, and copied. All but the first take one thread, so
that several of them can run at once, each started with settings of its own. Every run adds a line
to spread.csv as it ends. A killed one goes on at its last stage, and within a training at its last
epoch; a line or a folder of other sources is not taken for one of these.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
import yaml
from dvc.utils.serialize import modify_yaml

from benchmarks.measure import hardware, sources_commit
from walls.base import paths
from walls.paper import claims
from walls.project import verify
from walls.project.comparison import Read, in_folder
from walls.project.tolerance import LEVEL, NUMBERS, WIDE, prediction

HERE = Path(__file__).resolve().parent
STAGES = ["train@masked", "train@baseline", "cams@stack-mix", "cams@stack-gen"]
ONE = {"OMP_NUM_THREADS": "1"}
NO_AVX512 = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "MKL_ENABLE_INSTRUCTIONS": "AVX2",
}
NO_AMX = {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"}


class Setting(NamedTuple):
    """What one run changes of the committed one."""

    beside: str | None = None  # the setting that it differs from in one thing
    thing: str = ""
    params: dict | None = None  # {"key" or "part.key" of params.yaml: value}
    variables: dict | None = None  # of the environment
    needs: str = ""  # a flag in /proc/cpuinfo, without which it would change nothing


FIRST = "as committed"  # two threads, and the precision that train.precision finds here
SETTINGS = {
    FIRST: Setting(),
    "1 thread": Setting(FIRST, "threads", variables=ONE),
    **{f"seed {seed}": Setting("1 thread", "seeds", {"seed": seed}, ONE) for seed in (1, 2, 3, 4)},
    "float32": Setting("1 thread", "precision", {"train.precision": "float32"}, ONE, "avx512_bf16"),
    "float32, no AVX-512": Setting(
        "float32", "AVX-512", {"train.precision": "float32"}, ONE | NO_AVX512, "avx512f"
    ),
    "no AMX": Setting("1 thread", "AMX", variables=ONE | NO_AMX, needs="amx_bf16"),
}


def run(name: str, base: Path, folder: Path) -> dict:
    """One setting's run in a copy of `base`, below `folder`, deleted once it is done: its line."""
    setting, copy = SETTINGS[name], folder / re.sub(r"\W+", "-", name)
    if not copy.is_dir():
        partial = copy.with_name(copy.name + ".partial")
        shutil.rmtree(partial, ignore_errors=True)
        # Without DVC's cache: it would hand back what another setting made.
        shutil.copytree(
            base,
            partial,
            ignore=lambda at, names: {"cache", "tmp"} if Path(at).name == ".dvc" else set(),
        )
        # Of one network, as its lines are of one.
        edit(partial / "params.yaml", {"train.again": []} | (setting.params or {}))
        partial.rename(copy)
    for stage in STAGES:
        call(copy, "dvc", "repro", "--single-item", stage, **(setting.variables or {}))
    # Not by DVC, which would have the sweep of every wall run before: no accuracy, cell or claim is
    # made of it.
    call(copy, "walls", "run", "paper", **(setting.variables or {}))
    line = {"setting": name, **measured(in_folder(copy))}
    shutil.rmtree(copy)
    return line


def edit(file: Path, changed: dict) -> None:
    """Put each value of {"key" or "part.key": value} into a params.yaml."""
    with modify_yaml(str(file)) as values:
        for key, value in changed.items():
            part, _, last = key.rpartition(".")
            (values[part] if part else values)[last] = value


def measured(read: Read) -> dict:
    """A finished run's numbers, one per column."""
    train, ledger = (json.loads(read(f"metrics/{name}.json")) for name in ("train", "claims"))
    weights = yaml.safe_load(read("dvc.lock"))["stages"]["train@masked"]["outs"][0]["md5"][:8]
    line = {"precision": train["masked"]["precision"], "weights": weights}
    line |= {
        f"{which} {key}": 100 * train[which][key] for which in train for key in ("top1", "top5")
    }
    for row in pd.read_csv(StringIO(read("figures/table1.csv"))).to_dict("records"):
        line |= {
            f"{row['method']}, {row['dataset']}, {cell}": row[cell] for cell in ("mean", "std")
        }
    return line | {row["claim"]: row["verdict"] for row in ledger}


def call(folder: Path, module: str, *arguments: str, **variables: str) -> None:
    """A module as a command in a copy of the project; its output is shown. SystemExit where it
    fails.
    """
    surroundings = (
        verify.environment(folder) | {"TQDM_DISABLE": "1", "OMP_NUM_THREADS": "2"} | variables
    )
    command = [sys.executable, "-m", module, *arguments]
    if subprocess.run(command, cwd=folder, env=surroundings, stdin=subprocess.DEVNULL).returncode:
        sys.exit(f"spread: {module} {' '.join(arguments)} failed in {folder}")


def prepared(
    folder: Path, commit: str, preset: str | None, stages: Sequence[str] = ("theory", "stacks")
) -> Path:
    """A clone of the commit after some stages, its images and stacks, made unless it is there."""
    base = folder / "base"
    if not base.is_dir():
        partial = base.with_name("base.partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(
            ["git", "clone", "--quiet", "--no-checkout", str(paths.root()), str(partial)],
            check=True,
        )
        subprocess.run(
            ["git", "-c", "advice.detachedHead=false", "checkout", "--quiet", commit],
            cwd=partial,
            check=True,
        )
        if preset:
            shutil.copyfile(partial / "presets" / f"{preset}.yaml", partial / "params.yaml")
        call(partial, "dvc", "repro", *stages)
        partial.rename(base)
    return base


def lines(file: Path, commit: str) -> pd.DataFrame:
    """The settings, networks or steps that have run of this commit."""
    if not file.is_file():
        return pd.DataFrame(columns=["commit", "setting", "network", "step"])
    return pd.read_csv(file, dtype={"weights": str}).query("commit == @commit")


def distances(table: pd.DataFrame) -> pd.DataFrame:
    """Per number: the committed run's, how far a change of one thing moves it at most, and its
    spread over all runs.
    """
    runs = table.set_index("setting")
    rows = []
    for column in table.filter(regex=NUMBERS):
        row = {"": column, FIRST: runs[column][FIRST]}
        for name in runs.index.intersection(list(SETTINGS)[1:]):
            beside, thing = SETTINGS[name][:2]
            if beside in runs.index:
                row[thing] = np.fmax(
                    row.get(thing, 0.0), abs(runs[column][name] - runs[column][beside])
                )
        rows.append(row | {"standard deviation": runs[column].std(ddof=1)})
    return pd.DataFrame(rows)


def report(table: pd.DataFrame, commit: str) -> str:
    """The page."""
    said = [
        column
        for column in table
        if table[column].isin([claims.HOLDS, claims.FAILS, claims.INCONCLUSIVE]).any()
    ]
    counts = {claim: table[claim].value_counts() for claim in said if table[claim].nunique() > 1}
    moved = [
        f"- {claim}: " + ", ".join(f"{n} {verdict}" for verdict, n in found.items())
        for claim, found in counts.items()
    ]
    left = [name for name in SETTINGS if name not in set(table["setting"])]
    shown = [
        "setting",
        "precision",
        "weights",
        "masked top1",
        "baseline top1",
        "GradCAM, stack-mix, mean",
        "GradCAM, stack-gen, mean",
    ]
    return f"""# How far honest runs lie apart

`python -m benchmarks.spread` of {commit[:7]} on {hardware(torch.device("cpu"), f"torch {torch.__version__}")}.
{(__doc__ or "").split(chr(10) + chr(10))[2].strip()}

{table[shown].to_markdown(index=False, floatfmt=".1f")}

`weights`: the first digits of the masked network's MD5; equal where two runs are the same to the last bit.
`as committed`: as the stages run it, of the commit above; later commits and other machines give other weights.
Not run: {"; ".join(left) or "none"}.

## Numbers

Accuracies in %, µ×100. In the middle how far a number moves, at most, where one thing alone changes.

{distances(table).to_markdown(index=False, floatfmt=".2f")}

## Verdicts

{chr(10).join(moved) or "The same in every run."}

## Where honest runs lie

{tolerated(table)}
"""


def tolerated(table: pd.DataFrame) -> str:
    """Where a run of one network and of three must lie by these runs, as a text and a table."""
    rows = {}
    for column, values in table.filter(regex=NUMBERS).items():
        level = WIDE if column.endswith(", std") else LEVEL
        found = [prediction(values.to_numpy(), count, level) for count in (1, 3)]
        if all(found):
            rows[column] = [f"{max(low, 0):.1f} to {min(high, 100):.1f}" for low, high in found]
    columns = ["one network", "three networks"]
    shown = pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("")
    return f"""Student's prediction interval of new networks' mean, by these {len(table)}: outside of it lies one number in {1 / LEVEL:.0f} of an
honest run (of standard deviations, whose tails are heavier, one in {1 / WIDE:,.0f}). `walls verify` takes it from these runs where [ten.csv](ten.csv) holds no networks yet, and for the baseline (accuracies
in %, µ×100).

{shown.to_markdown()}"""


def main(arguments: list[str]) -> int:
    """Run what is left to run, writing after each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.spread", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("settings", nargs="*", help=f"of {', '.join(SETTINGS)}; default: all")
    parser.add_argument("--preset", help="rehearse with presets/PRESET.yaml")
    parser.add_argument(
        "--folder",
        type=Path,
        default=paths.root() / ".resume" / "spread",
        help="where the copies lie",
    )
    given = parser.parse_args(arguments)
    if unknown := set(given.settings) - SETTINGS.keys():
        parser.error(f"got {', '.join(sorted(unknown))}; takes {', '.join(SETTINGS)}")
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text(encoding="utf-8").split() if cpuinfo.exists() else []
    commit = sources_commit()
    folder = given.folder.resolve() / f"{commit[:8]}{'-' + given.preset if given.preset else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    results = folder if given.preset else HERE
    file = results / "spread.csv"
    for name in given.settings or SETTINGS:
        if SETTINGS[name].needs not in ["", *flags]:
            print(
                f"{name}: left out; this processor has no {SETTINGS[name].needs}", file=sys.stderr
            )
        elif name not in set(lines(file, commit)["setting"]):
            line = pd.DataFrame(
                [{"commit": commit, **run(name, prepared(folder, commit, given.preset), folder)}]
            )
            before = lines(file, commit)  # read again: another process may have added its own
            table = pd.concat([before, line]) if len(before) else line
            table = table.sort_values("setting", key=lambda names: names.map(list(SETTINGS).index))
            table.to_csv(file.with_suffix(".partial"), index=False, lineterminator="\n")
            os.replace(file.with_suffix(".partial"), file)
        table = lines(file, commit)
        if FIRST in set(table["setting"]):
            (results / "spread.md").write_text(report(table, commit), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
