"""Images: every source behind one manifest, one way to read them, one way to augment them.

A source writes `images/SPLIT/CLASS/NAME` below a folder and lists them in `manifest.csv`
(split, label, class, path): everything after it reads the manifest alone.
"""

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_image
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
            if image.format in ("JPEG", "PNG") and image.mode == "RGB":
                # torchvision's decoders: the same pixels, a JPEG's in half the time. Left to Pillow: what they give
                # otherwise (16 bits a channel) and what they refuse.
                with suppress(RuntimeError):
                    pixels = decode_image(str(path))
                    if pixels.dtype == torch.uint8:
                        return pixels
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


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 or [0, 1] images as the network takes them: ImageNet's mean and standard deviation."""
    return tf.normalize(tf.to_dtype(images, dtype, scale=True), MEAN, STD)


def denormalise(images: Tensor) -> Tensor:
    """The inverse of `normalise`, clipped to [0, 1]."""
    mean, std = (torch.tensor(c).reshape(3, 1, 1).to(images) for c in (MEAN, STD))
    return (images * std + mean).clamp(0, 1)


class Images(Dataset):
    """Manifest rows as (image (3, size, size) uint8, label, flip), cropped at random where a `crop_area` is given.

    `images[epoch, position]` draws crop and flip from (seed, epoch, position): the order of reading, the workers and
    the processes change nothing. Photographs differ in size, so a batch exists only after the crop: reading and cropping
    are the workers' part; flip and normalisation are the device's, a whole batch at once (`on_device`).
    """

    def __init__(self, manifest: pd.DataFrame, size: int, crop_area: tuple | None = None, seed: int = 0):
        # Not a list of str: every worker that reads one counts references in it, and so copies its memory page by page.
        self.paths = np.array(list(manifest["path"]), np.dtypes.StringDType())
        self.labels = np.array(manifest["label"], np.int64)
        self.size, self.crop_area, self.seed = size, crop_area, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int, bool]:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        image, label = read_image(self.paths[position]), int(self.labels[position])
        if self.crop_area is None:
            return fit(image, self.size), label, False
        random = stream(self.seed, "augment", epoch, position)
        flip = bool(random.random() < 0.5)
        box = crop_box(random, *image.shape[1:], self.crop_area)
        return tf.resized_crop(image, *box, [self.size, self.size], antialias=True), label, flip


def crop_box(random: np.random.Generator, height: int, width: int, area: tuple[float, float]) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop of a height × width image.

    Drawn as torchvision's RandomResizedCrop does: its share of the image uniform in `area`, the logarithm of its aspect
    uniform in CROP_ASPECT; after ten that don't fit, the middle, as much of it as the aspect allows.
    """
    narrow, wide = CROP_ASPECT
    for _ in range(10):
        pixels = height * width * random.uniform(*area)
        aspect = math.exp(random.uniform(math.log(narrow), math.log(wide)))
        h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    h, w = min(height, round(width / narrow)), min(width, round(height * wide))
    return (height - h) // 2, (width - w) // 2, h, w


def on_device(images: Tensor, flips: Tensor, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    """A loader's (N, 3, H, W) uint8 as the network takes it: flipped where drawn, normalised, channels-last, on the device."""
    images, flips = images.to(device, non_blocking=True), flips.to(device, non_blocking=True)
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    return normalise(images, dtype).contiguous(memory_format=torch.channels_last)


class _Order:
    """Batches of (epoch, position), epoch after epoch: the share of process `rank` in parts of the global batches."""

    def __init__(self, images: Images, batch_size: int, epochs: Iterable[int], rank: int, ranks: int, accumulate: int):
        self.count, self.seed, self.batch_size, self.epochs = len(images), images.seed, batch_size, epochs
        self.rank, self.ranks, self.part = rank, ranks, batch_size // (ranks * accumulate)

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for epoch in self.epochs:
            order = stream(self.seed, "shuffle", epoch).permutation(self.count)
            whole = order[: self.count // self.batch_size * self.batch_size]
            for part in whole.reshape(-1, self.ranks, self.part)[:, self.rank]:
                yield [(epoch, position) for position in part.tolist()]


def loader(
    images: Images,
    batch_size: int,
    workers: int,
    epochs: Iterable[int] | None = None,
    *,
    rank: int = 0,
    ranks: int = 1,
    accumulate: int = 1,
) -> DataLoader:
    """Batches (images, labels, flips), read by `workers` processes.

    Without `epochs`: all images in order, `batch_size` at a time; process r of R gets every R-th, from the r-th on. With:
    each epoch's images shuffled by (seed, epoch), without an incomplete last batch, one epoch's right after the other's,
    so that the workers never stand still; each batch of `batch_size` is cut into `accumulate` parts, and a part into the
    processes' shares: together they see the same batches as one process.
    """
    if epochs is None:
        order: dict = {"batch_size": batch_size, "sampler": range(rank, len(images), ranks)}
    else:
        order = {"batch_sampler": _Order(images, batch_size, epochs, rank, ranks, accumulate)}
    return DataLoader(images, num_workers=workers, pin_memory=torch.cuda.is_available(), **order)


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
