"""What others made, taken with care: image files, zips, folders and downloads.

Whatever is wrong with one of them is a ValueError of one line that names it.
"""

import hashlib
import http.client
import os
import re
import tempfile
import urllib.request
import zipfile
import zlib
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError

from walls.progress import track

IMAGE_FILES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
# How a whole file of a format ends, where that can't stand within the pixels.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82"}
LARGEST = 64 * 2**20  # bytes of one member of a zip, unpacked
SWELL = 100  # times its own size that a zip may unpack to; photographs hardly swell at all


def decode(source: str | Path | BinaryIO, name: str | None = None) -> Image.Image:
    """An image file as 8-bit RGB: grey, CMYK and palettes converted, 16 bits scaled, transparency dropped.

    Raises ValueError with the file's name where it is no image, breaks off or is larger than Pillow allows.
    """
    try:
        with Image.open(source) as image:
            return _rgb(image)
    except UnidentifiedImageError:
        reason = "no format that Pillow knows"
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        reason = str(error).split("\n")[0] or type(error).__name__
    raise ValueError(f"{name or source}: not a readable image ({reason})")


def is_plain(path: str | Path) -> bool:
    """Whether a file calls itself an RGB JPEG or PNG."""
    try:
        with Image.open(path) as image:
            return image.format in ("JPEG", "PNG") and image.mode == "RGB"
    except Exception:  # `decode` says what is wrong with it
        return False


def inspect(file: BinaryIO, name: str) -> None:
    """ValueError naming a file that is no image or breaks off; its pixels are decoded only where its end is in doubt.

    The header tells the format, and a file of that format that was written to its end has that format's end: a tenth of
    a millisecond for a photograph of any size. Damage in the middle shows where the image is first used.
    """
    try:
        end = ENDS.get(Image.open(file).format or "")
        file.seek(-len(end or b""), os.SEEK_END)
        whole = end is not None and file.read() == end
    except Exception:
        end, whole = None, False
    if whole:
        return
    file.seek(0)
    decode(file, name)
    file.seek(0)
    # Pillow reads the zeros of a half-written JPEG as pixels; what a camera appends comes after the end.
    if end == ENDS["JPEG"] and end not in file.read():
        raise ValueError(f"{name}: not a readable image (it breaks off)")


def _rgb(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips 16-bit grey at 255, so that it is scaled here."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose scale nobody knows")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


class Zip:
    """A zip's members, named from below the folder that holds `marker`: its top, or a folder there.

    Raises ValueError for what is no zip, has no marker, names a member outside itself or unpacks to far too much.
    """

    def __init__(self, path: Path, marker: str):
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
            raise ValueError(f"data.root: {path} is no readable zip ({error}); takes the public archive") from None
        members = self.file.infolist()
        for member in members:
            if ".." in re.split(r"[/\\]", member.filename) or re.match(r"[/\\]|[A-Za-z]:", member.filename):
                raise ValueError(f"data.root: {path} holds {member.filename}, which leaves the archive; takes another copy")
        size = sum(member.file_size for member in members)
        if size > SWELL * path.stat().st_size:
            raise ValueError(f"data.root: {path} would unpack to {size / 2**20:.0f} MiB, over {SWELL} times its size")
        names = [member.filename for member in members if not member.is_dir()]
        tops = [n[: -len(marker)] for n in names if n.split("/")[-1] == marker and n.count("/") <= 1]
        if not tops:
            raise ValueError(f"data.root: {path} holds no {marker}; takes a zip laid out as the public archive")
        self.top = min(tops, key=len)
        self.names = {name.removeprefix(self.top) for name in names if name.startswith(self.top)}

    def read(self, name: str) -> bytes:
        """A member's bytes; ValueError naming what is missing, damaged, encrypted or too large."""
        try:
            size = self.file.getinfo(self.top + name).file_size
            if size > LARGEST:
                raise ValueError(f"data.root: {name} would unpack to {size / 2**20:.0f} MiB; takes up to {LARGEST >> 20}")
            return self.file.read(self.top + name)
        except (KeyError, RuntimeError, NotImplementedError, EOFError, OSError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"data.root: {name} can't be read from {self.file.filename} ({error})") from None


class Folder:
    """The same of an unpacked folder. `patterns`: what to list; of a fixed depth, so that no link can make a loop."""

    def __init__(self, path: Path, marker: str, patterns: tuple[str, ...]):
        tops = [file.parent for pattern in (marker, f"*/{marker}") for file in sorted(path.glob(pattern))]
        if not tops:
            raise ValueError(f"data.root: {path} holds no {marker}; takes the public archive or its unpacked folder")
        self.top = tops[0]
        found = (file for pattern in patterns for file in self.top.glob(pattern))
        self.names = {file.relative_to(self.top).as_posix() for file in found}

    def read(self, name: str) -> bytes:
        """A file's bytes; ValueError naming one that can't be read."""
        try:
            return (self.top / name).read_bytes()
        except OSError as error:
            raise ValueError(f"data.root: {self.top / name} can't be read ({error.strerror})") from None


def open_tree(path: Path, marker: str, patterns: tuple[str, ...]) -> Zip | Folder:
    """The `Folder` or `Zip` at `path`."""
    return Folder(path, marker, patterns) if path.is_dir() else Zip(path, marker)


def cache() -> Path:
    """The user's cache folder for downloads: `$XDG_CACHE_HOME/see-through-walls`, else below `~/.cache`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "see-through-walls"


def download(url: str, sha256: str, size: int, target: Path) -> Path:
    """`target`, downloaded unless it is there: `size` bytes with that SHA-256, or nothing at all.

    Raises ValueError where the address doesn't answer or gives other bytes.
    """
    if target.is_file() and _sha256(target) == sha256:
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, partial = tempfile.mkstemp(prefix=f"{target.name}.", suffix=".partial", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file, urllib.request.urlopen(url, timeout=60) as source:
            with track(total=size, desc=f"downloading {target.name}", unit="B", unit_scale=True) as bar:
                while (block := source.read(2**20)) and file.tell() <= size:
                    bar.update(file.write(block))
        got = _sha256(Path(partial))
        if got != sha256:
            raise ValueError(f"data.root: {url} gave other bytes than expected: SHA-256 {got}, not {sha256}; "
                             "takes a local copy instead of null")  # fmt: skip
        os.replace(partial, target)
    except (OSError, http.client.HTTPException) as error:
        raise ValueError(f"data.root: {url} can't be downloaded ({error}); takes a local copy instead of null") from None
    finally:
        Path(partial).unlink(missing_ok=True)
    return target


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
