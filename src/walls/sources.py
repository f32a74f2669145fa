"""The image sources: critters, tiny-imagenet, imagenet, folder. Each lists its classes and the files of either split.

    critters        drawn here (critters.py)
    tiny-imagenet   the public archive, downloaded where `data.root` is null, or a local copy, zipped or not
    imagenet        train/WNID/*.JPEG and val/WNID/*.JPEG; val/ may be flat, with WNIDs in the names or with the devkit
    folder          CLASS/*.jpg, split by the seed

Photographs that lie in a folder are referred to, not copied: every file is looked at (archives.inspect), none rewritten.
"""

import hashlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from multiprocessing.pool import ThreadPool
from pathlib import Path

import numpy as np

from walls import archives, critters
from walls.params import Data
from walls.progress import track

TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_SHA256, TINY_BYTES = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821", 248_100_043
# The last of the 398 animals with which ImageNet's sorted classes begin (Section 3.2): the puffer. The abacus follows.
LAST_ANIMAL = "n02655020"
WNID = re.compile(r"n\d{8}")
SPLITS = ("train", "val")
READERS = 8  # threads: most of a file's inspection is waiting for the disk


@dataclass(frozen=True)
class Listing:
    """What a source holds, and how one of its files becomes part of a set."""

    root: str  # what errors call it
    files: dict[str, dict[str, list[str]]]  # split -> class -> its files, in the order in which they are taken
    name: Callable[[str], str]  # class -> what people call it
    animal: Callable[[str], bool]
    take: Callable[[str, str, Path], str]  # file, "SPLIT/CLASS", the set's folder -> path for the manifest


def rows(settings: Data, seed: int, image_size: int, random: np.random.Generator, folder: Path) -> list[tuple]:
    """The manifest's rows (split, label, class, animal, path) of a source, whose images are written below `folder`.

    `random` draws the classes. Raises ValueError, naming the file or folder, where the source can't give what is asked.
    """
    if settings.name == "none":
        return []
    if settings.name == "critters":
        return list(_critters(settings, seed, image_size, folder))
    root = Path(settings.root).expanduser().absolute() if settings.root else None
    if settings.name == "folder":
        listing = photographs(root, seed, settings.val_images and settings.val_images // settings.classes)
    else:
        listing = {"tiny-imagenet": tiny_imagenet, "imagenet": imagenet}[settings.name](root)
    chosen, names = choose(listing, settings, random)

    def take(item: tuple) -> tuple:
        split, label, key, file = item
        return split, label, names[key], listing.animal(key), listing.take(file, f"{split}/{key}", folder)

    with ThreadPool(READERS) as pool:
        taken = pool.imap(take, chosen, chunksize=64)
        return list(track(taken, desc=f"reading {settings.name}", total=len(chosen), unit="image"))


def choose(listing: Listing, settings: Data, random: np.random.Generator) -> tuple[list[tuple], dict[str, str]]:
    """The files of `data.classes` classes: [(split, label, class, file)], and those classes' names, all different.

    Labels follow the sorted classes. Every class gives as many files as any other, or all it has where the number is
    null. Raises ValueError naming a class that is empty, missing from a split or too small.
    """
    root, files = listing.root, listing.files
    classes = sorted(key for key in files["train"] | files["val"] if listing.animal(key) or not settings.animals)
    if len(classes) < settings.classes:
        kind = "animals" if settings.animals else "classes"
        raise ValueError(f"data.classes: got {settings.classes}; takes up to {len(classes)}, all the {kind} of {root}")
    for key in classes:
        for split in SPLITS:
            if not files[split].get(key):
                raise ValueError(f"data.root: {root} has no {split} image of class {key}; takes both splits of every class")
        if len(files["val"][key]) < 2:
            raise ValueError(f"data.root: {root} has one val image of class {key}; takes two, for STACK-MIX to pair")
    drawn = [classes[i] for i in sorted(random.permutation(len(classes))[: settings.classes])]
    chosen = []
    for split, total in (("train", settings.train_images), ("val", settings.val_images)):
        for label, key in enumerate(drawn):
            found = files[split][key]
            count = len(found) if total is None else total // settings.classes
            if len(found) < count:
                raise ValueError(f"data.{split}_images: got {total}, {count} a class; {root} has {len(found)} of {key}")
            chosen += [(split, label, key, file) for file in found[:count]]
    names = [listing.name(key) for key in drawn]
    return chosen, {k: n if names.count(n) == 1 else f"{n} ({k})" for k, n in zip(drawn, names, strict=True)}


def is_animal(wnid: str) -> bool:
    """Whether one of ImageNet's classes is among its 398 animals."""
    return wnid <= LAST_ANIMAL


def tiny_imagenet(root: Path | None) -> Listing:
    """The public archive, downloaded to the user's cache once (null), or a zip or folder laid out as it is."""
    if root is None:
        root = archives.download(TINY_URL, TINY_SHA256, TINY_BYTES, archives.cache() / Path(TINY_URL).name)
    tree = archives.open_tree(root, "words.txt", ("train/*/images/*", "val/images/*"))
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for name in sorted(tree.names):
        parts = name.split("/")
        if len(parts) == 4 and parts[0] == "train" and parts[2] == "images" and WNID.fullmatch(parts[1]):
            files["train"].setdefault(parts[1], []).append(name)
    for line in sorted(_text(tree.read("val/val_annotations.txt"))):
        file, wnid, *_ = [*line.split("\t"), ""]
        if f"val/images/{file}" in tree.names:
            files["val"].setdefault(wnid, []).append(f"val/images/{file}")
    words = _words(_text(tree.read("words.txt")))

    def copy(file: str, place: str, folder: Path) -> str:
        target = folder / "images" / place / Path(file).name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tree.read(file)
        archives.inspect(BytesIO(content), f"{root}, {file}")
        target.write_bytes(content)
        return target.relative_to(folder).as_posix()

    return Listing(str(root), files, lambda wnid: words.get(wnid, wnid), is_animal, copy)


def imagenet(root: Path) -> Listing:
    """ILSVRC2012's standard tree; its validation images in a folder per class, or flat."""
    val = root / "val"
    files = {"train": images_by_class(root / "train")}
    files["val"] = images_by_class(val) if _subfolders(val) else _flat(val, root)
    for split in SPLITS:
        for key in files[split]:
            if not WNID.fullmatch(key):
                raise ValueError(f"data.root: {root / split / key} is no WNID (n and eight digits); takes those, or another "
                                 "data.name")  # fmt: skip
    wnids = sorted(files["train"])
    words = {}
    for file in ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt"):
        if (root / file).is_file():
            words = _words(_text((root / file).read_bytes())) | words
    if len(wnids) == 1000 and not words:
        from torchvision.models import VGG16_Weights

        words = dict(zip(wnids, VGG16_Weights.IMAGENET1K_V1.meta["categories"], strict=True))
    return Listing(str(root), files, lambda wnid: words.get(wnid, wnid), is_animal, _refer)


def photographs(root: Path, seed: int, val_count: int | None) -> Listing:
    """A folder per class, split by the seed: `val_count` images of every class to validate on (null: a fifth, or two).

    An image's place in the order is drawn from its name, so that a new image displaces at most one.
    """
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for key, found in images_by_class(root).items():
        if not found:
            raise ValueError(f"data.root: {root / key} holds no image; takes CLASS/IMAGE")
        drawn = sorted(found, key=lambda path: _lot(seed, path))
        count = max(2, len(drawn) // 5) if val_count is None else val_count
        if len(drawn) <= count:
            raise ValueError(f"data.root: {root / key} holds too few images ({len(drawn)}); takes {count} to validate on "
                             "and one to train on")  # fmt: skip
        files["val"][key], files["train"][key] = drawn[:count], drawn[count:]
    return Listing(str(root), files, str, lambda key: True, _refer)


def _lot(seed: int, path: str) -> bytes:
    """What an image draws: of its class's and its own name."""
    own = "/".join(Path(path).parts[-2:])
    return hashlib.sha256(f"{seed}/{own}".encode(errors="surrogateescape")).digest()


def _critters(settings: Data, seed: int, size: int, folder: Path):
    for split, count in (("train", settings.train_images), ("val", settings.val_images)):
        for path, name in critters.write(folder / "images", split, count, seed, settings.classes, size):
            yield split, critters.SPECIES.index(name), name, True, f"images/{path}"


def _refer(file: str, place: str, folder: Path) -> str:
    """A photograph where it lies, once it has been looked at."""
    try:
        file.encode()  # the manifest is UTF-8
        with open(file, "rb") as opened:
            archives.inspect(opened, file)
    except OSError as error:
        raise ValueError(f"{file}: can't be read ({error.strerror})") from None
    except UnicodeEncodeError:
        raise ValueError(f"{file!a}: not a name in UTF-8; takes another name") from None
    return file


def _flat(val: Path, root: Path) -> dict[str, list[str]]:
    """Validation images without folders, by the WNID in their names (…_n01440764.JPEG), else by the devkit."""
    found: dict[str, list[str]] = {}
    truth = None
    for file in _images(val):
        stem = Path(file).stem
        if match := re.search(r"_(n\d{8})$", stem):
            wnid = match[1]
        else:
            truth = truth or _devkit(root)
            match = re.fullmatch(r"ILSVRC2012_val_(\d{8})", stem)
            if not match or not 1 <= int(match[1]) <= len(truth):
                raise ValueError(f"data.root: {file} is none of the {len(truth)} validation images that the devkit lists")
            wnid = truth[int(match[1]) - 1]
        found.setdefault(wnid, []).append(file)
    return found


def _devkit(root: Path) -> list[str]:
    """The WNIDs of the validation images, in their order, from the devkit below `root`."""
    from scipy.io import loadmat

    name = "ILSVRC2012_validation_ground_truth.txt"
    folders = ("", "data/", "*devkit*/", "*devkit*/data/")
    places = [place for folder in folders for place in sorted(root.glob(folder + name))]
    if not places:
        raise ValueError(f"data.root: {root / 'val'} is flat, its names hold no WNIDs, and {root} holds no {name}; takes "
                         "val/WNID/*.JPEG, or the devkit beside val")  # fmt: skip
    meta = places[0].with_name("meta.mat")
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in np.atleast_1d(synsets)}
        return [wnids[int(line)] for line in places[0].read_text().split()]
    except Exception as error:  # scipy raises what it likes on what is no .mat file
        reason = str(error).split("\n")[0]
        raise ValueError(f"data.root: {meta} and {name} can't be read together ({type(error).__name__}: {reason})") from None


def images_by_class(folder: Path) -> dict[str, list[str]]:
    """The image files of every folder right below one."""
    return {key: _images(folder / key) for key in _subfolders(folder)}


def _subfolders(folder: Path) -> list[str]:
    return sorted(entry.name for entry in _entries(folder) if _is(entry.is_dir, entry))


def _images(folder: Path) -> list[str]:
    """Image files, links included that lead nowhere: those are refused by name where they are read."""
    return sorted(entry.path for entry in _entries(folder) if entry.name.lower().endswith(archives.IMAGE_FILES)
                  and (entry.is_symlink() or _is(entry.is_file, entry)))  # fmt: skip


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
        raise ValueError(f"data.root: {folder} can't be read ({error.strerror}); takes a folder of images") from None


def _text(content: bytes) -> list[str]:
    return content.decode(errors="replace").splitlines()


def _words(lines: list[str]) -> dict[str, str]:
    """{WNID: the first of its words} of lines `WNID words, more words`."""
    found = (re.match(r"(n\d{8})\s+([^,]+)", line) for line in lines)
    return {match[1]: match[2].strip() for match in found if match}
