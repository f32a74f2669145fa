"""Images: every source behind one manifest, one way to read them, one way to augment them.

A source (sources.py) lists its images in `manifest.csv` (split, label, class, animal, path), and writes those that lie
nowhere yet below the manifest's folder: everything after it reads the manifest alone.
"""

import os
import shutil
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import RandomResizedCrop
from torchvision.transforms.v2 import functional as tf

from walls import archives, sources
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
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        rows = sources.rows(settings, seed, image_size, stream(seed, "classes"), partial)
        manifest = pd.DataFrame(rows, columns=["split", "label", "class", "animal", "path"])
        manifest.to_csv(partial / "manifest.csv", index=False, lineterminator="\n")
        folder.mkdir(exist_ok=True)
        (folder / "manifest.csv").unlink(missing_ok=True)
        shutil.rmtree(folder / "images", ignore_errors=True)
        for part in ("images", "manifest.csv"):
            if (partial / part).exists():
                (partial / part).rename(folder / part)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def read_manifest(folder: Path, split: str | None = None) -> pd.DataFrame:
    """The manifest below `folder`, with absolute paths, of one split or of all."""
    kinds = {"label": int, "class": str, "animal": bool, "path": str}
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=kinds)
    manifest["path"] = [os.path.join(folder, path) for path in manifest["path"]]
    return manifest if split is None else manifest[manifest["split"] == split].reset_index(drop=True)


def read_image(path: str | Path) -> Tensor:
    """An image file as (3, H, W) uint8, 16 bits scaled, all turned to RGB; ValueError naming an unreadable file."""
    return torch.from_numpy(np.array(archives.decode(path))).permute(2, 0, 1)


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
