"""Photographs that lie in a folder per class: referred to, not copied.

Every file is looked at (reading.inspect), none rewritten.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path

from walls.base import messages
from walls.images import reading
from walls.sources.listing import SPLITS, Listing


def photographs(root: Path, seed: int, val_count: int | None) -> Listing:
    """A folder per class, split by the seed.

    `val_count` images of every class to validate on; null: a fifth, or two.

    An image's place in the order is drawn from its name, so that a new image displaces at most one.
    """
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    by_class = images_by_class(root)
    if not by_class:
        raise ValueError(f"data.root: no class folders in {root}; takes CLASS/IMAGE")
    tell_left_out("data.root", [path for key in by_class for path in files_in(root / key)])
    for key, found in by_class.items():
        if not found:
            raise ValueError(f"data.root: {root / key} holds no image; takes CLASS/IMAGE")
        drawn = sorted(found, key=lambda path: _lot(seed, path))
        few = 2 if len(drawn) > 2 else 1  # to validate on: STACK-MIX pairs two
        count = max(few, len(drawn) // 5) if val_count is None else val_count
        if len(drawn) <= count:
            raise ValueError(
                f"data.root: {root / key} holds too few images ({len(drawn)}); "
                f"takes {count} to validate on and one to train on"
            )
        files["val"][key], files["train"][key] = drawn[:count], drawn[count:]
    return Listing(str(root), files, str, lambda key: True, refer)


def _lot(seed: int, path: str) -> bytes:
    """What an image draws: of its class's and its own name."""
    own = "/".join(Path(path).parts[-2:])
    return hashlib.sha256(f"{seed}/{own}".encode(errors="surrogateescape")).digest()


def refer(file: str, place: str, folder: Path) -> str:
    """A photograph where it lies, once it has been looked at."""
    try:
        require_utf8(file)
        if not os.path.isfile(file):  # a pipe would be waited for
            raise ValueError(f"{file}: can't be read (no file, or a link to none); takes an image")
        with open(file, "rb") as opened:
            reading.inspect(opened, file)
    except OSError as error:
        raise ValueError(f"{file}: can't be read ({error.strerror})") from None
    return file


def require_utf8(file: str) -> None:
    """ValueError for a name that the manifest, which is UTF-8, can't hold."""
    try:
        file.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{file!a}: not a name in UTF-8; takes another name") from None


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """The image files of every folder right below one."""
    return {key: images_in(folder / key) for key in subfolders(folder)}


def subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is(entry.is_dir, entry))


def images_in(folder: Path) -> list[str]:
    """Image files; links that lead nowhere are refused by name where they are read."""
    return [path for path in files_in(folder) if path.lower().endswith(reading.IMAGE_FILES)]


def files_in(folder: Path) -> list[str]:
    """Files of any kind, and links that lead to none."""
    return sorted(
        entry.path for entry in _entries(folder) if entry.is_symlink() or _is(entry.is_file, entry)
    )


def tell_left_out(where: str, files: Iterable[str | Path]) -> None:
    """Print how many of these files, but for hidden ones, are of kinds that aren't read."""
    others = [Path(file) for file in files if not str(file).lower().endswith(reading.IMAGE_FILES)]
    endings = Counter(file.suffix.lower() or "no ending" for file in others if file.name[0] != ".")
    if endings:
        kinds = ", ".join(f"{count} {ending}" for ending, count in sorted(endings.items()))
        print(
            messages.shown(f"{where}: left out {endings.total()} files that are not read: {kinds}")
        )


def _is(kind: Callable[[], bool], entry: os.DirEntry) -> bool:
    try:
        return kind()
    except OSError as error:
        raise ValueError(f"data.root: {entry.path} can't be read ({error.strerror})") from None


def _entries(folder: Path) -> list[os.DirEntry]:
    """What lies in a folder and isn't hidden."""
    try:
        with os.scandir(folder) as entries:
            return [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise ValueError(
            f"data.root: {folder} can't be read ({error.strerror}); takes a folder of images"
        ) from None
