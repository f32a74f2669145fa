"""Where the project lies: the nearest folder above the working directory that holds `dvc.yaml`; and files written whole."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def root(start: Path | None = None) -> Path:
    """The project's root as seen from `start` (default: the working directory).

    Papermill, nbval, Jupyter and a copy of the tree each work inside some checkout; this finds theirs.
    Raises FileNotFoundError where no folder above holds `dvc.yaml`.
    """
    start = Path(start or Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if (folder / "dvc.yaml").is_file():
            return folder
    raise FileNotFoundError(f"no dvc.yaml in {start} or above it: run this inside the project")


def runs(*parts: str) -> Path:
    """A path below `runs/`, the stages' outputs."""
    return root().joinpath("runs", *parts)


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write `path` whole or not at all: yields the name to write to, which becomes `path` once it is on the disk.

    For whatever outlives a killed run. After an error nothing new is there, and `path` is as it was. Raises OSError,
    naming the file, where the disk is full or the folder takes no file.
    """
    partial = path.with_name(path.name + ".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names none
        raise
    finally:
        with suppress(OSError):  # such as that its folder is a file
            partial.unlink()
