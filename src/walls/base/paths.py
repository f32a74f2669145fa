"""Where the project lies: the nearest folder above the working directory with a `dvc.yaml`."""

from pathlib import Path


def root(start: Path | None = None) -> Path:
    """The project's root as seen from `start` (default: the working directory).

    Papermill, nbval, Jupyter and a copy of the tree each work inside some checkout; this finds
    theirs. Raises FileNotFoundError where no folder above holds `dvc.yaml`.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml in {start} or above it: run this inside the project")


def runs(*parts: str) -> Path:
    """A path below `runs/`, the stages' outputs."""
    return root().joinpath("runs", *parts)
