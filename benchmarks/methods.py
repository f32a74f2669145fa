"""The table of all methods: every method of this project, on networks that people use.

    python -m benchmarks.methods             EfficientNet-Lite0 and [VGG], every method
    python -m benchmarks.methods --table     methods.csv anew from entries/ alone

EfficientNet-Lite0 sees one of foolbox's twenty photographs, stacked on another; [VGG], trained here
on drawn animals, the upper rows of twenty validation images. Costly methods take the first few
images. Each method is checked by itself and its entry kept in showcase/methods/entries, so that a
stopped run goes on where it was; others' entries may lie there as well (CONTRIBUTING.md).
"""

import argparse
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from walls.base import files, paths
from walls.images import loaders, transforms
from walls.network import checkpoints, zoo
from walls.pipeline import log
from walls.saliency.controls import CONTROLS
from walls.saliency.methods import ATTENTION, COSTLY, METHODS
from walls.sanity import entries
from walls.sanity.check import check
from walls.sources.packaged import photographs

HERE = paths.root() / "showcase" / "methods"
IMAGES, FEW = 20, 6
LITE, VGG = "efficientnet-lite0", "vgg16, an eighth as wide, on drawn animals"


class Subject(NamedTuple):
    """A network, and the images that it is checked on."""

    name: str
    network: nn.Module
    images: Tensor
    labels: list[int]
    normalised: tuple | None


def subjects() -> Iterator[Subject]:
    """Both networks, one after the other."""
    named = zoo.get(LITE)
    images, labels, _ = photographs("packaged", named.recipe)
    yield Subject(LITE, named.network, images, labels, named.recipe.normalised)
    model = checkpoints.load(paths.weights("masked"))
    manifest = loaders.read_manifest(paths.root() / "data" / "set", "val")
    # As many of every class, the first of each.
    classes = manifest["label"].nunique()
    chosen = manifest.groupby("label").head(IMAGES // classes).sort_values("label")
    every = loaders.Images(chosen.reset_index(drop=True), 224)
    inputs = transforms.normalise(torch.stack([every[i][0] for i in range(len(every))]))
    yield Subject(VGG, model, inputs, chosen["label"].tolist(), None)


def run(subject: Subject, folder: Path) -> None:
    """Check every method that has no entry so far."""
    for name in METHODS:
        # Neither network has attention: no package holds weights of a vision transformer.
        if name in ATTENTION or entries.place(folder, subject.name, name).is_file():
            continue
        began = time.monotonic()
        few = {name: FEW} if name in COSTLY else None
        report = check(
            subject.network,
            [name],
            subject.images,
            subject.labels,
            few=few,
            few_controls=CONTROLS,
            normalised=subject.normalised,
            progress=False,
        )
        entries.write(report, folder, subject.name)
        seconds = time.monotonic() - began
        print(f"{subject.name}, {name}: {report.verdict(name)}; {seconds:.0f} s", flush=True)


def main() -> None:
    """Make what is missing, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", action="store_true", help="the table alone")
    asked, began = parser.parse_args(), time.monotonic()
    if not asked.table:
        for subject in subjects():
            run(subject, HERE / "entries")
        ran = {"seconds": round(time.monotonic() - began), "machine": log.machine()}
        files.write_json(ran, HERE / "run.json")
    files.write_csv(entries.table(HERE / "entries"), HERE / "methods.csv", digits=4)


if __name__ == "__main__":
    main()
