"""The section `sweep` of params.yaml."""

from typing import Annotated

from pydantic import Field

from walls.base.fields import Count, Section, takes


class Sweep(Section):
    images: takes("a whole number, 2 or more", Annotated[int, Field(ge=2)])
    epochs: takes("a whole number, 1 or more", Count)
