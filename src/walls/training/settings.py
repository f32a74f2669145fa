"""The sections that make a network, `wall`, `model` and `train` of params.yaml."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from walls.base.fields import Count, Million, Positive, Rate, Section, Text, abridged, home, takes

# [VGG]'s 3 × 3 convolutions between its poolings, which halve the height.
CONVOLUTIONS = (2, 2, 3, 3, 3)
# A model's file in `model.checkpoint`: this project's, or the authors' release.
CHECKPOINTS = ("{which}.safetensors", "params_vgg16_{which}.pt")
AGAIN = "a list of whole numbers from 1 to 999, each once; [] trains the masked network once"


class Wall(Section):
    """The rows of **B** that the head can't read."""

    rows: takes("a whole number of feature rows, 1 or more", Count)

    def conflicts(self, params: Any) -> Iterator[str]:
        """The wall leaves a dead zone, and something to see."""
        walls, size = walls_of(params.image_size), params.image_size
        if not walls:
            yield f"image_size: got {size}; takes a larger image: here no wall leaves a dead zone"
        elif self.rows not in walls:
            yield (
                f"wall.rows: got {self.rows}; takes from {walls[0]} to {walls[-1]} rows at "
                f"image_size {size}: others leave no dead zone or hide everything"
            )


def walls_of(image_size: int) -> range:
    """The heights of [VGG]'s walls that leave a dead zone and something to see.

    As geometry.every_wall of its layers, without waiting for torch.
    """
    heights = [image_size]
    for _ in CONVOLUTIONS[1:]:
        heights.append(heights[-1] // 2)

    def hides(rows: int) -> bool:
        need = heights[-1] - rows
        for block, (count, height) in enumerate(
            zip(CONVOLUTIONS[::-1], heights[::-1], strict=True)
        ):
            need = min((2 * need if block else need) + count, height)
        return need < image_size

    good = [rows for rows in range(1, heights[-1]) if hides(rows)]
    return range(good[0], good[-1] + 1) if good else range(0)


class Model(Section):
    """[VGG]."""

    width: takes("a number above 0 and up to 4 (1 is VGG16)", Annotated[float, Field(gt=0, le=4)])
    dense: takes("a whole number, 1 or more", Million)
    batch_norm: takes("true or false", bool)
    dropout: takes("a number from 0 to below 1", Rate)
    checkpoint: takes(
        "a folder with masked.safetensors and baseline.safetensors, or with the authors' "
        "params_vgg16_masked.pt and params_vgg16_baseline.pt, or null to train",
        Text | None,
    )

    def conflicts(self, params: Any) -> Iterator[str]:
        """A folder of trained models must hold both, and those that train.again names."""
        if self.checkpoint is None:
            return
        whole = True
        for which in ("masked", "baseline"):
            if missing := self._missing(which):
                whole = False
                yield (
                    f"model.checkpoint: got {self.checkpoint}, without {missing}; "
                    f"takes {self.described('checkpoint')}"
                )
        for number in params.train.again if whole else ():
            if missing := self._missing(f"masked-{number}"):
                yield (
                    f"train.again: got {abridged(params.train.again)}, but model.checkpoint is a "
                    f"folder without {missing}; takes [] with ready weights of one training"
                )

    def _missing(self, which: str) -> str:
        """The files of which the folder holds none; empty where it does."""
        names = [name.format(which=which) for name in CHECKPOINTS]
        files = [os.path.join(home(self.checkpoint), name) for name in names]
        return "" if any(map(os.path.isfile, files)) else " or ".join(names)


class Train(Section):
    """SGD, random crop and flip."""

    epochs: takes("a whole number, 1 or more", Million)
    batch_size: takes("a whole number, 2 or more", Annotated[int, Field(ge=2, le=10**9)])
    accumulate: takes("a whole number, 1 or more", Count)
    lr: takes("a number above 0", Positive)
    momentum: takes("a number from 0 to below 1", Rate)
    weight_decay: takes("a number, 0 or more", Annotated[float, Field(ge=0, allow_inf_nan=False)])
    schedule: takes(
        "onecycle, cosine, step or constant", Literal["onecycle", "cosine", "step", "constant"]
    )
    precision: takes(
        "auto, float32, bfloat16 or float16", Literal["auto", "float32", "bfloat16", "float16"]
    )
    compile: takes("true or false", bool)
    workers: takes("a whole number, 0 or more", Annotated[int, Field(ge=0, le=1000)])
    # No stage's notebook gets it but notebook 7: a further training must not rerun the first ones.
    again: takes(AGAIN, list[Annotated[int, Field(ge=1, le=999)]]) = Field(default_factory=list)

    def conflicts(self, params: Any) -> Iterator[str]:
        """A batch is of images that are there, its parts are alike; no training is made twice."""
        if len(set(self.again)) < len(self.again):
            yield f"train.again: got {abridged(self.again)}; takes {AGAIN}"
        data, size = params.data, self.batch_size
        images = data.train_images and data.train_images // data.classes * data.classes
        if images is not None and size > images:
            yield f"train.batch_size: got {size}; takes up to {images}, the training images"
        if size % self.accumulate:
            yield (
                f"train.accumulate: got {self.accumulate}; "
                f"takes a divisor of train.batch_size, {size}"
            )
