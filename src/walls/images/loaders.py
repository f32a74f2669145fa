"""The manifest's images, in batches."""

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision.transforms.v2 import functional as tf

from walls.base.seeds import stream
from walls.images.reading import read_image
from walls.images.transforms import crop_box, fit


def read_manifest(folder: Path, split: str | None = None) -> pd.DataFrame:
    """The manifest below `folder`, with absolute paths, of one split or of all.

    Its column `turned` says whether the source's images are turned as their EXIF orientation says.
    """
    kinds = {"label": int, "class": str, "animal": bool, "path": str}
    manifest = pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=kinds)
    manifest["path"] = [os.path.join(folder, path) for path in manifest["path"]]
    source = json.loads((folder / "source.json").read_text(encoding="utf-8"))
    manifest["turned"] = source["turned"]
    if split is None:
        return manifest
    return manifest[manifest["split"] == split].reset_index(drop=True)


class Images(Dataset):
    """Manifest rows as (image, label, flip), the image (3, size, size) uint8.

    Images are cropped at random where a `crop_area` is given.

    `images[epoch, position]` draws crop and flip from (seed, epoch, position): the order of
    reading, the workers and the processes change nothing. Photographs differ in size, so a batch
    exists only after the crop: reading and cropping are the workers' part; flip and normalisation
    are the device's, a whole batch at once (`on_device`).
    """

    def __init__(
        self, manifest: pd.DataFrame, size: int, crop_area: tuple | None = None, seed: int = 0
    ):
        # Not a list of str: every worker that reads one counts references in it, and so copies its
        # memory page by page.
        self.paths = np.array(list(manifest["path"]), np.dtypes.StringDType())
        self.labels = np.array(manifest["label"], np.int64)
        self.turned = np.broadcast_to(manifest.get("turned", True), len(manifest))
        self.size, self.crop_area, self.seed = size, crop_area, seed

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int | tuple[int, int]) -> tuple[Tensor, int, bool]:
        epoch, position = index if isinstance(index, tuple) else (0, index)
        image = read_image(self.paths[position], turn=bool(self.turned[position]))
        label = int(self.labels[position])
        if self.crop_area is None:
            return fit(image, self.size), label, False
        random = stream(self.seed, "augment", epoch, position)
        flip = bool(random.random() < 0.5)
        box = crop_box(random, *image.shape[1:], self.crop_area)
        return tf.resized_crop(image, *box, [self.size, self.size], antialias=True), label, flip


class _Order:
    """Batches of (epoch, position), epoch after epoch.

    They are the share of process `rank` in parts of the global batches.
    """

    def __init__(
        self,
        images: Images,
        batch_size: int,
        epochs: Iterable[int],
        rank: int,
        ranks: int,
        accumulate: int,
    ):
        self.count, self.seed, self.batch_size, self.epochs = (
            len(images),
            images.seed,
            batch_size,
            epochs,
        )
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

    Without `epochs`: all images in order, `batch_size` at a time; process r of R gets every R-th,
    from the r-th on. With: each epoch's images shuffled by (seed, epoch), without an incomplete
    last batch, one epoch's right after the other's, so that the workers never stand still; each
    batch of `batch_size` is cut into `accumulate` parts, and a part into the processes' shares:
    together they see the same batches as one process.
    """
    if epochs is None:
        order: dict = {"batch_size": batch_size, "sampler": range(rank, len(images), ranks)}
    else:
        order = {"batch_sampler": _Order(images, batch_size, epochs, rank, ranks, accumulate)}
    return DataLoader(images, num_workers=workers, pin_memory=torch.cuda.is_available(), **order)
