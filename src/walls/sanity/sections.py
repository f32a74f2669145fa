"""What notebook 9's later sections share: one network, its photographs, and what fits both."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor, nn

from walls.base import files
from walls.figures import style
from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.saliency.controls import SAME, below, put_together
from walls.sanity.report import Report

T = TypeVar("T")
MOST = 20  # photographs in any of these sections


@dataclass(frozen=True)
class Subject:
    """A network and photographs (N, C, H, W), normalised, with their classes.

    `alike`: below each of them, one of its class. `few`: how many of the first are taken where an
    image needs many passes.
    """

    name: str
    network: nn.Module
    images: Tensor
    classes: list[int]
    alike: Tensor
    few: int

    @property
    def halves(self) -> tuple[Tensor, Tensor]:
        """Half of the photographs, and as many others, to lie below them."""
        half = len(self.images) // 2
        return self.images[:half], self.images[half : 2 * half]

    @property
    def pairs(self) -> tuple[Tensor, Tensor]:
        """The few, and what lies below them."""
        return self.images[: self.few], self.alike[: self.few]

    @cached_property
    def model(self) -> Behind:
        """The network behind a wall, two photographs stacked."""
        return behind(self.network, image_rows=2 * self.images.shape[2])

    @property
    def stacks(self) -> Tensor:
        """The few, stacked above one of their class."""
        return put_together(*self.pairs, self.model.zone())

    def fresh(self, seed: int = 0) -> nn.Module:
        """The network at its initialisation."""
        return zoo.get(self.name.partition("@")[0], weights="none", seed=seed).network


def subject(named: zoo.Named, images: Tensor, report: Report, few: int, seed: int = 0) -> Subject:
    """A named network and the first of the photographs, normalised, that its report is of."""
    classes = report.classes
    alike = below(images, classes, seed)[SAME]
    return Subject(named.name, named.network, images[:MOST], classes[:MOST], alike[:MOST], few)


def tried(work: Callable[..., T], *given: Any, **options: Any) -> T | None:
    """What it gives; None, and a line that says why, where the network isn't one for it."""
    try:
        return work(*given, **options)
    except ValueError as error:
        print(f"Not for this network: {error}")
        return None


def shown(work: Callable[..., T], found: Any, *given: Any) -> T | None:
    """What `work` makes of what was found, if anything was."""
    return None if found is None else work(found, *given)


def drawn(draw: Callable[..., Figure], found: Any, folder: Path, name: str) -> Figure | None:
    """The figure of what was found, saved below `folder`; None where nothing was."""
    return None if found is None else style.save(draw(found), folder / "figures", name)


def write(folder: Path, **tables: pd.DataFrame | None) -> None:
    """Each table as NAME.csv in the folder, but for those that weren't made."""
    for name, table in tables.items():
        if table is not None:
            files.write_csv(table, folder / f"{name}.csv", digits=6)
