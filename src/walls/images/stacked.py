"""The finished stacked images, as later stages read them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from walls.base.seeds import stream
from walls.images.reading import read_image
from walls.images.transforms import fit
from walls.network.geometry import DeadZone

DATASETS = ("stack-mix", "stack-gen")


class Pictures(Sequence):
    """Image files, read and fitted to one size when asked for, uint8.

    An index gives (3, H, W), a slice (N, 3, H, W).
    """

    def __init__(self, files: Sequence[Path], size: int, turn: bool = True):
        self.files, self.size, self.turn = list(files), size, turn

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | slice) -> Tensor:
        if isinstance(index, slice):
            images = [self[i] for i in range(len(self))[index]]
            return (
                torch.stack(images)
                if images
                else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
            )
        return fit(read_image(self.files[index], turn=self.turn), self.size)


def read(folder: Path, dataset: str, image_size: int) -> tuple[pd.DataFrame, Pictures]:
    """The accepted images of one dataset, maybe none: their manifest rows and their pictures."""
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table = table[(table["dataset"] == dataset) & (table["path"] != "")].reset_index(drop=True)
    return table, Pictures([folder / path for path in table["path"]], image_size)


def outside(
    validation: pd.DataFrame, folder: Path, image_size: int, count: int, seed: int
) -> Pictures:
    """Up to `count` validation images that no stacked image below `folder` is made of.

    Methods may be tuned on them.
    """
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    used = {*table["upper"], *table["lower"]}
    free = [path for path in validation["path"] if "/".join(Path(path).parts[-2:]) not in used]
    order = stream(seed, "outside").permutation(len(free))[:count]
    turn = bool(np.all(validation.get("turned", True)))
    return Pictures([Path(free[i]) for i in order], image_size, turn)


def swap(images: Tensor, others: Tensor, zone: DeadZone) -> tuple[Tensor, Tensor]:
    """The images with the others' part in the dead zone, and with it above; (N, 3, H, W) each."""
    edge = zone.seen_rows
    lower = torch.cat([images[:, :, :edge], others[:, :, edge:]], dim=2)
    upper = torch.cat([others[:, :, :edge], images[:, :, edge:]], dim=2)
    return lower, upper
