"""The fields of a section of params.yaml: strict, each with the words that say what it takes."""

import os
import reprlib
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

Count = Annotated[int, Field(ge=1, le=10**9)]
Million = Annotated[int, Field(ge=1, le=10**6)]
Rate = Annotated[float, Field(ge=0, lt=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


def _on_one_line(text: str) -> str:
    """Itself; ValueError for what can't stand in a line of an error, nor sensibly in a path."""
    if not text.isprintable():
        raise ValueError
    return text


Text = Annotated[str, Field(min_length=1, max_length=4096), AfterValidator(_on_one_line)]


def takes(text: str, kind) -> object:
    """A field's type together with the words that say what it takes."""
    return Annotated[kind, Field(description=text)]


class Section(BaseModel):
    """A section of params.yaml. Strict: no key beyond the listed, no number from a string."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    def conflicts(self, params: Any) -> Iterator[str]:
        """One line for every value here that conflicts with another of `params`."""
        yield from ()

    @classmethod
    def described(cls, key: str) -> str:
        """What a key takes, in words."""
        return cls.model_fields[key].description or ""


def home(path: str) -> str:
    """A path, its `~` expanded.

    os.path asks about it, not pathlib, which raises for a home that nobody has.
    """
    return os.path.expanduser(path)


def abridged(value: object) -> str:
    """A value within a line, however large."""
    try:
        return _SHORT.repr(value)[:80]
    except ValueError:  # Python's own limit
        return "a number of thousands of digits"


_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxdict = 2, 8, 8
_SHORT.maxstring, _SHORT.maxother = 80, 80
