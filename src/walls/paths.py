"""Where the project lies: the nearest folder above the working directory with a `dvc.yaml`; and what is written whole."""

import os
import shutil
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


@contextmanager
def replaced(folder: Path, *parts: str) -> Iterator[Path]:
    """Replace these files and folders in `folder`, all of them or none: yields a new folder to make them in.

    A part that isn't made there is gone afterwards; whatever else lies in `folder` stays. After an error all is as it was.
    """
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
        folder.mkdir(exist_ok=True)
        for part in reversed(parts):  # the last one lists the others: without it there is none
            if (folder / part).is_dir():
                shutil.rmtree(folder / part)
            else:
                (folder / part).unlink(missing_ok=True)
        for part in parts:
            if (partial / part).exists():
                (partial / part).rename(folder / part)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
