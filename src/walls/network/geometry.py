"""Receptive fields: from the layers and the wall to the image rows that no logit depends on.

A wall hides the bottom `wall_rows` rows of the last activation map **B**. Walking the layers
backwards tells which rows of every earlier map, and at last of the image, still reach the rows
above the wall (Section 3.1 of the paper, "Masking"). What reaches none of them is the dead zone.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

from torch import nn
from torch.nn.utils.parametrize import type_before_parametrizations

WINDOWED = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
# Of torch's activations, those that aren't element-wise: they look along a dimension.
NOT_ELEMENTWISE = {"GLU", "LogSoftmax", "MultiheadAttention", "Softmax", "Softmax2d", "Softmin"}


@dataclass(frozen=True)
class DeadZone:
    """The image rows behind the wall that no logit depends on, and the rows needed at every layer.

    `rows[n]` of the rows (counted from the top) of layer n's input are needed, `heights[n]` it has:
    `rows[0]` is the image's, `rows[-1]` the features'. For the paper's VGG and a wall of 9: 170,
    169, 169, 168, 168, 84, … 5. `side`: where the dead zone lies; at the "top", rows count from the
    bottom.
    """

    rows: tuple[int, ...]
    heights: tuple[int, ...]
    side: str = "bottom"

    @property
    def image_rows(self) -> int:
        """H, the image's height."""
        return self.heights[0]

    @property
    def map_rows(self) -> int:
        """h, the height of **B**."""
        return self.heights[-1]

    @property
    def wall_rows(self) -> int:
        """Rows of **B** behind the wall."""
        return self.map_rows - self.rows[-1]

    @property
    def seen_rows(self) -> int:
        """Image rows that reach a logit, and so the first (0-based) row of the dead zone."""
        return self.rows[0]

    @property
    def dead_rows(self) -> int:
        """Height of the dead zone, in image rows."""
        return self.image_rows - self.rows[0]

    @property
    def dead_share(self) -> float:
        """Share of the image that the dead zone covers, in [0, 1)."""
        return self.dead_rows / self.image_rows

    @property
    def measured_rows(self) -> int:
        """Dead rows whose upscaled score can come from hidden features alone; of [VGG] all of them.

        With small maps, bilinear upscaling carries the last seen row of **B** half a cell into the
        dead zone.
        """
        return max(0, self.image_rows - max(self.seen_rows, hires_zero_row(self)))

    @property
    def measured(self) -> slice:
        """The same as a slice of image rows, on the dead zone's side."""
        if self.side == "top":
            return slice(0, self.measured_rows)
        return slice(self.image_rows - self.measured_rows, self.image_rows)


def dead_zone(features: nn.Module, image_rows: int, wall_rows: int) -> DeadZone:
    """The dead zone of a backbone whose head can't read the bottom `wall_rows` rows of its output.

    A window of kernel k, stride s, padding p and dilation d, of which the first r rows of output
    are needed, needs the input's rows 0 … (r-1)·s - p + d·(k-1). `features`: convolutions,
    poolings, batch norm, activations, nested in Sequentials. A `wall_rows` of 0 is the baseline.
    Raises ValueError for layers that mix rows, and for a wall that hides the whole map or nothing
    of the image.
    """
    for name, value, least in (("image_size", image_rows, 1), ("wall.rows", wall_rows, 0)):
        if not isinstance(value, Integral):
            raise ValueError(f"{name}: got {value!r}; takes a whole number, {least} or more")
    layers, heights = _heights(features, image_rows)
    if wall_rows == 0:
        return DeadZone(tuple(heights), tuple(heights))
    if 0 < wall_rows < heights[-1]:
        zone = DeadZone(tuple(_needed(layers, heights, heights[-1] - wall_rows)), tuple(heights))
        if zone.dead_rows:
            return zone
    raise ValueError(_no_dead_zone(layers, heights, wall_rows))


def every_wall(features: nn.Module, image_rows: int) -> list[int]:
    """The heights of all walls that leave a dead zone and something to see.

    At the paper's geometry these are 6 to 13.

    Raises ValueError for layers that mix rows.
    """
    return _walls(*_heights(features, image_rows))


def kinds(features: nn.Module) -> list[str]:
    """What each layer is, in a word: conv, pool, norm, relu, …"""
    short = {"Conv2d": "conv", "MaxPool2d": "pool", "AvgPool2d": "pool", "BatchNorm2d": "norm"}
    return [
        short.get(type(layer).__name__, type(layer).__name__.lower()) for layer in flatten(features)
    ]


def flatten(features: nn.Module) -> Iterator[nn.Module]:
    """The layers of (nested) Sequentials, in order of computation."""
    # A subclass with a forward of its own (a residual block, say) is no chain: it comes out whole,
    # and is refused.
    if type(features).forward is nn.Sequential.forward:
        for child in features:
            yield from flatten(child)
    else:
        yield features


def hires_zero_row(zone: DeadZone) -> int:
    """First image row from which an upscaled map that ends at the wall is zero.

    HiResCAM's gradient is zero behind the wall, so the map's rows h_seen … h-1 are; bilinear
    upscaling (align_corners=False) puts output row i at (i + 0.5)·h/H - 0.5 of the map's rows,
    hence zero from the first i at or below row h_seen. The paper's 89:224 (1-based), 61% of the
    image.
    """
    seen = zone.map_rows - zone.wall_rows
    row = zone.image_rows * (2 * seen + 1) - zone.map_rows
    return -(-row // (2 * zone.map_rows))


def facts(zone: DeadZone) -> dict:
    """The numbers of metrics/wall.json.

    They are heights in rows, `dead_share` of the image, and the rows where HiResCAM is zero.
    """
    zero_rows = max(0, zone.image_rows - hires_zero_row(zone))
    return {
        "image_rows": zone.image_rows,
        "map_rows": zone.map_rows,
        "wall_rows": zone.wall_rows,
        "seen_rows": zone.seen_rows,
        "dead_rows": zone.dead_rows,
        "dead_share": zone.dead_share,
        "hirescam_zero_rows": zero_rows,
    }


def read_zone(file: Path) -> DeadZone:
    """The dead zone that the wall stage wrote down, by `facts`.

    Only its rows of the image and of **B** come back, not the layers.

    Raises ValueError where the file isn't there.
    """
    if not file.is_file():
        raise ValueError(f"{file.name}: not there; takes a `dvc repro wall` first")
    found = json.loads(file.read_text(encoding="utf-8"))
    rows = found["seen_rows"], found["map_rows"] - found["wall_rows"]
    return DeadZone(rows, (found["image_rows"], found["map_rows"]))


def _heights(features: nn.Module, image_rows: int) -> tuple[list[nn.Module], list[int]]:
    """The layers in order of computation, and the rows of the image and of every layer's output."""
    layers = list(flatten(features))
    heights = [image_rows]
    for layer in layers:
        heights.append(_out_rows(layer, heights[-1]))
    if min(heights) < 1:
        raise ValueError(
            f"image_size: got {image_rows}; takes an image "
            "that the backbone's poolings leave a row of"
        )
    return layers, heights


def _walls(layers: list[nn.Module], heights: list[int]) -> list[int]:
    return [
        w
        for w in range(1, heights[-1])
        if _needed(layers, heights, heights[-1] - w)[0] < heights[0]
    ]


def _pair(value) -> int:
    """The vertical one of a layer's (height, width) setting."""
    return value[0] if isinstance(value, tuple) else value


def _window(layer: nn.Module) -> tuple[int, int, int, int]:
    """Vertical kernel, stride, padding, dilation."""
    kernel, stride = _pair(layer.kernel_size), _pair(layer.stride)
    dilation = _pair(getattr(layer, "dilation", 1))
    padding = layer.padding
    if padding == "same":
        # torch pads the top with the smaller half
        padding = dilation * (kernel - 1) // 2
    elif padding == "valid":
        padding = 0
    return kernel, stride, _pair(padding), dilation


def rowwise(layer: nn.Module) -> bool:
    """Whether row i of a layer's output depends on row i of its input alone.

    True of batch norm, dropout and every element-wise activation of torch. A subclass may do
    anything, and counts as not.
    """
    kind = type_before_parametrizations(layer)
    if kind.__module__ == "torch.nn.modules.activation":
        return kind.__name__ not in NOT_ELEMENTWISE
    dropout = kind.__module__ == "torch.nn.modules.dropout"
    return dropout or kind in (nn.Identity, nn.BatchNorm2d)


def _out_rows(layer: nn.Module, rows: int) -> int:
    """Height of a layer's output; ValueError for a layer whose rows can't be followed."""
    if rowwise(layer):
        return rows
    if type_before_parametrizations(layer) not in WINDOWED:  # as weight_norm's: of weights alone
        raise ValueError(
            f"{type(layer).__name__} mixes rows, or isn't known not to; a dead zone takes "
            "convolutions, max and average poolings, batch norm and element-wise activations"
        )
    if getattr(layer, "padding_mode", "zeros") == "circular":
        raise ValueError(
            "Conv2d with circular padding mixes the top and "
            "bottom rows; a dead zone takes other paddings"
        )
    if isinstance(layer, nn.Conv2d) and layer.padding == "same":
        return rows
    kernel, stride, padding, dilation = _window(layer)
    span = rows + 2 * padding - dilation * (kernel - 1) - 1
    if getattr(layer, "ceil_mode", False):
        out = -(-span // stride) + 1
        # torch drops a last window that starts in the bottom padding
        return out - 1 if (out - 1) * stride >= rows + padding else out
    return span // stride + 1


def _needed(layers: list[nn.Module], heights: list[int], seen: int) -> list[int]:
    """Rows needed of the image and of every layer's output, for the first `seen` rows of **B**."""
    rows = [seen]
    for layer, height in zip(reversed(layers), reversed(heights[:-1]), strict=True):
        need = rows[0]
        if isinstance(layer, WINDOWED):
            kernel, stride, padding, dilation = _window(layer)
            need = (need - 1) * stride - padding + dilation * (kernel - 1) + 1
            if getattr(layer, "padding_mode", "zeros") == "reflect":
                need = max(need, padding + 1)  # the top padding mirrors rows 1 … p
        rows.insert(0, min(max(need, 1), height))
    return rows


def _no_dead_zone(layers: list[nn.Module], heights: list[int], wall_rows: int) -> str:
    """The message for a wall that leaves no dead zone or hides everything.

    It names the heights that work.
    """
    good = _walls(layers, heights)
    takes = (
        f"from {good[0]} to {good[-1]} rows"
        if good
        else "a larger image: here no height leaves a dead zone"
    )
    if wall_rows >= heights[-1]:
        why = f"hides all {heights[-1]} rows of the features"
    elif wall_rows < 0:
        why = "is not a height"
    else:
        why = "leaves no dead zone: every image row still reaches a logit"
    return f"wall.rows: got {wall_rows}, which {why}; takes {takes} at image_size {heights[0]}"
