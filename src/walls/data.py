"""Images: every source behind one manifest, one way to read them, one way to augment them.

A source writes `images/SPLIT/CLASS/NAME` below a folder and lists them in `manifest.csv`
(split, label, class, path): everything after it reads the manifest alone.
"""

import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as tf
from tqdm import tqdm

from walls import critters
from walls.params import Data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the paper's network takes them
CROP_AREA = {"critters": (0.6, 1.0), "tiny-imagenet": (0.25, 1.0)}  # share of the image that a training crop keeps
CROP_ASPECT = (0.8, 1.25)


def stream(*key: int | str) -> np.random.Generator:
    """A random generator for one item: the same whatever was drawn before it."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([_number(part) for part in key])))


def build(settings: Data, seed: int, image_size: int, folder: Path) -> pd.DataFrame:
    """Write the source's images below `folder`, and return its manifest.

    Columns: split (train or val), label (0 … classes-1), class (its name), path (relative to `folder`).
    Raises ValueError, naming the file or folder, where the source can't give what is asked.
    """
    if settings.name == "critters":
        rows = list(_critters(settings, seed, image_size, folder))
    else:
        rows = list(_tiny_imagenet(settings, seed, folder))
    manifest = pd.DataFrame(rows, columns=["split", "label", "class", "path"])
    manifest.to_csv(folder / "manifest.csv", index=False, lineterminator="\n")
    return manifest


def read_manifest(folder: Path, split: str | None = None) -> pd.DataFrame:
    """The manifest below `folder`, with absolute paths, of one split or of all."""
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    manifest["path"] = [str(folder / path) for path in manifest["path"]]
    return manifest if split is None else manifest[manifest["split"] == split].reset_index(drop=True)


def read_image(path: str | Path) -> Tensor:
    """An image file as (3, H, W) uint8, grey and CMYK turned to RGB; ValueError naming an unreadable file."""
    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path}: not a readable image ({error})") from None


def fit(image: Tensor, size: int) -> Tensor:
    """(3, H, W) uint8 as (3, size, size): unchanged where it fits, else torchvision's Resize and CenterCrop.

    As the paper's evaluation: the shorter side becomes 256/224 of `size`, then the middle is cut out.
    """
    if image.shape[1:] == (size, size):
        return image
    shorter = round(size * 256 / 224)
    return tf.center_crop(tf.resize(image, [shorter], antialias=True), [size, size])


def normalise(images: Tensor) -> Tensor:
    """uint8 or [0, 1] images as the network takes them: ImageNet's mean and standard deviation."""
    return tf.normalize(tf.to_dtype(images, torch.float32, scale=True), MEAN, STD)


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`, clipped to [0, 1]."""
    mean, std = (torch.tensor(c).reshape(3, 1, 1).to(images) for c in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)


class Images(Dataset):
    """Manifest rows as (image (3, size, size) uint8, label), augmented where a `crop_area` is given.

    Augmentation is random crop and flip, drawn per (seed, epoch, position): the order of reading and the
    number of workers change nothing. Normalise a batch where it is used: on the device, all at once.
    """

    def __init__(self, manifest: pd.DataFrame, size: int, crop_area: tuple | None = None, seed: int = 0):
        self.paths = list(manifest["path"])
        self.labels = list(manifest["label"])
        self.size, self.crop_area, self.seed, self.epoch = size, crop_area, seed, 0

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = read_image(self.paths[index])
        if self.crop_area is None:
            return fit(image, self.size), self.labels[index]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(stream(self.seed, "augment", self.epoch, index).integers(2**63)))
            top, left, height, width = RandomResizedCrop.get_params(image, self.crop_area, CROP_ASPECT)
            flip = bool(torch.rand(()) < 0.5)
        image = tf.resized_crop(image, top, left, height, width, [self.size, self.size], antialias=True)
        return (tf.horizontal_flip(image) if flip else image), self.labels[index]


def loader(images: Images, batch_size: int, workers: int, epoch: int | None = None) -> DataLoader:
    """Batches of `images`: in order, or, given an epoch, shuffled by (seed, epoch) and without an incomplete last one."""
    order = None
    if epoch is not None:
        images.epoch = epoch
        order = stream(images.seed, "shuffle", epoch).permutation(len(images)).tolist()
    return DataLoader(images, batch_size, sampler=order, num_workers=workers, drop_last=order is not None)


def _number(part: int | str) -> int:
    return part if isinstance(part, int) else zlib.crc32(part.encode())


def _critters(settings: Data, seed: int, size: int, folder: Path) -> Iterable[tuple]:
    for split, count in (("train", settings.train_images), ("val", settings.val_images)):
        drawn = critters.write(folder / "images", split, count, seed, settings.classes, size)
        for path, name in drawn:
            yield split, critters.SPECIES.index(name), name, f"images/{path}"


def _tiny_imagenet(settings: Data, seed: int, folder: Path) -> Iterable[tuple]:
    """Tiny-ImageNet's zip or unpacked folder: the same number of each class's first images, sampled classes."""
    root = Path(settings.root).expanduser()
    archive = _Folder(root) if root.is_dir() else _Zip(root)
    names = archive.names()
    words = dict(line.split("\t", 1) for line in archive.lines("words.txt"))
    found: dict[tuple[str, str], list[str]] = {}
    for name in names:
        parts = name.split("/")
        # A class is letters and digits: a name such as .. would leave the folder.
        if len(parts) == 4 and parts[0] == "train" and parts[2] == "images" and parts[1].isalnum():
            found.setdefault(("train", parts[1]), []).append(name)
    for line in archive.lines("val/val_annotations.txt"):
        file, wnid = line.split("\t")[:2]
        if f"val/images/{file}" in names:
            found.setdefault(("val", wnid), []).append(f"val/images/{file}")
    wnids = sorted(wnid for split, wnid in found if split == "train" and ("val", wnid) in found)
    if len(wnids) < settings.classes:
        raise ValueError(f"data.classes: got {settings.classes}; takes up to {len(wnids)}, all that {root} holds")
    chosen = sorted(stream(seed, "classes").permutation(len(wnids))[: settings.classes])
    wanted = []
    for split, total in (("train", settings.train_images), ("val", settings.val_images)):
        for label, wnid in enumerate(wnids[i] for i in chosen):
            files = sorted(found[split, wnid])
            count = total // settings.classes
            if len(files) < count:
                raise ValueError(f"data.{split}_images: got {total}, {count} a class; {root} has {len(files)} of {wnid}")
            wanted += [(split, label, wnid, file) for file in files[:count]]
    for split, label, wnid, file in tqdm(wanted, "reading Tiny-ImageNet", mininterval=1):
        target = folder / "images" / split / wnid / Path(file).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(archive.read(file))
        read_image(target)  # a file that is no image stops the stage here, by name
        yield split, label, words.get(wnid, wnid).split(",")[0], target.relative_to(folder).as_posix()


class _Tree:
    """Tiny-ImageNet's files, named from below its top folder."""

    def lines(self, name: str) -> list[str]:
        """A text file's lines that have columns."""
        return [line for line in self.read(name).decode(errors="replace").splitlines() if "\t" in line]


class _Zip(_Tree):
    """The same in a zip."""

    def __init__(self, path: Path):
        try:
            self.file = zipfile.ZipFile(path)
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"data.root: {path} is no readable zip ({error}); takes tiny-imagenet-200.zip") from None
        self.top = next((n[: -len("words.txt")] for n in self.file.namelist() if n.split("/")[1:] == ["words.txt"]), "")
        if not self.top:
            raise ValueError(f"data.root: {path} holds no words.txt; takes a zip laid out as tiny-imagenet-200.zip")

    def names(self) -> set[str]:
        return {name.removeprefix(self.top) for name in self.file.namelist() if name.startswith(self.top)}

    def read(self, name: str) -> bytes:
        try:
            return self.file.read(self.top + name)
        except (KeyError, RuntimeError, NotImplementedError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise ValueError(f"data.root: {name} can't be read from {self.file.filename} ({error})") from None


class _Folder(_Tree):
    """The same in an unpacked folder."""

    def __init__(self, path: Path):
        self.path = path / "tiny-imagenet-200" if (path / "tiny-imagenet-200").is_dir() else path
        if not (self.path / "words.txt").is_file():
            raise ValueError(f"data.root: {path} holds no words.txt; takes tiny-imagenet-200.zip or its unpacked folder")

    def names(self) -> set[str]:
        return {file.relative_to(self.path).as_posix() for file in self.path.rglob("*") if file.is_file()}

    def read(self, name: str) -> bytes:
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise ValueError(f"data.root: {error.filename} can't be read ({error.strerror})") from None
