"""The section `stacks` of params.yaml."""

import os
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from walls.base.fields import Section, Text, home, takes
from walls.sources.kinds import SOURCES


class Stacks(Section):
    """The two datasets of stacked images."""

    images: takes("a whole number, 2 or more", Annotated[int, Field(ge=2, le=10**6)])
    mix_dir: takes("a folder of ready STACK-MIX images, or null to build them", Text | None)
    gen_dir: takes("a folder of ready STACK-GEN images, or null to draw them", Text | None)
    generator: takes(
        "critters, diffusers, folder (the images of "
        "gen_dir), or null where the images have no generator",
        Literal["critters", "diffusers", "folder"] | None,
    )
    model: takes(
        "a text-to-image model's Hugging Face name or "
        "folder with the generator diffusers, else null",
        Text | None,
    ) = None
    photos: takes(
        "a folder CLASS/*.jpg of photographs to cut "
        "STACK-MIX from, for the classes it holds, or null",
        Text | None,
    ) = None

    def conflicts(self, params: Any) -> Iterator[str]:
        """What the images, or another key, rule out."""
        name = params.data.name
        empty = SOURCES[name].empty
        if empty and self.mix_dir is None:
            yield (
                "stacks.mix_dir: got null; takes a folder of ready "
                f"images with data.name {name}, which has none to cut"
            )
        if self.photos is not None and self.mix_dir is not None:
            yield (
                f"stacks.photos: got {self.photos}; takes null "
                "with stacks.mix_dir, whose images are ready"
            )
        for key in ("mix_dir", "gen_dir", "photos"):
            folder = getattr(self, key)
            if folder is not None and not os.path.isdir(home(folder)):
                yield (
                    f"stacks.{key}: got {folder}, which is no folder; takes {self.described(key)}"
                )
        if self.generator == "critters" and name != "critters":
            others = "folder or null" if empty else "diffusers, folder or null"
            yield (
                f"stacks.generator: got critters; takes {others} "
                f"with {name}, whose classes it can't draw"
            )
        if self.generator == "folder" and self.gen_dir is None:
            yield (
                "stacks.gen_dir: got null; takes a folder of "
                "ready STACK-GEN images with the generator folder"
            )
        yield from self._text_to_image(name, empty)

    def _text_to_image(self, name: str, empty: bool) -> Iterator[str]:
        if self.generator != "diffusers":
            if self.model is not None:
                generator = self.generator or "null"
                yield (
                    f"stacks.model: got {self.model}; takes null with the generator {generator}, "
                    "and a model with diffusers"
                )
            return
        if empty:
            yield (
                f"stacks.generator: got diffusers; takes folder or null with data.name {name}, "
                "which has no classes to name"
            )
        if self.model is None:
            yield f"stacks.model: got null; takes {self.described('model')}"
        if self.gen_dir is not None:
            yield (
                f"stacks.gen_dir: got {self.gen_dir}; takes null with "
                "the generator diffusers, which draws the images"
            )
