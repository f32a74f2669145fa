"""The table of all methods: every method of this project, on networks that people use.

    python -m benchmarks.methods             EfficientNet-Lite0 and [VGG], every method
    python -m benchmarks.methods --table     methods.csv and methods.png anew from entries/ alone

EfficientNet-Lite0 sees one of foolbox's twenty photographs, stacked on another; [VGG], trained here
on drawn animals, the upper rows of twenty validation images. Costly methods take the first few
images. Each method is checked by itself and its entry kept in showcase/methods/entries, so that a
stopped run goes on where it was; others' entries may lie there as well (CONTRIBUTING.md).
"""

import argparse
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from benchmarks.measure import sources_commit
from walls.base import files, paths
from walls.figures import style
from walls.images import loaders, transforms
from walls.network import checkpoints, zoo
from walls.pipeline import log
from walls.saliency.controls import CONTROLS
from walls.saliency.methods import ATTENTION, COSTLY, METHODS
from walls.sanity import entries, plots
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


def draw(table: pd.DataFrame) -> Figure:
    """A panel per network: every method's mean µ×100 by what lies hidden, with its interval."""
    style.use_style()
    methods = [name for name in METHODS if name in set(table["method"])]
    networks = list(dict.fromkeys(table["network"]))
    size = (style.WIDTH, 0.8 + 0.16 * len(methods))
    figure, axes = plt.subplots(1, len(networks), figsize=size, sharey=True, squeeze=False)
    figure.set_layout_engine("none")
    for ax, network in zip(axes[0], networks, strict=True):
        own = table[table["network"] == network]
        parts = []
        for control in CONTROLS:
            columns = {control: "mean", f"{control} low": "ci_low", f"{control} high": "ci_high"}
            part = own[["method", *columns]].rename(columns=columns)
            parts.append(part.assign(control=control))
        uniform = own["uniform"].iloc[0] / 100
        plots.by_control(ax, pd.concat(parts), methods, CONTROLS, uniform)
        ax.set_title(textwrap.fill(network, 28), fontsize=style.SMALL + 1)
        ax.set_xlabel("mean µ×100")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(CONTROLS), frameon=False)
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    return figure


def main() -> None:
    """Make what is missing, then the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--table", action="store_true", help="the table alone")
    asked, began = parser.parse_args(), time.monotonic()
    if not asked.table:
        commit = sources_commit()  # before anything runs: what is committed meanwhile isn't in it
        for subject in subjects():
            run(subject, HERE / "entries")
        ran = {"seconds": round(time.monotonic() - began), "threads": torch.get_num_threads()}
        files.write_json(ran | {"machine": log.machine(), "commit": commit}, HERE / "run.json")
    table = entries.table(HERE / "entries")
    files.write_csv(table, HERE / "methods.csv", digits=4)
    figure = draw(table)
    figure.savefig(HERE / "methods.png", metadata={"Software": None}, dpi=200)


if __name__ == "__main__":
    main()
