"""The finished stacked images, as later stages read them."""

from abc import abstractmethod
from collections.abc import Callable, Sequence
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
WITHOUT = "stack-gen-without"  # the folder of STACK-GEN's images without the hidden animal


class Asked(Sequence):
    """Images of one size, uint8, made when asked for.

    An index gives (3, H, W), a slice (N, 3, H, W).
    """

    size: int

    @abstractmethod
    def one(self, index: int) -> Tensor:
        """The image of that place."""

    def __getitem__(self, index: int | slice) -> Tensor:
        if isinstance(index, slice):
            images = [self.one(i) for i in range(len(self))[index]]
            return (
                torch.stack(images)
                if images
                else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
            )
        return self.one(index)


class Pictures(Asked):
    """Image files, read and fitted to one size when asked for."""

    def __init__(self, files: Sequence[Path], size: int, turn: bool = True):
        self.files, self.size, self.turn = list(files), size, turn

    def __len__(self) -> int:
        return len(self.files)

    def one(self, index: int) -> Tensor:
        return fit(read_image(self.files[index], turn=self.turn), self.size)


class Replaced(Asked):
    """Images with what `hidden` gives of each place, (3, H, W), in their dead zone (Eq. 6)."""

    def __init__(self, images: Sequence, hidden: Callable[[int], Tensor], zone: DeadZone):
        self.images, self.hidden, self.zone, self.size = images, hidden, zone, zone.image_rows

    def __len__(self) -> int:
        return len(self.images)

    def one(self, index: int) -> Tensor:
        edge = self.zone.seen_rows
        return torch.cat([self.images[index][:, :edge], self.hidden(index)[:, edge:]], dim=1)


def _manifest(folder: Path) -> pd.DataFrame:
    """Every row; a name is text, also where it looks like a number."""
    kinds = {"class": str, "upper": str, "lower": str}
    return pd.read_csv(folder / "manifest.csv", keep_default_na=False, dtype=kinds)


def read(folder: Path, dataset: str, image_size: int) -> tuple[pd.DataFrame, Pictures]:
    """The accepted images of one dataset, maybe none: their manifest rows and their pictures."""
    table = _manifest(folder)
    table = table[(table["dataset"] == dataset) & (table["path"] != "")].reset_index(drop=True)
    return table, Pictures([folder / path for path in table["path"]], image_size)


def without(folder: Path, rows: pd.DataFrame, image_size: int) -> Pictures | None:
    """The images of `read`'s rows once more, but without the hidden animal.

    Only a generator that draws can leave it out: None where not every image has its like.
    """
    paths = list(rows["without"]) if "without" in rows else []
    return Pictures([folder / path for path in paths], image_size) if paths and all(paths) else None


def covered(images: Tensor, bare: Tensor) -> Tensor:
    """Which pixels the hidden animal covers, (N, H, W) bool: where the two (N, 3, H, W) differ.

    Raises ValueError for sets of other shapes.
    """
    if images.shape != bare.shape or images.ndim != 4:
        got = f"{tuple(bare.shape)} beside {tuple(images.shape)}"
        raise ValueError(f"bare: got {got}; takes the same images (N, 3, H, W) without the animal")
    return (images != bare).any(1)


def outside(
    validation: pd.DataFrame, folder: Path, image_size: int, count: int, seed: int
) -> Pictures:
    """Up to `count` validation images that no stacked image below `folder` is made of.

    Methods may be tuned on them.
    """
    table = _manifest(folder)
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
