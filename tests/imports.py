"""What a notebook or module imports from `walls`, transitively."""

import ast
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def imported(source: str) -> set[str]:
    """Modules of `walls` that Python source names."""
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and node.module == "walls":
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("walls."):
            names.add(node.module.split(".")[1])
    return {name for name in names if (ROOT / "src" / "walls" / f"{name}.py").is_file()}


def notebook_source(path: Path) -> str:
    """All code of a notebook."""
    cells = json.loads(path.read_text())["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def closure(path: Path) -> set[str]:
    """`src/walls/X.py` of every module that a notebook or module needs, transitively."""
    source = notebook_source(path) if path.suffix == ".ipynb" else path.read_text()
    found, new = set(), imported(source)
    while new:
        found |= new
        new = set().union(*(imported((ROOT / "src" / "walls" / f"{name}.py").read_text()) for name in new)) - found
    return {f"src/walls/{name}.py" for name in found}
