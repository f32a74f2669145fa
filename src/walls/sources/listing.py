"""What a source of photographs holds, and which of it a set takes."""

from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from walls.base.progress import track
from walls.sources.settings import Data

SPLITS = ("train", "val")
READERS = 8  # threads: most of a file's inspection is waiting for the disk


@dataclass(frozen=True)
class Listing:
    """What a source holds, and how one of its files becomes part of a set."""

    root: str  # what errors call it
    # split -> class -> its files, in the order in which they are taken
    files: dict[str, dict[str, list[str]]]
    name: Callable[[str], str]  # class -> what people call it
    animal: Callable[[str], bool]
    # file, "SPLIT/CLASS", the set's folder -> path for the manifest
    take: Callable[[str, str, Path], str]


def taken(
    listing: Listing, settings: Data, random: np.random.Generator, folder: Path
) -> list[tuple]:
    """The manifest's rows (split, label, class, animal, path) of what a set takes of a listing.

    `random` draws the classes. Raises ValueError as `choose`, and naming a file that is no image.
    """
    chosen, names = choose(listing, settings, random)

    def take(item: tuple) -> tuple:
        split, label, key, file = item
        path = listing.take(file, f"{split}/{key}", folder)
        return split, label, names[key], listing.animal(key), path

    with ThreadPool(READERS) as pool:
        found = pool.imap(take, chosen, chunksize=64)
        label = f"reading {settings.name}"
        return list(track(found, desc=label, total=len(chosen), unit="image"))


def choose(
    listing: Listing, settings: Data, random: np.random.Generator
) -> tuple[list[tuple], dict[str, str]]:
    """The files of `data.classes` classes, and those classes' names, all different.

    The files come as [(split, label, class, file)], the labels in the order of the sorted classes.
    Every class gives as many files as any other, or all it has
    where the number is null. Raises ValueError naming a class that is empty, missing from a split
    or too small.
    """
    root, files = listing.root, listing.files
    classes = sorted(
        key for key in files["train"] | files["val"] if listing.animal(key) or not settings.animals
    )
    if len(classes) < settings.classes:
        kind = "animals" if settings.animals else "classes"
        raise ValueError(
            f"data.classes: got {settings.classes}; takes "
            f"up to {len(classes)}, all the {kind} of {root}"
        )
    for key in classes:
        for split in SPLITS:
            if not files[split].get(key):
                raise ValueError(
                    f"data.root: {root} has no {split} image of "
                    f"class {key}; takes both splits of every class"
                )
    drawn = [classes[i] for i in sorted(random.permutation(len(classes))[: settings.classes])]
    chosen = []
    for split, total in (("train", settings.train_images), ("val", settings.val_images)):
        for label, key in enumerate(drawn):
            found = files[split][key]
            count = len(found) if total is None else total // settings.classes
            if len(found) < count:
                raise ValueError(
                    f"data.{split}_images: got {total}, {count} "
                    f"a class; {root} has {len(found)} of {key}"
                )
            chosen += [(split, label, key, file) for file in found[:count]]
    names = [listing.name(key) for key in drawn]
    return chosen, {
        k: n if names.count(n) == 1 else f"{n} ({k})" for k, n in zip(drawn, names, strict=True)
    }
