"""The section `data` of params.yaml."""

import os
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from walls.base.fields import Count, Section, Text, home, takes
from walls.sources.kinds import SOURCES


def _known(name: str) -> str:
    if name not in SOURCES:
        raise ValueError
    return name


def _or(names: list[str]) -> str:
    return ", ".join(names[:-1]) + f" or {names[-1]}"


_ROOTLESS = ", ".join(name for name, kind in SOURCES.items() if kind.root != "needed")


class Data(Section):
    """The images to train and validate on."""

    name: takes(_or(list(SOURCES)), Annotated[Text, AfterValidator(_known)])
    root: takes(f"the path of a local archive or folder, or null ({_ROOTLESS})", Text | None)
    animals: takes("true for ImageNet's animal classes alone (its first 398), or false", bool) = (
        False
    )
    classes: takes(
        "a whole number, 2 to a million (critters: up to 10)", Annotated[int, Field(ge=2, le=10**6)]
    )
    train_images: takes(
        "a whole number, at least one image per class, or null for all", Count | None
    )
    val_images: takes(
        "a whole number, at least two images per class, or null for all", Count | None
    )

    def conflicts(self, params: Any) -> Iterator[str]:
        """What the source can't give."""
        source = SOURCES[self.name]
        if source.most_classes and self.classes > source.most_classes:
            yield (
                f"data.classes: got {self.classes}; takes 2 "
                f"to {source.most_classes} with {self.name}"
            )
        if source.root == "needed" and (self.root is None or not os.path.isdir(home(self.root))):
            got = "null" if self.root is None else f"{self.root}, which is no folder"
            yield (
                f"data.root: got {got}; takes the path of a "
                f"folder of images with data.name {self.name}"
            )
        elif self.root is not None and not os.path.exists(home(self.root)):
            yield (
                f"data.root: got {self.root}, which isn't there; "
                "takes the path of a local archive or folder"
            )
        if self.animals and not source.knows_animals:
            yield (
                f"data.animals: got true; takes false with {self.name}, "
                "of whose classes nobody knows which are animals"
            )
        for key, least, word in (("train_images", 1, "one"), ("val_images", 2, "two")):
            count = getattr(self, key)
            if count is None and source.endless:
                yield (
                    f"data.{key}: got null; takes a number with "
                    f"{self.name}, of which there is no end"
                )
            elif count is not None and count < least * self.classes:
                yield (
                    f"data.{key}: got {count}; takes at least "
                    f"{word} per class, {least * self.classes}"
                )
        if source.empty and params.model.checkpoint is None:
            yield (
                "model.checkpoint: got null; takes a folder of trained models with data.name "
                f"{self.name}, which has no images"
            )
