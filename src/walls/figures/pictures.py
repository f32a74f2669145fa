"""Images, saliency maps and the dead zone, always red and hatched."""

import re
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from walls.figures.style import BAND, DEAD, SEEN, SMALL, WIDTH, literal
from walls.network.geometry import DeadZone


def dead_band(
    ax: Axes, first: float, last: float, width: float, over_heat: bool = False, left: float = 0
) -> None:
    """Mark the rows `first` to `last` of an image drawn on `ax`.

    `over_heat`: with white hatching, which dark maps need.
    """
    place = {
        "xy": (left - 0.5, first - 0.5),
        "width": width,
        "height": last - first,
        "facecolor": "none",
    }
    ax.add_patch(
        Rectangle(
            **place,
            edgecolor="white" if over_heat else DEAD,
            hatch="//" if over_heat else "////",
            linewidth=0,
            alpha=0.45,
        )
    )
    ax.add_patch(Rectangle(**place, edgecolor=DEAD, linewidth=0.9))


def show(ax: Axes, image: Tensor, zone: DeadZone | None = None, heat: Tensor | None = None) -> None:
    """An image (3, H, W), uint8 or in [0, 1], its dead zone, a saliency map (H, W) laid over it."""
    height, width = image.shape[1:]
    ax.imshow(image.permute(1, 2, 0).numpy())
    if heat is not None:
        ax.imshow(heat.numpy(), alpha=0.6, vmin=0, vmax=1)
    if zone is not None:
        dead_band(ax, zone.seen_rows, height, width, over_heat=heat is not None)
    bare(ax)


def contact_sheet(
    images: Sequence[Tensor], titles: Sequence[str], columns: int, zone: DeadZone | None = None
) -> Figure:
    """Images in rows of `columns`, each under its title."""
    figure, axes = grid(-(-len(images) // columns), columns)
    for ax in axes.flat[len(images) :]:
        ax.remove()
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        show(ax, image, zone)
        ax.set_title(literal(title), fontsize=SMALL, pad=2)
    return figure


def grid(rows: int, columns: int) -> tuple[Figure, np.ndarray]:
    """Axes for square pictures.

    compressed: as wide as the page, with no room between but for their texts.
    """
    size = (WIDTH, rows * (WIDTH / columns + 0.6))
    return plt.subplots(rows, columns, figsize=size, squeeze=False, layout="compressed")


def crop_sheet(
    images: Sequence[Tensor],
    titles: Sequence[str],
    frames: Sequence[tuple[int, int, int]],
    columns: int,
    zone: DeadZone,
) -> Figure:
    """Images as in `contact_sheet`, each with the square to be cut out of it.

    A square is (top, left, size), and the dead zone is marked in it.
    """
    figure = contact_sheet(images, titles, columns)
    for ax, (top, left, size) in zip(figure.axes, frames, strict=True):
        dead_band(ax, top + (1 - zone.dead_share) * size, top + size, size, left=left)
        ax.add_patch(
            Rectangle(
                (left - 0.5, top - 0.5), size, size, facecolor="none", edgecolor=SEEN, linewidth=1.6
            )
        )
    return figure


def saliency_grid(
    images: Sequence[Tensor],
    maps: Mapping[str, Sequence[Tensor]],
    names: Sequence[str],
    zone: DeadZone,
    activity: pd.DataFrame | None = None,
) -> Figure:
    """Figures 7 to 9: an image per row, a method per column.

    Maps (N, H, W) are laid over it, µ×100 stands below.

    `activity`: µ per image (rows) and method (columns), in [0, 1]. More than eight methods take
    further rows.
    """
    methods = list(maps)
    bands = -(-len(methods) // BAND)
    columns = -(-len(methods) // bands)
    figure, axes = grid(len(images) * bands, columns + 1)
    for row, name in enumerate(names):
        for ax in axes[row * bands : (row + 1) * bands].flat:
            ax.axis("off")
        first = axes[row * bands, 0]
        first.axis("on")
        show(first, images[row], zone)
        first.set_ylabel(literal(name), fontsize=SMALL, labelpad=2)
        if activity is not None:
            first.set_xlabel("µ×100:", fontsize=SMALL, labelpad=2)
        for place, method in enumerate(methods):
            ax = axes[row * bands + place // columns, 1 + place % columns]
            ax.axis("on")
            show(ax, images[row], zone, maps[method][row])
            if activity is not None:
                mu = activity[method].iloc[row]
                ax.set_xlabel(
                    "empty" if np.isnan(mu) else f"{100 * mu:.1f}", fontsize=SMALL, labelpad=2
                )
            if row == 0 or bands > 1:
                ax.set_title(literal(broken(method)), fontsize=SMALL, pad=2)
    axes[0, 0].set_title("image", fontsize=SMALL, pad=2)
    return figure


def broken(name: str) -> str:
    """A method's name on short lines.

    It breaks at spaces, and a long word before and after its CAM.
    """
    parts = (
        re.sub(r"(?<=\w)(?=CAM)|(?<=CAM)(?=[A-Z])", "\n", word) if len(word) > 8 else word
        for word in name.split()
    )
    return "\n".join(parts)


def bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)
