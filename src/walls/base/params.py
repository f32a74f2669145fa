"""The one file a user edits, checked: every key of `params.yaml`, its type and its range.

Each section's schema stands in the `settings.py` of the room that it configures. This module puts
the sections together, and finds the rooms by name: they stand below it.
"""

import os
import warnings
from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, create_model

from walls.base import messages, paths
from walls.base.fields import Section, abridged, takes

# Each section and the room whose settings.py holds a class of that name.
ROOMS = {
    "wall": "training",
    "model": "training",
    "data": "sources",
    "train": "training",
    "stacks": "stacks",
    "cams": "saliency",
    "sweep": "sweep",
    "networks": "sanity",
    "theory": "theory",
}
COLOURS = ("magma", "inferno", "viridis", "cividis", "jet")
LINES = 20  # of errors
RUNNING = "WALLS_STAGE"  # set where a stage's runner has passed a notebook its parameters


class _Top(Section):
    """What stands above the sections."""

    seed: takes("a whole number from 0 to 4294967295", Annotated[int, Field(ge=0, lt=2**32)])
    image_size: takes("a whole number of pixels, 32 to 4096", Annotated[int, Field(ge=32, le=4096)])
    heat: takes("magma, inferno, viridis, cividis or jet", Literal[COLOURS])


SECTIONS: dict[str, type[Section]] = {
    name: getattr(import_module(f"walls.{room}.settings"), name.capitalize())
    for name, room in ROOMS.items()
}
Params = create_model(
    "Params",
    __base__=_Top,
    __doc__="All of params.yaml.",
    **{name: (kind, Field(description="a section")) for name, kind in SECTIONS.items()},
)


def load(path: Path | str | None = None, sections: Iterable[str] | None = None) -> Params:
    """The checked content of a parameter file (default: the project's `params.yaml`).

    Read with DVC's own parser, so that `1e-3`, `yes` and `010` mean what they mean to the pipeline.
    `sections`: those that must also fit the others (default: all); which methods `cams` and
    `networks` may name takes torch to know, and seconds. Raises ValueError: one line per wrong
    field, with its name, what it got and what it takes.
    """
    path = Path(path) if path is not None else paths.root() / "params.yaml"
    return check(read(path), sections)


def read(path: Path) -> object:
    """The content of a parameter file, unchecked; ValueError where it can't be read as YAML."""
    from dvc.utils.serialize import parse_yaml

    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file; takes a params.yaml (see presets/)") from None
    except OSError as error:
        why = error.strerror
        raise ValueError(
            f"{path}: can't be read ({why}); takes a params.yaml (see presets/)"
        ) from None
    try:
        with warnings.catch_warnings(action="ignore"):  # an anchor defined twice
            return parse_yaml(text.decode(), path)
    except Exception as error:  # the parser raises many kinds, as for a 13th month
        raise ValueError(f"{path.name}: not readable as YAML: {_cause(error)}") from None


def by_hand(cell: dict[str, Any]) -> None:
    """Give a notebook that is run by hand the values of params.yaml instead of its own defaults.

    `cell`: its `globals()`, as its parameters cell left them. What changes is printed; a stage's
    runner has passed the values already. Raises ValueError as `load`.
    """
    if RUNNING in os.environ:
        return
    asked = load().model_dump()
    for name, default in list(cell.items()):
        if name not in asked:
            continue
        value = asked[name]
        if isinstance(default, dict):
            value = {key: value[key] for key in default}
        if value != default:
            cell[name] = value
            print(f"{name}: params.yaml's value instead of the parameters cell's")


def check(content: object, sections: Iterable[str] | None = None) -> Params:
    """The checked parameters; ValueError as for `load`."""
    if not isinstance(content, dict):
        sections = ", ".join(Params.model_fields)
        raise ValueError(f"params.yaml: got {abridged(content)}; takes the sections {sections}")
    lines = []
    try:
        params = Params.model_validate(content)
    except ValidationError as error:
        lines = list(dict.fromkeys(_line(item) for item in error.errors()))
    else:
        asked = SECTIONS if sections is None else sections
        lines = [line for name in asked for line in getattr(params, name).conflicts(params)]
    if len(lines) > LINES:
        lines[LINES:] = [f"params.yaml: {len(lines) - LINES} more errors; takes what presets/ show"]
    if lines:
        raise ValueError("\n".join(lines))
    return params


def _line(item: dict) -> str:
    """One pydantic error as one line."""
    where = tuple(part for part in item["loc"] if isinstance(part, str) and part in _names())
    if item["type"] in ("extra_forbidden", "invalid_key"):
        return _unknown(item["loc"])
    missing = item["type"] == "missing"
    got = "nothing (the key is missing)" if missing else abridged(item["input"])
    taken = _described(where)
    too_large = item["type"] == "less_than_equal" and " to " not in taken
    most = f", up to {item['ctx']['le']:,}" if too_large else ""
    return f"{'.'.join(where)}: got {got}; takes {taken}{most}"


def _unknown(where: tuple) -> str:
    """The line for a key that isn't one."""
    *section, key = where[: 2 if where[0] in SECTIONS else 1]
    known = list((SECTIONS[section[0]] if section else Params).model_fields)
    close = get_close_matches(str(key), known, 1)
    hint = f"did you mean {close[0]}?" if close else f"takes {', '.join(known)}"
    plain = str(key).isprintable() and 0 < len(str(key).strip()) <= 80
    return f"{'.'.join(map(str, (*section, key if plain else abridged(key))))}: unknown key; {hint}"


def _names() -> set[str]:
    return {name for section in (Params, *SECTIONS.values()) for name in section.model_fields}


def _described(where: tuple[str, ...]) -> str:
    if len(where) == 1 and where[0] in SECTIONS:
        return "a section with " + ", ".join(SECTIONS[where[0]].model_fields)
    owner: Any = SECTIONS[where[0]] if len(where) > 1 else Params
    return owner.described(where[-1])


def _cause(error: BaseException) -> str:
    """The innermost reason of a parser's error, on one line, with the line it stands on."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.object[error.start]} in place {error.start} is not UTF-8"
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error) or type(error).__name__
    problem = messages.shown(problem.split("\n")[0][:200])
    if "duplicate key" in problem:
        problem = "repeated key " + problem.split('"')[1] + "; takes each key once"
    return f"{problem} (line {mark.line + 1})" if mark else problem
