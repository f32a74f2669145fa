"""A part of Tiny-ImageNet that is small enough to travel to a machine without a network.

The public archive stores every JPEG as it is, each with the same 600 bytes of tables before some
1,400 of its own, so that a zip of it can't be made smaller. Here a zip of some of its classes, laid
out as the public one, is compressed as a whole (.xz), which finds those tables: it is a third
smaller, and of the same bytes once unpacked.
"""

import lzma
import shutil
import zipfile
from collections.abc import Iterable
from io import BytesIO
from pathlib import Path

from walls.sources import imagenet

TOP = "tiny-imagenet-200/"
ANNOTATIONS, WORDS, WNIDS = (
    TOP + name for name in ("val/val_annotations.txt", "words.txt", "wnids.txt")
)


def make(source: Path, target: Path, megabytes: float, first: Iterable[str] = ()) -> list[str]:
    """Write to `target` (.zip.xz) as many animal classes of `source` as `megabytes` (10⁶) hold.

    Whole classes, sorted by their WNIDs, those of `first` before the others. Returns them. Raises
    ValueError where not two classes fit.
    """
    with zipfile.ZipFile(source) as public:
        members = _members(public)
        first = set(first)
        left, chosen = megabytes * 1e6, []
        for wnid in sorted(members, key=lambda key: (key not in first, key)):
            # A class compressed alone takes a little more than among the others.
            left -= len(lzma.compress(_zipped(public, {wnid: members[wnid]})))
            if left < 0:
                break
            chosen.append(wnid)
        if len(chosen) < 2:
            raise ValueError(
                f"megabytes: got {megabytes:g}, which hold {len(chosen)} classes of {source}; "
                "takes two or more"
            )
        content = _zipped(public, {wnid: members[wnid] for wnid in sorted(chosen)})
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(lzma.compress(content, preset=9))
    return sorted(chosen)


def unpack(packed: Path, target: Path) -> Path:
    """The zip in a file of `make`, at `target`, as the source tiny-imagenet reads it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with lzma.open(packed) as source, open(target, "wb") as file:
        shutil.copyfileobj(source, file, 2**20)
    return target


def photographs(source: Path, target: Path, packed: Path) -> dict[str, int]:
    """Copy from a zip (…/WNID/*.JPEG) the photographs of the classes that `packed` holds.

    Of a class with two or more; written as WNID/*.JPEG below `target`, as `stacks.photos` takes
    them. Returns how many of each class.
    """
    with lzma.open(packed) as file, zipfile.ZipFile(BytesIO(file.read())) as made:
        wanted = set(made.read(WNIDS).decode().split())
    with zipfile.ZipFile(source) as given:
        found = by_class(given, wanted)
        for wnid, names in found.items():
            folder = target / wnid
            folder.mkdir(parents=True, exist_ok=True)
            for name in names:
                (folder / Path(name).name).write_bytes(given.read(name))
    return {wnid: len(names) for wnid, names in found.items()}


def by_class(given: zipfile.ZipFile, wanted: Iterable[str] | None = None) -> dict[str, list[str]]:
    """The images of a zip by the folder they lie in, of the classes of which it has two or more."""
    found: dict[str, list[str]] = {}
    for name in sorted(given.namelist()):
        wnid = Path(name).parent.name
        if name.lower().endswith((".jpeg", ".jpg")) and (wanted is None or wnid in wanted):
            found.setdefault(wnid, []).append(name)
    return {wnid: names for wnid, names in found.items() if len(names) > 1}


def _members(public: zipfile.ZipFile) -> dict[str, list[str]]:
    """The image files of every animal class, of either split."""
    members: dict[str, list[str]] = {}
    for name in sorted(public.namelist()):
        parts = name.split("/")
        if (
            len(parts) == 5
            and parts[1] == "train"
            and parts[3] == "images"
            and imagenet.is_animal(parts[2])
        ):
            members.setdefault(parts[2], []).append(name)
    for line in public.read(ANNOTATIONS).decode().splitlines():
        file, wnid, *_ = line.split("\t")
        if wnid in members:
            members[wnid].append(f"{TOP}val/images/{file}")
    return members


def _zipped(public: zipfile.ZipFile, members: dict[str, list[str]]) -> bytes:
    """An uncompressed zip, without times, of these classes' images and lines."""
    annotations = [
        line
        for line in public.read(ANNOTATIONS).decode().splitlines()
        if line.split("\t")[1] in members
    ]
    words = [
        line for line in public.read(WORDS).decode().splitlines() if line.split("\t")[0] in members
    ]
    texts = {ANNOTATIONS: annotations, WORDS: words, WNIDS: list(members)}
    content = BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as made:
        for name in (name for names in members.values() for name in names):
            made.writestr(zipfile.ZipInfo(name), public.read(name))
        for name, lines in texts.items():
            made.writestr(zipfile.ZipInfo(name), "".join(f"{line}\n" for line in lines))
    return content.getvalue()
