"""Zips, folders and downloads, taken with care.

Whatever is wrong with one of them is a ValueError of one line that names it.
"""

import hashlib
import http.client
import os
import re
import tempfile
import urllib.request
import zipfile
from pathlib import Path

from walls.base.messages import reason, shown
from walls.base.progress import track

LARGEST = 64 * 2**20  # bytes of one member of a zip, unpacked
SWELL = 100  # times its own size that a zip may unpack to; photographs hardly swell at all


class Zip:
    """A zip's members, named from below the folder that holds `marker`: its top, or a folder there.

    Raises ValueError for what is no zip, has no marker, names a member outside itself or unpacks to
    far too much.
    """

    def __init__(self, path: Path, marker: str):
        try:
            if not path.is_file():
                raise ValueError("no file")
            self.file = zipfile.ZipFile(path)
        except Exception as error:  # a damaged file makes zipfile raise nearly anything
            raise ValueError(
                f"data.root: {path} is no readable zip ({reason(error)}); takes the public archive"
            ) from None
        members = self.file.infolist()
        for member in members:
            if ".." in re.split(r"[/\\]", member.filename) or re.match(
                r"[/\\]|[A-Za-z]:", member.filename
            ):
                raise ValueError(
                    f"data.root: {path} holds {shown(member.filename)[:200]}, "
                    "which leaves the archive; takes another copy"
                )
        size = sum(member.file_size for member in members)
        if size > SWELL * path.stat().st_size:
            raise ValueError(
                f"data.root: {path} would unpack to "
                f"{size / 2**20:.0f} MiB, over {SWELL} times its size"
            )
        names = [member.filename for member in members if not member.is_dir()]
        tops = [
            n[: -len(marker)] for n in names if n.split("/")[-1] == marker and n.count("/") <= 1
        ]
        if not tops:
            raise ValueError(
                f"data.root: {path} holds no {marker}; takes a zip laid out as the public archive"
            )
        self.top = min(tops, key=len)
        self.names = {name.removeprefix(self.top) for name in names if name.startswith(self.top)}

    def read(self, name: str) -> bytes:
        """A member's bytes; ValueError naming what is missing, damaged, encrypted or too large."""
        try:
            size = self.file.getinfo(self.top + name).file_size
            if size > LARGEST:
                raise ValueError(
                    f"it would unpack to {size / 2**20:.0f} MiB; takes up to {LARGEST >> 20}"
                )
            return self.file.read(self.top + name)
        except Exception as error:  # a damaged member makes the decoders raise nearly anything
            where = f"{shown(name)[:200]} can't be read from {self.file.filename}"
            raise ValueError(f"data.root: {where} ({reason(error)}); takes another copy") from None


class Folder:
    """The same of an unpacked folder.

    `patterns`: what to list, of a fixed depth, so that no link can make a loop.
    """

    def __init__(self, path: Path, marker: str, patterns: tuple[str, ...]):
        tops = [
            file.parent
            for pattern in (marker, f"*/{marker}")
            for file in sorted(path.glob(pattern))
        ]
        if not tops:
            raise ValueError(
                f"data.root: {path} holds no {marker}; takes "
                "the public archive or its unpacked folder"
            )
        self.top = tops[0]
        found = (file for pattern in patterns for file in self.top.glob(pattern))
        self.names = {file.relative_to(self.top).as_posix() for file in found}

    def read(self, name: str) -> bytes:
        """A file's bytes; ValueError naming one that can't be read."""
        file = self.top / name
        try:
            if not file.is_file() or file.stat().st_size > LARGEST:  # a pipe would be waited for
                raise ValueError(f"no file of up to {LARGEST >> 20} MiB")
            return file.read_bytes()
        except (OSError, ValueError) as error:
            raise ValueError(f"data.root: {shown(file)} can't be read ({reason(error)})") from None


def open_tree(path: Path, marker: str, patterns: tuple[str, ...]) -> Zip | Folder:
    """The `Folder` or `Zip` at `path`."""
    return Folder(path, marker, patterns) if path.is_dir() else Zip(path, marker)


def cache() -> Path:
    """The user's cache folder for downloads.

    `$XDG_CACHE_HOME/see-through-walls`, else below `~/.cache`.
    """
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "see-through-walls"


def download(url: str, sha256: str, size: int, target: Path) -> Path:
    """`target`, downloaded unless it is there: `size` bytes with that SHA-256, or nothing at all.

    Raises ValueError where the address doesn't answer or gives other bytes.
    """
    if target.is_file() and _sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(
        prefix=f"{target.name}.", suffix=".partial", dir=target.parent
    )
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=60) as source:
            with track(
                total=size, desc=f"downloading {target.name}", unit="B", unit_scale=True
            ) as bar:
                while (block := source.read(2**20)) and file.tell() <= size:
                    bar.update(file.write(block))
        got = _sha256(Path(partial))
        if got != sha256:
            raise ValueError(
                f"data.root: {url} gave other bytes than expected: SHA-256 {got}, not {sha256}; "
                "takes a local copy instead of null"
            )
        os.replace(partial, target)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(
            f"data.root: {url} can't be downloaded ({error}); takes a local copy instead of null"
        ) from None
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
