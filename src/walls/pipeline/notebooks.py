"""Executed notebooks, without what differs from run to run: what git keeps and a reader opens."""

import shutil
from pathlib import Path

import nbformat
from nbconvert.preprocessors import ClearMetadataPreprocessor, CoalesceStreamsPreprocessor
from nbformat import NotebookNode

from walls.base import files, paths

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
WIDGET = "application/vnd.jupyter.widget-view+json"


def stable(notebook: NotebookNode) -> NotebookNode:
    """An executed notebook without times, random ids, progress bars and widgets.

    nbconvert clears the metadata, except the cells' tags, and joins neighbouring prints, which the
    kernel splits by timing.
    """
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if not _passing(output)]
    clear = ClearMetadataPreprocessor(preserve_cell_metadata_mask=["tags"])
    for process in (clear, CoalesceStreamsPreprocessor()):
        notebook, _ = process.preprocess(notebook, {})
    notebook.metadata = {"kernelspec": KERNEL, "language_info": {"name": "python"}}
    for number, cell in enumerate(notebook.cells):
        cell.id = f"cell-{number:02d}"
        tags = cell.metadata.get("tags")
        cell.metadata = {"tags": tags} if tags else {}
        for output in cell.get("outputs", []):
            output.pop("transient", None)
            if "metadata" in output:
                output.metadata = {}
    return nbformat.from_dict(notebook)


def _passing(output: NotebookNode) -> bool:
    """Whether it is only there while the notebook runs: progress on stderr, a widget."""
    return output.get("name") == "stderr" or WIDGET in output.get("data", {})


def write(notebook: NotebookNode, path: Path) -> None:
    """Write a notebook whole or not at all."""
    with files.whole(path) as partial:
        nbformat.write(notebook, partial)


def render(executed: dict[str, Path]) -> None:
    """Copy the last run's executed notebooks to `rendered/`, what a reader opens.

    `executed`: that of every stage that has one. Raises ValueError where one wasn't executed.
    """
    for file in executed.values():
        if not file.is_file():
            raise ValueError(f"runs/ holds no executed {file.stem}; run `dvc repro` first")
    target = paths.root() / "rendered"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir()
    for file in executed.values():
        write(stable(nbformat.read(file, as_version=4)), target / file.name)
