"""Files written whole or not at all, and the same bytes on every system."""

import csv
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from walls.base.messages import shown

if TYPE_CHECKING:
    import pandas as pd


def write_json(content: object, path: Path) -> None:
    """Indented by one, as it is read in a diff, with a final newline."""
    path.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def write_csv(
    table: "pd.DataFrame", path: Path, digits: int | None = None, index: bool = False
) -> None:
    """With \\n as line ends; numbers with `digits` decimals (None: all there are)."""
    form = None if digits is None else f"%.{digits}f"
    table.to_csv(path, index=index, float_format=form, lineterminator="\n")


def read_rows(path: Path, columns: Sequence[str]) -> list[tuple[int, list[str]]]:
    """The rows of a CSV that a person edits, each with the number of its line.

    Raises ValueError, naming the file, the line and what is right, for another encoding than UTF-8,
    another first line than `columns`, and a row of more or fewer values.
    """
    takes = f"takes {', '.join(columns)}"
    try:
        lines = path.read_bytes().decode("utf-8-sig").splitlines(keepends=True)
    except UnicodeDecodeError as error:
        number = error.object[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{path.name}, line {number}: not UTF-8; takes a file saved as UTF-8"
        ) from None
    reader = csv.reader(lines, strict=True)
    rows = []
    try:
        for values in reader:
            rows.append((reader.line_num, values))
    except csv.Error as error:
        raise ValueError(f"{path.name}, line {reader.line_num}: {error}; takes a CSV") from None
    rows = [(line, values) for line, values in rows if values]
    if not rows:
        raise ValueError(f"{path.name}: empty; takes a first line {','.join(columns)}")
    if rows[0][1] != list(columns):
        raise ValueError(f"{path.name}: got columns {shown(', '.join(rows[0][1])[:200])}; {takes}")
    for line, values in rows[1:]:
        if len(values) != len(columns):
            raise ValueError(
                f"{path.name}, line {line}: got {len(values)} values; {takes}, "
                "and quotes around a text with a comma"
            )
    return rows[1:]


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Write `path` whole or not at all.

    Yields the name to write to, which becomes `path` once it is on the disk.

    For whatever outlives a killed run. After an error nothing new is there, and `path` is as it
    was. Raises OSError, naming the file, where the disk is full or the folder takes no file.
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
    """Replace these files and folders in `folder`, all of them or none.

    Yields a new folder to make them in.

    A part that isn't made there is gone afterwards; whatever else lies in `folder` stays. After an
    error all is as it was.
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
