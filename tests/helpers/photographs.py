"""Other people's photographs, made up: files, archives and trees laid out as theirs."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from walls.images import reading
from walls.sources.manifest import build
from walls.sources.settings import Data

ALL = {"train_images": None, "val_images": None}
WNIDS = [
    "n00000000",
    "n00000001",
    "n02655020",
    "n02666196",
]  # the last animal of ImageNet, and the class after it


def settings(name, root=None, **changes):
    base = {"animals": False, "classes": 3, "train_images": 9, "val_images": 6}
    return Data(name=name, root=str(root) if root else None, **(base | changes))


def picture(value=(9, 9, 9), mode="RGB", kind="JPEG", size=(64, 64)):
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind)
    return buffer.getvalue()


def photograph(seed=0, kind="JPEG"):
    """An image that takes some bytes."""
    buffer = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(seed).integers(0, 256, (96, 128, 3), dtype=np.uint8)
    ).save(buffer, kind)
    return buffer.getvalue()


def put(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def grey(path):
    """Which class an image was made for: those of class i are of the grey 40·i."""
    return round(float(reading.read_image(path)[0].float().mean()) / 40)


def tiny(file, train=5, val=2, extra=()):
    """A zip laid out as the public one, directory entries included."""
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("tiny-imagenet-200/", "")
        archive.writestr(
            "tiny-imagenet-200/words.txt",
            "".join(f"{w}\tanimal {i}, beast\n" for i, w in enumerate(WNIDS)),
        )
        lines = []
        for i, wnid in enumerate(WNIDS):
            archive.writestr(f"tiny-imagenet-200/train/{wnid}/images/", "")
            for j in range(train):
                archive.writestr(
                    f"tiny-imagenet-200/train/{wnid}/images/{wnid}_{j}.JPEG",
                    picture((40 * i, 10 * j, 0)),
                )
            for j in range(val):
                archive.writestr(
                    f"tiny-imagenet-200/val/images/val_{i}_{j}.JPEG", picture(40 * i, "L")
                )
                lines.append(f"val_{i}_{j}.JPEG\t{wnid}\t0\t0\t62\t62\n")
        archive.writestr("tiny-imagenet-200/val/val_annotations.txt", "".join(lines))
        for name, content in extra:
            archive.writestr(name, content)
    return file


def tree(root, splits=("train", "val"), classes=WNIDS, count=4):
    """ImageNet's standard tree; with `splits=("",)`, a plain folder per class."""
    for split in splits:
        for i, key in enumerate(classes):
            for j in range(count):
                put(root / split / key / f"{split}_{i}_{j}.JPEG", picture((40 * i, 0, 0)))
    return root


def refused(tmp_path, message, wanted, seed=0):
    """Building says so in one line, and leaves nothing behind."""
    (tmp_path / "nothing").mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message) as error:
        build(wanted, seed, 224, tmp_path / "nothing" / "set")
    assert "\n" not in str(error.value) and not list((tmp_path / "nothing").iterdir())
