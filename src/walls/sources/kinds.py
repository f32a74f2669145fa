"""The image sources: one function each, under the name that `data.name` takes.

A source turns a `Request` into the manifest's rows (split, label, class, animal, path): split is
train or val, label 0 … classes - 1, class the label's name, animal true where it is one or nobody
knows, path relative to the set's folder or absolute. Adding a source is adding a function:

    @source("birds", root="needed")
    def birds(request: Request) -> Iterable[tuple]:
        from walls.sources import folders, listing

        files = {"train": {"wren": ["/photos/1.jpg", …], …}, "val": {"wren": [ … ], …}}
        found = listing.Listing(
            root=str(request.root),  # what errors call it
            files=files,
            name=str,  # a class's key in `files` -> the name that people read
            animal=lambda key: True,
            take=folders.refer,  # leaves files where they lie; imagenet.py has one that copies
        )
        return listing.taken(found, request.settings, request.random, request.folder)

Nothing else lists the sources: `data.name` and its messages follow from the decorator. What a
function needs it imports itself, so that parameters are checked without waiting for torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.random import Generator

    from walls.sources.settings import Data


@dataclass(frozen=True)
class Request:
    """What a set is to hold, and where its own images go."""

    settings: Data
    seed: int
    image_size: int
    random: Generator  # draws the classes
    folder: Path

    @property
    def root(self) -> Path | None:
        """`data.root` as an absolute path."""
        return Path(self.settings.root).expanduser().absolute() if self.settings.root else None


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source, and what the checks, the training and the estimates must know about it."""

    rows: Callable[[Request], Iterable[tuple]]
    root: Literal["none", "optional", "needed"] = "none"  # `data.root`
    # The share of an image that a training crop keeps; None: there is nothing to train on.
    crop_area: tuple[float, float] | None = (0.25, 1.0)
    # Train and val images of a class, for the estimates, where `data.*_images` is null: all.
    class_images: tuple[float, float] | None = None
    most_classes: int | None = None
    writes: bool = False  # its images into the set's folder, instead of referring to them
    endless: bool = False  # so that "all images" means nothing
    empty: bool = False  # no images at all: models and stacks come from elsewhere
    knows_animals: bool = True  # which classes are animals, for `data.animals`
    turned: bool = True  # images as their EXIF orientation says, instead of as stored


SOURCES: dict[str, Source] = {}


def source(name: str, **facts: Any) -> Callable:
    """Register a function Request → rows under `name`, with the facts of `Source` that differ."""

    def register(function: Callable[[Request], Iterable[tuple]]) -> Callable:
        SOURCES[name] = Source(rows=function, **facts)
        return function

    return register


@source("critters", crop_area=(0.6, 1.0), most_classes=10, writes=True, endless=True)
def critters(request: Request) -> Iterable[tuple]:
    """Cartoon animals, drawn here (critters.py)."""
    from walls.sources import critters, species

    settings, images = request.settings, request.folder / "images"
    for split, count in (("train", settings.train_images), ("val", settings.val_images)):
        drawn = critters.write(
            images, split, count, request.seed, settings.classes, request.image_size
        )
        for path, name in drawn:
            yield split, species.SPECIES.index(name), name, True, f"images/{path}"


@source("tiny-imagenet", root="optional", class_images=(500, 50), writes=True)
def tiny_imagenet(request: Request) -> Iterable[tuple]:
    """The public archive, downloaded where `data.root` is null, or a local copy, zipped or not."""
    from walls.sources import imagenet, listing

    found = imagenet.tiny_imagenet(request.root)
    return listing.taken(found, request.settings, request.random, request.folder)


# A crop's least area is the paper's; a class has a thousandth of all images.
@source("imagenet", root="needed", crop_area=(0.1, 1.0), class_images=(1281.167, 50), turned=False)
def imagenet(request: Request) -> Iterable[tuple]:
    """ILSVRC2012's standard tree.

    val/ may be flat, its names with WNIDs or the devkit beside it. Images are taken as they are
    stored, as torchvision's loader and the authors' take them: a few have an EXIF orientation.
    """
    from walls.sources import imagenet, listing

    found = imagenet.imagenet(request.root)
    return listing.taken(found, request.settings, request.random, request.folder)


@source("folder", root="needed", knows_animals=False)
def folder(request: Request) -> Iterable[tuple]:
    """CLASS/*.jpg, split by the seed."""
    from walls.sources import folders, listing

    settings = request.settings
    held_out = settings.val_images and settings.val_images // settings.classes
    found = folders.photographs(request.root, request.seed, held_out)
    return listing.taken(found, settings, request.random, request.folder)


@source("none", crop_area=None, empty=True)
def nothing(request: Request) -> Iterable[tuple]:
    """No images: trained models and ready stacks come from elsewhere."""
    return []
