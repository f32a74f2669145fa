"""What a notebook or module imports from `walls`, transitively."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = ROOT / "src"


def imported(source: str) -> set[str]:
    """Modules of `walls` that Python source names, as paths below src/, wherever in it they stand."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "walls":
            names.add(node.module)
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names if alias.name.startswith("walls.")}
    files = {f"{name.replace('.', '/')}.py" for name in names}
    return {file for file in files if (SOURCE / file).is_file()}


def notebook_source(path: Path) -> str:
    """All code of a notebook."""
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def closure(*paths: Path) -> set[str]:
    """`src/walls/ROOM/MODULE.py` of every module that notebooks or modules need, transitively."""
    found: set[str] = set()
    new: set[str] = set()
    for path in paths:
        new |= imported(notebook_source(path) if path.suffix == ".ipynb" else path.read_text())
    while new:
        found |= new
        new = set().union(*(imported((SOURCE / file).read_text()) for file in new)) - found
    return {f"src/{file}" for file in found}
