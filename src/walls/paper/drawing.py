"""Figure 4: the masked [VGG], drawn. All sizes are points on paper."""

from itertools import pairwise

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from torch import Tensor, nn

from walls.figures.style import DEAD, SEEN, SMALL, WIDTH
from walls.network.geometry import DeadZone, kinds

IMAGE_HEIGHT, IMAGE_WIDTH = 110, 40
BLOCK_WIDTH = 13  # of a block of convolutions; its height is as the image's, in rows
STEP = 27  # from one middle to the next
FIRST_IMAGE, FIRST_BLOCK = 22, 60  # the middles
WEIGHTS = 58  # the side of W
WEIGHTS_GAP = 24  # from the last block's middle to W
DENSE_GAP = 30  # from W to the middle of the first dense layer
DENSE_WIDTH, DENSE_HEIGHT, LOGITS_HEIGHT = 8, 66, 26
LABELS = 24  # below the image
MARGIN = 2  # beside an arrow, and above the image


def network(model: nn.Module, image_size: int) -> Figure:
    """Figure 4: every block of the masked [VGG], red where no logit reads it, and W's own zeros.

    Of W (dense, C, h, w) the mean |weight| per position is drawn.
    """
    zone, weight = model.zone(image_size), model.head[0].full_weight()
    figure, ax = plt.subplots(figsize=(WIDTH, 0.45 * WIDTH), layout="none")
    ax.set_position((0, 0, 1, 1))
    last_block = _backbone(ax, zone, kinds(model.features))
    left = last_block + WEIGHTS_GAP
    _arrow(ax, last_block + 8, left - MARGIN)
    _weights(ax, left, zone, weight)
    first_dense = left + WEIGHTS + DENSE_GAP
    _arrow(ax, left + WEIGHTS + MARGIN, first_dense - 7)
    _dense_layers(ax, first_dense, model.config["dense"], model.config["classes"])
    half = IMAGE_HEIGHT / 2
    ax.set(xlim=(0, 72 * WIDTH), ylim=(half + LABELS, -half - MARGIN), aspect="equal")
    ax.axis("off")
    return figure


def _backbone(ax: Axes, zone: DeadZone, layers: list[str]) -> float:
    """The image, and a block of convolutions up to every pooling; the last block's middle."""
    _block(ax, FIRST_IMAGE, IMAGE_WIDTH, zone, 0, "image ξ")
    poolings = [number for number, layer in enumerate(layers) if layer == "pool"]
    ends = [-1, *poolings, len(layers)]
    middle = FIRST_BLOCK
    for block, (before, end) in enumerate(pairwise(ends)):
        convolutions = layers[before + 1 : end].count("conv")
        middle = FIRST_BLOCK + STEP * block
        last = "\n= B" if end == len(layers) else ""
        _block(ax, middle, BLOCK_WIDTH, zone, end, f"{convolutions}×conv", last)
    return middle


def _block(
    ax: Axes, middle: float, width: float, zone: DeadZone, layer: int, label: str, more: str = ""
) -> None:
    """A layer's input, blue where a logit reads it, its rows needed and its rows below."""
    needed, rows = zone.rows[layer], zone.heights[layer]
    height = IMAGE_HEIGHT * rows / zone.image_rows
    left, top, seen = middle - width / 2, -height / 2, needed / rows
    ax.add_patch(
        Rectangle((left, top), width, height * seen, facecolor=SEEN, alpha=0.3, linewidth=0)
    )
    _outline(ax, left, top, width, height, seen)
    _below(ax, middle, height / 2, f"{label}\n{needed}/{rows}{more}")


def _weights(ax: Axes, left: float, zone: DeadZone, weight: Tensor) -> None:
    """W as a square, darker where its weights are larger, framed as what it reads."""
    dense, channels, rows, columns = weight.shape
    half = WEIGHTS / 2
    profile = weight.abs().mean(dim=(0, 1)).numpy()
    ax.imshow(profile, cmap="Greys", extent=(left, left + WEIGHTS, half, -half), vmin=0)
    _outline(ax, left, -half, WEIGHTS, WEIGHTS, zone.rows[-1] / zone.map_rows)
    shape = f"{dense}×({channels}×{rows}×{columns})"
    zeros = f"lower {zone.wall_rows} rows are 0"
    _below(ax, left + half, half, f"W, {shape},\nits mean |weight|: the\n{zeros}")


def _dense_layers(ax: Axes, middle: float, dense: int, classes: int) -> None:
    """Two dense layers and the logits."""
    layers = (
        ("dense", dense, DENSE_HEIGHT),
        ("dense", dense, DENSE_HEIGHT),
        ("logits", classes, DENSE_HEIGHT if classes == dense else LOGITS_HEIGHT),
    )
    for name, units, height in layers:
        corner = middle - DENSE_WIDTH / 2, -height / 2
        for look in (
            {"facecolor": SEEN, "alpha": 0.3, "linewidth": 0},
            {"facecolor": "none", "edgecolor": "0.2", "linewidth": 0.7},
        ):
            ax.add_patch(Rectangle(corner, DENSE_WIDTH, height, **look))
        _below(ax, middle, height / 2, f"{name}\n{units}")
        middle += STEP


def _below(ax: Axes, x: float, y: float, label: str) -> None:
    ax.text(x, y + 3, label, ha="center", va="top", fontsize=SMALL)


def _arrow(ax: Axes, start: float, end: float) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 6, "color": "0.25", "linewidth": 0.7}
    ax.add_patch(FancyArrowPatch((start, 0), (end, 0), shrinkA=0, shrinkB=0, **look))


def _outline(ax: Axes, x: float, y: float, width: float, height: float, seen: float) -> None:
    """A frame whose lower part, from the share `seen` on, lies behind the wall."""
    dead = {"xy": (x, y + height * seen), "width": width, "height": height * (1 - seen)}
    hatched = {"facecolor": "none", "edgecolor": DEAD, "hatch": "//////", "linewidth": 0.7}
    frame = {"facecolor": "none", "edgecolor": "0.2", "linewidth": 0.7}
    ax.add_patch(Rectangle(**dead, facecolor=DEAD, alpha=0.16, linewidth=0))
    ax.add_patch(Rectangle(**dead, **hatched, zorder=3))
    ax.add_patch(Rectangle((x, y), width, height, **frame, zorder=4))
