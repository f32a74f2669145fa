"""Figure 4: the masked [VGG], drawn."""

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import nn

from walls.figures.style import DEAD, SEEN, SMALL, WIDTH
from walls.network.geometry import kinds


def network(model: nn.Module, image_size: int) -> Figure:
    """Figure 4: the masked [VGG], every block with the rows that no logit reads in red, and W's own
    zeros.

    Of W (dense, C, h, w) the mean |weight| per position is drawn. The drawing's unit is a point on
    paper.
    """
    zone, layers, weight = (
        model.zone(image_size),
        kinds(model.features),
        model.head[0].full_weight(),
    )
    dense, classes = model.config["dense"], model.config["classes"]
    figure, ax = plt.subplots(figsize=(WIDTH, 0.45 * WIDTH), layout="none")
    ax.set_position((0, 0, 1, 1))
    tall, step = 110, 27  # the image's height; from block to block
    _block(
        ax,
        22,
        40,
        tall,
        zone.rows[0] / zone.heights[0],
        f"image ξ\n{zone.rows[0]}/{zone.heights[0]}",
    )
    starts = [0] + [n + 1 for n, layer in enumerate(layers) if layer == "pool"]
    for block, (start, end) in enumerate(
        zip(starts, [start - 1 for start in starts[1:]] + [len(layers)], strict=True)
    ):
        convolutions = sum(layer == "conv" for layer in layers[start:end])
        label = f"{convolutions}×conv\n{zone.rows[end]}/{zone.heights[end]}" + (
            "\n= B" if end == len(layers) else ""
        )
        middle = 60 + step * block
        _block(
            ax,
            middle,
            13,
            tall * zone.heights[end] / image_size,
            zone.rows[end] / zone.heights[end],
            label,
        )
    side = 58
    left = middle + 24
    _arrow(ax, middle + 8, left - 2)
    profile = weight.abs().mean(dim=(0, 1)).numpy()
    ax.imshow(profile, cmap="Greys", extent=(left, left + side, side / 2, -side / 2), vmin=0)
    shape = f"{dense}×({weight.shape[1]}×{zone.map_rows}×{weight.shape[3]})"
    label = f"W, {shape},\nits mean |weight|: the\nlower {zone.wall_rows} rows are 0"
    _outline(ax, left, -side / 2, side, side, zone.rows[-1] / zone.map_rows)
    _below(ax, left + side / 2, side / 2, label)
    middle = left + side + 30
    _arrow(ax, left + side + 2, middle - 7)
    for units, name in ((dense, "dense"), (dense, "dense"), (classes, "logits")):
        height = 66 if units == dense else 26
        ax.add_patch(
            Rectangle((middle - 4, -height / 2), 8, height, facecolor=SEEN, alpha=0.3, linewidth=0)
        )
        ax.add_patch(
            Rectangle(
                (middle - 4, -height / 2),
                8,
                height,
                facecolor="none",
                edgecolor="0.2",
                linewidth=0.7,
            )
        )
        _below(ax, middle, height / 2, f"{name}\n{units}")
        middle += step
    ax.set(xlim=(0, 72 * WIDTH), ylim=(tall / 2 + 24, -tall / 2 - 2), aspect="equal")
    ax.axis("off")
    return figure


def _block(ax: Axes, middle: float, thick: float, height: float, seen: float, label: str) -> None:
    """A layer's output, centred at (middle, 0), blue where a logit reads it, its label below."""
    ax.add_patch(
        Rectangle(
            (middle - thick / 2, -height / 2),
            thick,
            height * seen,
            facecolor=SEEN,
            alpha=0.3,
            linewidth=0,
        )
    )
    _outline(ax, middle - thick / 2, -height / 2, thick, height, seen)
    _below(ax, middle, height / 2, label)


def _below(ax: Axes, x: float, y: float, label: str) -> None:
    ax.text(x, y + 3, label, ha="center", va="top", fontsize=SMALL)


def _arrow(ax: Axes, start: float, end: float) -> None:
    ax.add_patch(
        FancyArrowPatch(
            (start, 0),
            (end, 0),
            arrowstyle="-|>",
            mutation_scale=6,
            color="0.25",
            linewidth=0.7,
            shrinkA=0,
            shrinkB=0,
        )
    )


def _outline(ax: Axes, x: float, y: float, width: float, height: float, seen: float) -> None:
    """A frame whose lower part, from the share `seen` on, lies behind the wall."""
    dead = {"xy": (x, y + height * seen), "width": width, "height": height * (1 - seen)}
    ax.add_patch(Rectangle(**dead, facecolor=DEAD, alpha=0.16, linewidth=0))
    ax.add_patch(
        Rectangle(**dead, facecolor="none", edgecolor=DEAD, hatch="//////", linewidth=0.7, zorder=3)
    )
    ax.add_patch(
        Rectangle((x, y), width, height, facecolor="none", edgecolor="0.2", linewidth=0.7, zorder=4)
    )
