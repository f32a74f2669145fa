"""Notebook 9 on ImageNet's photographs: three networks, both forms, every method.

    python showcase/imagenet/make.py VAL             all; goes on where it was stopped
    python showcase/imagenet/make.py VAL --only efficientnet-lite0-stacked

VAL: ImageNet's validation images as they are handed out by class, a folder or a zip with
WNID/*.JPEG in it. Of its animal classes with two photographs or more, 100 are drawn, two
photographs of each. Every network and form is a run of the stage `networks` in a clone of its own
below .resume/imagenet, of the commit that is checked out: the project's own runs stay. Whatever is
finished is put beside this file; `walls readme` then fills in README.md.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import yaml
from timm.data import ImageNetInfo

from walls.base import files, paths
from walls.base.seeds import stream
from walls.pipeline import log, notebooks
from walls.sources.imagenet import is_animal

HERE = Path(__file__).resolve().parent
CLASSES, EACH = 100, 2
PHOTOGRAPH = re.compile(r"(?:.*/)?(n\d{8})/([^/]+\.jpe?g)", re.IGNORECASE)
# Rows seen within an image, where the rest gives whole rows of features too: 5 of lite0's 7 and 6
# of lite1's 8. No part of lite2's 260 rows does.
WITHIN = {"efficientnet-lite0": 160, "efficientnet-lite1": 180}
# ScoreCAM and Opti-CAM take minutes an image on the larger two: fewer photographs for these.
COSTLY = {"efficientnet-lite1": 8, "efficientnet-lite2": 8}


def photographs(val: Path) -> dict[str, dict[str, object]]:
    """{WNID: {file name: where it is}} of the animal classes in a folder or a zip.

    Raises ValueError where there are too few with two photographs.
    """
    found: dict[str, dict[str, object]] = {}
    names = zipfile.ZipFile(val).namelist() if val.is_file() else map(str, val.rglob("*"))
    for name in sorted(names):
        match = PHOTOGRAPH.fullmatch(Path(name).as_posix())
        if match and is_animal(match[1]):
            found.setdefault(match[1], {})[match[2]] = name
    able = {wnid: own for wnid, own in found.items() if len(own) >= EACH}
    if len(able) < CLASSES:
        raise ValueError(
            f"{val}: got {len(able)} animal classes with {EACH} photographs; takes {CLASSES} or "
            "more, as WNID/*.JPEG"
        )
    return able


def draw(val: Path, seed: int, target: Path) -> None:
    """Copy the drawn photographs to `target`, PLACE-WNID/NAME.

    The place is the draw's: in ImageNet's own order the next class is often the next breed, and
    the first photographs, which the costly methods take, would all be of fish.
    """
    able = photographs(val)
    wnids = sorted(able)
    order = stream(seed, "classes").permutation(len(wnids))[:CLASSES]
    archive = zipfile.ZipFile(val) if val.is_file() else None
    for place, wnid in enumerate(wnids[i] for i in order):
        folder = target / f"{place:03d}-{wnid}"
        folder.mkdir(parents=True, exist_ok=True)
        names = sorted(able[wnid])
        for i in stream(seed, "photographs", wnid).permutation(len(names))[:EACH]:
            source = able[wnid][names[i]]
            content = archive.read(source) if archive else Path(source).read_bytes()
            (folder / names[i]).write_bytes(content)


def runs(values: dict) -> Iterator[tuple[str, dict]]:
    """Every run's name, and its parameters."""
    for form in ("stacked", "within"):
        for name in values["networks"]["names"]:
            if form == "stacked" or name in WITHIN:
                seen = None if form == "stacked" else WITHIN[name]
                own = values["networks"] | {"names": [name], "seen_rows": seen}
                own["costly_images"] = COSTLY.get(name, own["costly_images"])
                yield f"{name}-{form}", values | {"networks": own}


def execute(values: dict, clone: Path, val: Path) -> None:
    """One run, in a new clone of the project."""
    root, began = paths.root(), time.monotonic()
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", "--shared", root, clone], check=True)
    draw(val, values["seed"], clone / values["networks"]["images"])
    (clone / "params.yaml").write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    own = {"PYTHONPATH": str(clone / "src")}  # the clone's code, not what is being worked on
    stage = [sys.executable, "-m", "walls", "run", "networks"]
    subprocess.run(stage, cwd=clone, env=os.environ | own, check=True)
    commit = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=clone, text=True).strip()
    ran = {
        "seconds": round(time.monotonic() - began),
        "machine": log.machine(),
        "commit": commit,
        "costly_images": values["networks"]["costly_images"],
    }
    files.write_json(ran, clone / "runs" / "ran.json")


def collect(done: dict[str, Path]) -> None:
    """Metrics, figures and notebooks of the finished runs, beside this file."""
    for folder in ("metrics", "figures", "rendered"):
        shutil.rmtree(HERE / folder, ignore_errors=True)
        (HERE / folder).mkdir()
    reports: dict[str, dict] = {}
    tables, ran = [], {}
    for name, clone in done.items():
        own, form = clone / "runs" / "networks", name.rpartition("-")[2]
        reports.setdefault(form, {}).update(json.loads((own / "networks.json").read_text()))
        table = pd.read_csv(own / "networks.csv").assign(form=form)
        places = sorted(folder.name for folder in (clone / "data" / "photographs").iterdir())
        table["wnid"] = [places[label].partition("-")[2] for label in table["class"]]
        tables.append(table)
        ran[name] = json.loads((clone / "runs" / "ran.json").read_text()) | {"top1": top1(table)}
        for figure in ("network", "networks"):
            target = HERE / "figures" / f"{figure}-{name}.png"
            shutil.copyfile(own / "figures" / f"{figure}.png", target)
        executed = notebooks.stable(nbformat.read(own / "9_networks.ipynb", as_version=4))
        notebooks.write(executed, HERE / "rendered" / f"9_networks-{name}.ipynb")
    files.write_json(reports, HERE / "metrics" / "networks.json")
    files.write_json(ran, HERE / "metrics" / "runs.json")
    table = pd.concat(tables, ignore_index=True)
    first = ["network", "form"]
    rest = [column for column in table.columns if column not in first]
    files.write_csv(table[first + rest], HERE / "metrics" / "networks.csv", digits=4)


def top1(table: pd.DataFrame) -> float:
    """The share of the photographs whose class the network names from what it sees."""
    synsets = ImageNetInfo().label_names()
    one = table.drop_duplicates("image")
    return round(float(np.mean([synsets[i] for i in one["predicted"]] == one["wnid"])), 4)


def main(arguments: list[str]) -> None:
    """Make what is asked for, then collect all that is there."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("val", metavar="VAL", type=Path, help="WNID/*.JPEG, a folder or a zip")
    parser.add_argument("--only", metavar="NETWORK-FORM", nargs="+", help="these runs alone")
    asked = parser.parse_args(arguments)
    values = yaml.safe_load((HERE / "params.yaml").read_text(encoding="utf-8"))
    clones = {n: paths.root() / ".resume" / "imagenet" / n for n, _ in runs(values)}
    for name, own in runs(values):
        if (asked.only is None or name in asked.only) and not finished(clones[name]):
            print(f"{name}:", flush=True)
            execute(own, clones[name], asked.val.resolve())
    done = [name for name, clone in clones.items() if finished(clone)]
    if len(done) < len(clones):
        print(f"finished: {', '.join(done) or 'none'}; takes {', '.join(clones)} to be collected")
    else:
        collect(clones)


def finished(clone: Path) -> bool:
    """Whether a run came to its end."""
    return (clone / "runs" / "ran.json").is_file()


if __name__ == "__main__":
    main(sys.argv[1:])
