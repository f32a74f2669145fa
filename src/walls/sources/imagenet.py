"""ImageNet's standard tree, and Tiny-ImageNet's public archive."""

import re
from io import BytesIO
from pathlib import Path

import numpy as np

from walls.images import reading
from walls.sources import archives, folders
from walls.sources.listing import SPLITS, Listing

TINY_URL = "http://cs231n.stanford.edu/tiny-imagenet-200.zip"
TINY_SHA256 = "6198c8ae015e2b3e007c7841da39ec069199b9aa3bfa943a462022fe5e43c821"
TINY_BYTES = 248_100_043
# The last of the 398 animals with which ImageNet's sorted classes begin (Section 3.2): the puffer.
LAST_ANIMAL = "n02655020"
WNID = re.compile(r"n\d{8}")


def is_animal(wnid: str) -> bool:
    """Whether one of ImageNet's classes is among its 398 animals."""
    return wnid <= LAST_ANIMAL


def tiny_imagenet(root: Path | None) -> Listing:
    """The public archive, downloaded to the user's cache once (null).

    With a `root`, a zip or folder laid out as the archive is.
    """
    if root is None:
        root = archives.download(
            TINY_URL, TINY_SHA256, TINY_BYTES, archives.cache() / Path(TINY_URL).name
        )
    tree = archives.open_tree(root, "words.txt", ("train/*/images/*", "val/images/*"))
    files: dict[str, dict[str, list[str]]] = {split: {} for split in SPLITS}
    for name in sorted(tree.names):
        parts = name.split("/")
        if (
            len(parts) == 4
            and parts[0] == "train"
            and parts[2] == "images"
            and WNID.fullmatch(parts[1])
        ):
            files["train"].setdefault(parts[1], []).append(name)
    for line in sorted(_text(tree.read("val/val_annotations.txt"))):
        file, wnid, *_ = [*line.split("\t"), ""]
        if f"val/images/{file}" in tree.names:
            files["val"].setdefault(wnid, []).append(f"val/images/{file}")
    words = _words(_text(tree.read("words.txt")))

    def copy(file: str, place: str, folder: Path) -> str:
        folders.require_utf8(f"{root}/{file}")
        target = folder / "images" / place / Path(file).name
        target.parent.mkdir(parents=True, exist_ok=True)
        content = tree.read(file)
        reading.inspect(BytesIO(content), f"{root}, {file}")
        try:
            target.write_bytes(content)
        except OSError as error:
            raise ValueError(
                f"data.root: {file[:200]} can't be written ({error.strerror})"
            ) from None
        return target.relative_to(folder).as_posix()

    return Listing(str(root), files, lambda wnid: words.get(wnid, wnid), is_animal, copy)


def imagenet(root: Path) -> Listing:
    """ILSVRC2012's standard tree; its validation images in a folder per class, or flat."""
    val = root / "val"
    files = {"train": folders.images_by_class(root / "train")}
    files["val"] = (
        folders.images_by_class(val) if folders.subfolders(val) else _flat_validation(val, root)
    )
    for split in SPLITS:
        for key in files[split]:
            if not WNID.fullmatch(key):
                raise ValueError(
                    f"data.root: {root / split / key} is no WNID (n and "
                    "eight digits); takes those, or another data.name"
                )
    wnids = sorted(files["train"])
    words = {}
    for file in ("synset_words.txt", "LOC_synset_mapping.txt", "words.txt"):
        if (root / file).is_file():
            words = _words(_text((root / file).read_bytes())) | words
    if len(wnids) == 1000 and not words:
        from torchvision.models import VGG16_Weights

        words = dict(zip(wnids, VGG16_Weights.IMAGENET1K_V1.meta["categories"], strict=True))
    return Listing(str(root), files, lambda wnid: words.get(wnid, wnid), is_animal, folders.refer)


def _flat_validation(val: Path, root: Path) -> dict[str, list[str]]:
    """Validation images without folders.

    Their class is the WNID in their names (…_n01440764.JPEG), else the devkit's.
    """
    found: dict[str, list[str]] = {}
    truth = None
    for file in folders.images_in(val):
        stem = Path(file).stem
        if match := re.search(r"_(n\d{8})$", stem):
            wnid = match[1]
        else:
            truth = truth or _devkit(root)
            match = re.fullmatch(r"ILSVRC2012_val_(\d{8})", stem)
            if not match or not 1 <= int(match[1]) <= len(truth):
                raise ValueError(
                    f"data.root: {file} is none of the {len(truth)} "
                    "validation images that the devkit lists"
                )
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
        raise ValueError(
            f"data.root: {root / 'val'} is flat, its names hold no WNIDs, and {root} "
            f"holds no {name}; takes val/WNID/*.JPEG, or the devkit beside val"
        )
    meta = places[0].with_name("meta.mat")
    try:
        synsets = loadmat(meta, squeeze_me=True)["synsets"]
        wnids = {
            int(synset["ILSVRC2012_ID"]): str(synset["WNID"]) for synset in np.atleast_1d(synsets)
        }
        return [wnids[int(line)] for line in places[0].read_text().split()]
    except Exception as error:  # scipy raises many kinds for what is no .mat file
        reason = str(error).split("\n")[0][:200]
        raise ValueError(
            f"data.root: {meta} and {name} can't be read "
            f"together ({type(error).__name__}: {reason})"
        ) from None


def _text(content: bytes) -> list[str]:
    return content.decode(errors="replace").splitlines()


def _words(lines: list[str]) -> dict[str, str]:
    """{WNID: the first of its words} of lines `WNID words, more words`."""
    found = (re.match(r"(n\d{8})\s+([^,]+)", line) for line in lines)
    return {match[1]: match[2].strip() for match in found if match}
