"""The rooms of src/walls: what imports what."""

import ast
import re

import pytest
from conftest import ROOT

WALLS = ROOT / "src" / "walls"
# A room imports only rooms that stand before it.
ROOMS = (
    "base",
    "network",
    "images",
    "figures",
    "saliency",
    "sanity",
    "sources",
    "stacks",
    "training",
    "theory",
    "sweep",
    "paper",
    "pipeline",
    "project",
)
MODULES = sorted(file for file in WALLS.rglob("*.py") if file.parent != WALLS)


def rooms_of(file):
    """The rooms that a module imports from, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        found |= {name.split(".")[1] for name in names if name.startswith("walls.")}
    return found


def test_every_module_stands_in_a_room():
    assert {file.name for file in WALLS.glob("*.py")} == {"__init__.py", "__main__.py"}
    assert {file.parent.name for file in WALLS.glob("*/__init__.py")} <= set(ROOMS)


@pytest.mark.parametrize("file", MODULES, ids=lambda file: f"{file.parent.name}.{file.stem}")
def test_no_arrow_points_against_the_list(file):
    own = ROOMS.index(file.relative_to(WALLS).parts[0])
    assert [room for room in rooms_of(file) if ROOMS.index(room) > own] == []


def test_no_two_modules_import_each_other():
    arrows = {}
    for file in MODULES:
        name = ".".join(("walls", *file.relative_to(WALLS).with_suffix("").parts))
        body = ast.parse(file.read_text()).body  # what is imported when it is used makes no circle
        arrows[name] = {
            imported
            for node in body
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("walls")
            for imported in (node.module, *(f"{node.module}.{alias.name}" for alias in node.names))
        }
    left = dict(arrows)
    while left:
        free = [name for name, wanted in left.items() if not wanted & (left.keys() - {name})]
        assert free, f"a circle among {sorted(left)}"
        for name in free:
            del left[name]


@pytest.mark.parametrize("room", [path.parent.name for path in sorted(WALLS.glob("*/__init__.py"))])
def test_a_room_says_what_lives_there_and_what_may_not(room):
    text = ast.get_docstring(ast.parse((WALLS / room / "__init__.py").read_text()))
    assert text and re.search(r"\bnot\b|\bnothing\b|\bnever\b|\bno\b", text, re.IGNORECASE), room
