"""Every wall at once, shown: the figure of notebook 8, and what the site's page by hand draws from."""

import base64
import io
import json
from collections.abc import Sequence

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from walls.activity import uniform_activity
from walls.plots import DEAD, HEAT, SEEN, WIDTH
from walls.sweep import Height

COLUMNS = 3  # panels side by side
SHOWN = 6  # images on the page


def curves(table: pd.DataFrame, trained: pd.DataFrame, classes: int) -> Figure:
    """Accuracy, and every method's activity, against the wall's height: a panel each, with 95% intervals.

    `table`: sweep.table; dashed, a uniform map's activity, and chance. `trained`: rows of the same columns for the network
    that was trained as a whole behind its wall, marked by a diamond.
    """
    methods = list(table["method"].unique())
    rows = -(-(1 + len(methods)) // COLUMNS)
    figure, axes = plt.subplots(rows, COLUMNS, figsize=(WIDTH, WIDTH * 0.29 * rows + 0.3), sharey=True, squeeze=False)
    for ax in axes.flat[1 + len(methods) :]:
        ax.remove()
    walls = table.drop_duplicates("wall_rows")
    _panel(axes.flat[0], walls, ("top1", "top1_low", "top1_high"), trained.head(1), 100, SEEN)
    axes.flat[0].axhline(100 / classes, color="0.3", linestyle="--", linewidth=0.9)
    axes.flat[0].set_title("top-1 accuracy (%)")
    for ax, method in zip(axes.flat[1:], methods, strict=False):
        own, mark = table[table["method"] == method], trained[trained["method"] == method]
        ax.plot(walls["wall_rows"], walls["uniform"], color="0.3", linestyle="--", linewidth=0.9)
        _panel(ax, own, ("mean", "ci_low", "ci_high"), mark, 1, DEAD)
        ax.set_title(f"{method}, µ×100")
    for ax in axes.flat[: 1 + len(methods)]:
        last = ax.get_subplotspec().rowspan.stop * COLUMNS + ax.get_subplotspec().colspan.start > len(methods)
        ticks = walls[::-1][::2]  # every second: the dead zones' heights are wide
        labels = [f"{wall}\n{dead}" for wall, dead in zip(ticks["wall_rows"], ticks["dead_rows"], strict=True)]
        ax.set_xticks(ticks["wall_rows"], labels if last else [""] * len(labels), fontsize=7)
        ax.set_xticks(walls["wall_rows"], minor=True)
        ax.set(ylim=(-4, 104), yticks=range(0, 101, 25))
    figure.supxlabel("rows of the wall, and under them of the dead zone", fontsize=8)
    return figure


def nothing(why: str) -> Figure:
    """The figure of a sweep that was skipped: the sentence that says why."""
    figure, ax = plt.subplots(figsize=(WIDTH, WIDTH / 6))
    ax.text(0.5, 0.5, why, ha="center", va="center", wrap=True)
    ax.axis("off")
    return figure


def page(
    heights: Sequence[Height], images: Tensor, names: Sequence[str], classes: dict[int, str], trained: int, skipped: str = ""
) -> str:
    """sweep.json: the first images, and at every height every method's map and µ of each; what the site's page reads.

    `names`: the images' classes; `classes`: every label's; `trained`: the height to begin with. Maps are raw ones, min-max
    scaled at (h, w) to a byte (so does cams.upscale begin), row after row in base64; `mu`, `mean` and `uniform` are µ×100,
    null for an empty map.
    """
    shown = min(SHOWN, len(images)) if heights else 0
    content = {
        "skipped": skipped,
        "trained": trained,
        "colours": "".join(bytes(round(255 * part) for part in matplotlib.colormaps[HEAT](i)[:3]).hex() for i in range(256)),
        "images": [{"name": names[i], "jpeg": _text(_jpeg(images[i]))} for i in range(shown)],
        "methods": list(heights[0].maps) if heights else [],
        "heights": [_height(height, shown, classes) for height in heights],
    }
    return json.dumps(content, ensure_ascii=False, indent=0) + "\n"


def _height(height: Height, shown: int, classes: dict[int, str]) -> dict:
    zone, table = height.zone, height.measured
    mu = {method: 100 * table[table["method"] == method]["mu"].to_numpy() for method in height.maps}
    predicted = table[table["method"] == next(iter(height.maps))]["predicted"]
    return {
        "wall_rows": zone.wall_rows, "map_rows": zone.map_rows, "dead_rows": zone.dead_rows, "image_rows": zone.image_rows,
        "top1": round(height.accuracy["top1"], 4), "uniform": round(100 * uniform_activity(zone.dead_share), 4),
        "predicted": [classes[label] for label in predicted[:shown]],
        "mu": {method: [_rounded(value) for value in values[:shown]] for method, values in mu.items()},
        "mean": {method: _rounded(np.nanmean(v) if not np.isnan(v).all() else np.nan) for method, v in mu.items()},
        "maps": {method: [_text(_bytes(raw)) for raw in maps[:shown]] for method, maps in height.maps.items()},
    }  # fmt: skip


def _panel(
    ax: Axes, rows: pd.DataFrame, columns: tuple[str, str, str], mark: pd.DataFrame, scale: float, colour: str
) -> None:
    """A mean and its interval against the wall's height, and the fully trained network's beside it."""
    x, (mean, low, high) = rows["wall_rows"], (scale * rows[column] for column in columns)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, mean, color=colour, marker="o", markersize=3, linewidth=1.2)
    for _, one in mark.iterrows():
        x, (at, down, up) = one["wall_rows"] + 0.3, (scale * one[column] for column in columns)
        ax.vlines(x, down, up, color="0.1", linewidth=0.9)
        ax.plot(x, at, color="0.1", marker="D", markersize=4, markerfacecolor="white", markeredgewidth=0.9)


def _bytes(raw: Tensor) -> bytes:
    """A raw map's scores, scaled to 0 … 255; all 0 where they are all alike."""
    raw = (raw - raw.min()).double()
    return (255 * raw / raw.max() if raw.max() > 0 else raw).round().byte().numpy().tobytes()


def _jpeg(image: Tensor) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "JPEG", quality=85)
    return stream.getvalue()


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
