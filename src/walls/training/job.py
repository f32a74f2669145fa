"""One network's training: its inputs, where it resumes, and weights that came from elsewhere."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from walls.base import normalisation, paths, seeds
from walls.images import loaders, reading, transforms
from walls.network import architecture, classifier, geometry
from walls.network.classifier import Classifier
from walls.training import authors, loop
from walls.training.loop import train
from walls.training.settings import Model, Train

WHICH = ("masked", "baseline")
# Besides this one, the modules that the weights follow from.
MODULES = (
    architecture,
    classifier,
    geometry,
    loaders,
    loop,
    normalisation,
    reading,
    seeds,
    transforms,
)


class Job(NamedTuple):
    """What `train` takes, and what the wall stage found out about the network."""

    network: Classifier
    train_set: loaders.Images
    val_set: loaders.Images
    facts: dict
    resume: Path


def job(
    which: str,
    seed: int,
    image_size: int,
    classes: int,
    model: Model,
    settings: Train,
    network: int = 0,
) -> Job:
    """One network's training, from the parameters and the outputs of the stages wall and data.

    `which`: masked or baseline. `network`: 0 the first; any other differs in nothing but its seed,
    seed + network, of the initial weights, the order, crops and flips of the images, and dropout.
    Raises ValueError, naming the stage, where its output isn't there.
    """
    seed += network
    folder, wall = paths.root() / "data" / "set", paths.runs("wall", f"{which}.json")
    for file, stage in ((wall, "wall"), (folder / "manifest.csv", "data")):
        if not file.is_file():
            name = file.relative_to(paths.root())
            raise ValueError(f"{name}: not there; takes a `dvc repro {stage}` first")
    facts = json.loads(wall.read_text())
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    train_set = loaders.Images(
        loaders.read_manifest(folder, "train"), image_size, source["crop_area"], seed
    )
    val_set = loaders.Images(loaders.read_manifest(folder, "val"), image_size)
    fresh = build(which, model, classes, facts["wall_rows"], image_size, seed)
    # Whichever others there are: a training under way goes on after a network was added.
    own = settings.model_dump(exclude={"again"})
    recipe = (which, seed, image_size, source, classes, model.model_dump(), own)
    return Job(fresh, train_set, val_set, facts, resume_folder(train_set, *recipe, facts))


def build(
    which: str, settings: Model, classes: int, wall_rows: int, image_size: int, seed: int
) -> Classifier:
    """The untrained network: `which` is masked (a wall of `wall_rows`) or baseline (no wall)."""
    return architecture.seeded(
        seed,
        width=settings.width,
        dense=settings.dense,
        classes=classes,
        batch_norm=settings.batch_norm,
        wall_rows=wall_rows if which == "masked" else 0,
        image_size=image_size,
        dropout=settings.dropout,
    )


def obtain(
    model: Classifier,
    which: str,
    checkpoint: str | None,
    train_set: loaders.Images,
    val_set: loaders.Images,
    settings: Train,
    resume: Path,
) -> tuple[pd.DataFrame, dict]:
    """`train`, or the weights that the folder `checkpoint` holds instead.

    Those come with an empty history (authors.checkpoint).

    Raises ValueError where that checkpoint has another configuration, naming the entry that
    differs.
    """
    if checkpoint is None:
        return train(model, train_set, val_set, settings, resume)
    model.load_state_dict(authors.checkpoint(checkpoint, which, **model.config).state_dict())
    record = {"precision": "checkpoint", "device": "cpu", "epochs": 0, "images_seen": 0}
    return pd.DataFrame(columns=["epoch", "train_loss", "top1", "top5"]), record


def resume_folder(images: loaders.Images, *settings: object) -> Path:
    """Where a run keeps its checkpoints.

    Named after its settings, the images and this code, and not after the machine.

    An image counts by its size and its first 64 KiB: enough to tell two apart, and a million take
    minutes, not hours.
    """
    code = [Path(module.__file__).read_text() for module in MODULES] + [Path(__file__).read_text()]
    key = hashlib.sha256(json.dumps([settings, code, images.labels.tolist()]).encode())
    for path in images.paths:
        with open(path, "rb") as file:
            key.update(os.fstat(file.fileno()).st_size.to_bytes(8))
            key.update(file.read(2**16))
    return paths.root() / ".resume" / key.hexdigest()[:16]


def finish(resume: Path) -> None:
    """Delete a run's checkpoints, once its weights are written."""
    shutil.rmtree(resume, ignore_errors=True)
