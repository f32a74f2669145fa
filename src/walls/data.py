"""Images: every source behind one manifest, one way to read them, one way to augment them.

A source (sources.py) lists its images in `manifest.csv` (split, label, class, animal, path), and writes those that lie
nowhere yet below the manifest's folder: everything after it reads the manifest alone.
"""

import math
import os
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.io import decode_image
from torchvision.transforms.v2 import functional as tf

from walls import archives, paths, sources
from walls.params import Data

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as the paper's network takes them
# Share of the image that a training crop keeps; imagenet's is the paper's. None: nothing to train on.
CROP_AREA = {"critters": (0.6, 1.0), "tiny-imagenet": (0.25, 1.0), "folder": (0.25, 1.0), "imagenet": (0.1, 1.0),
             "none": None}  # fmt: skip
CROP_ASPECT = (0.8, 1.25)


def stream(*key: int | str) -> np.random.Generator:
    """A random generator for one item: the same whatever was drawn before it."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([_number(part) for part in key])))


def build(settings: Data, seed: int, image_size: int, folder: Path) -> pd.DataFrame:
    """Write the source's manifest, and the images that it doesn't merely refer to, to `folder`; return the manifest.

    Columns: split (train or val), label (0 … classes-1), class (its name), animal (true where the class is one, or where
    nobody knows), path (relative to `folder`, or absolute). All of it or nothing: the set that lay in `folder` is replaced
    at the end. Raises ValueError, naming the file or folder, where the source can't give what is asked.
    """
    try:
        with paths.replaced(folder, "images", "manifest.csv") as partial:
            rows = sources.rows(settings, seed, image_size, stream(seed, "classes"), partial)
            manifest = pd.DataFrame(rows, columns=["split", "label", "class", "animal", "path"])
            manifest.to_csv(partial / "manifest.csv", index=False, lineterminator="\n")
    except ValueError as error:
        raise ValueError(archives.shown(error)) from error  # one line, whatever is in a file's name
    return manifest


def read_manifest(folder: Path, split: str | None = None) -> pd.DataFrame:
    """The manifest below `folder`, with absolute paths, of one split or of all."""
    kinds = {"label": int, "class": str, "animal": bool, "path": str}
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=kinds)
    manifest["path"] = [os.path.join(folder, path) for path in manifest["path"]]
    return manifest if split is None else manifest[manifest["split"] == split].reset_index(drop=True)


def read_image(path: str | Path) -> Tensor:
    """An image file as (3, H, W) uint8, 16 bits scaled, all turned to RGB; ValueError naming an unreadable file."""
    if archives.is_plain(path):
        # torchvision's decoders: the same pixels, a JPEG's in half the time. What they refuse is left to Pillow.
        with suppress(RuntimeError):
            pixels = decode_image(str(path))
            if pixels.dtype == torch.uint8:
                return pixels
    return torch.from_numpy(np.array(archives.decode(path))).permute(2, 0, 1)


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
    """A loader's (N, 3, H, W) uint8 as the network takes it, on `device`: flipped where drawn, normalised, channels-last."""
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
