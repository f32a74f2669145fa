"""Ten trainings of the masked network: what one more, or another machine's, is to be judged by.

    python -m benchmarks.ten                    what hasn't run yet; writes benchmarks/ten.{csv,md}
    python -m benchmarks.ten --networks 12      two more
    python -m benchmarks.ten --preset smoke --networks 2 --folder FOLDER   a rehearsal

Network k is params.yaml's with seed + k, in all else the same; the images and stacks are made once.
The first ones, k = 0 and train.again, are the run's own, taken from its cache where they are there.
Each adds its lines to ten.csv as it ends. A killed run goes on at its last stage, and within a
training at its last epoch.
"""

import argparse
import contextlib
import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import torch
import yaml

from benchmarks.measure import hardware, sources_commit
from benchmarks.spread import HERE, call, edit, lines, prepared
from walls.base import params, paths
from walls.paper import networks, results
from walls.paper.table1 import PAPER_TABLE
from walls.project.tolerance import LEVEL, prediction, wide

COUNT = 10


def run(copy: Path, number: int) -> pd.DataFrame:
    """Train a network in the copy and make its maps, unless that is done; its lines."""
    if number:
        stages = [f"train-again@masked-{number}"]
        stages += [f"cams-again@{dataset}-{number}" for dataset in PAPER_TABLE]
    else:
        stages = ["train@masked", *(f"cams@{dataset}" for dataset in PAPER_TABLE)]
    for stage in stages:
        call(copy, "dvc", "repro", "--single-item", stage)
    with contextlib.chdir(copy):
        record = json.loads(
            (paths.of_network("train-masked", number) / "record.json").read_text(encoding="utf-8")
        )
        measured = results.measured(PAPER_TABLE, [number])
    lock: Any = yaml.safe_load((copy / "dvc.lock").read_text(encoding="utf-8"))["stages"]
    table = networks.by_network(measured)
    table.insert(0, "weights", lock[stages[0]]["outs"][0]["md5"][:8])
    table.insert(1, "precision", record["precision"])
    for place, key in enumerate(("top1", "top5"), 2):
        table.insert(place, key, 100 * record[key])
    return table


def write(table: pd.DataFrame, before: pd.DataFrame, file: Path) -> None:
    """The lines of a network beside those that are there."""
    whole = pd.concat([before, table]) if len(before) else table
    whole = whole.sort_values("network", kind="stable")
    whole.round(4).to_csv(file.with_suffix(".partial"), index=False, lineterminator="\n")
    os.replace(file.with_suffix(".partial"), file)


def report(table: pd.DataFrame, commit: str) -> str:
    """The page."""
    each = table.drop_duplicates("network").set_index("network")
    shown = each[["weights", "precision", "top1"]]
    for dataset in PAPER_TABLE:
        own = table[(table["dataset"] == dataset) & (table["method"] == "GradCAM")]
        shown = shown.assign(**{f"GradCAM, {dataset}": own.set_index("network")["mean"]})
    return f"""# {len(each)} trainings of the network behind the wall

`python -m benchmarks.ten` of {commit[:7]} on {hardware(torch.device("cpu"), f"torch {torch.__version__}")}.
{(__doc__ or "").split(chr(10) + chr(10))[2].strip()}

{shown.to_markdown(floatfmt=".1f")}

`weights`: the first digits of the file's MD5. top1 in %, else mean µ×100 over the images.

## Every method

Over the networks, of their mean µ×100: mean and standard deviation, least and most; where the mean of three new networks lies but
for one in {1 / LEVEL:.0f} (Student's prediction interval), which is what `walls verify` allows; and on how many networks most images (µ×100 > {100 * networks.ACTIVE:.0f}) light up.

{summary(table).to_markdown(index=False)}
"""


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """A row per dataset and method."""
    numbers, rows = wide(table), []
    for dataset, method in table[["dataset", "method"]].drop_duplicates().itertuples(index=False):
        values = numbers[f"{method}, {dataset}, mean"].dropna().to_numpy()
        found = prediction(values, 3)
        lit = networks.most(table, method, [dataset])
        rows.append(
            {
                "dataset": dataset,
                "method": method,
                "mean ± std": f"{values.mean():.1f} ± {values.std(ddof=1):.1f}"
                if len(values) > 1
                else "",
                "least to most": f"{values.min():.1f} to {values.max():.1f}" if len(values) else "",
                "three new networks": f"{max(found[0], 0):.1f} to {min(found[1], 100):.1f}"
                if found
                else "",
                "most images": f"{int(lit.sum())} of {len(lit)}",
            }
        )
    return pd.DataFrame(rows)


def main(arguments: list[str]) -> int:
    """Run what is left to run, writing after each."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.ten", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument("--networks", type=int, default=COUNT, help="default: 10")
    parser.add_argument("--preset", help="rehearse with presets/PRESET.yaml, all in --folder")
    parser.add_argument("--folder", type=Path, default=paths.root() / ".resume" / "ten")
    given = parser.parse_args(arguments)
    if given.networks < 2:
        parser.error(f"--networks: got {given.networks}; takes 2 or more")
    commit = sources_commit()
    folder = given.folder.resolve() / f"{commit[:8]}{'-' + given.preset if given.preset else ''}"
    folder.mkdir(parents=True, exist_ok=True)
    file = (folder if given.preset else HERE) / "ten.csv"
    done = set(lines(file, commit)["network"])
    left = [number for number in range(given.networks) if number not in done]
    if left:
        copy = prepared(folder, commit, given.preset, ["stacks"])
        edit(copy / "params.yaml", {"train.again": list(range(1, given.networks))})
        with contextlib.chdir(copy):
            params.load()
        # What the run here has trained of the same code and parameters is taken from its cache.
        call(copy, "dvc", "cache", "dir", "--local", str(paths.root() / ".dvc" / "cache"))
        call(copy, "dvc", "repro", "--single-item", "check")
        for number in left:
            table = run(copy, number)
            table.insert(0, "commit", commit)
            write(table, lines(file, commit), file)
        shutil.rmtree(folder if not given.preset else copy)
    page = report(lines(file, commit), commit)
    file.with_suffix(".md").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
