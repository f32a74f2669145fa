"""A check, drawn: every method's µ under each control, and the maps of a few images."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

from walls.figures.pictures import bare, dead_band, grid
from walls.figures.style import DEAD, SEEN, SMALL, WIDTH, literal
from walls.saliency.activity import upscale
from walls.saliency.controls import ANOTHER, GREY, NOISE, REDRAWN, SAME
from walls.sanity.report import Report

MARKERS = {
    SAME: ("o", SEEN),
    REDRAWN: ("X", DEAD),
    ANOTHER: ("s", "#de8f05"),
    NOISE: ("^", "0.45"),
    GREY: ("D", "0.75"),
}


def overview(report: Report) -> Figure:
    """Mean µ×100 of every method under each control, its 95% interval; dashed, a uniform map."""
    height = 0.55 + 0.24 * len(report.methods)
    figure, ax = plt.subplots(figsize=(WIDTH, height))
    by_control(ax, report.summary(), report.methods, report.controls, report.uniform)
    ax.set_xlabel(f"µ×100 in the hidden part (dashed: a uniform map, {100 * report.uniform:.1f})")
    _legend(ax, len(report.controls))
    return figure


def by_control(
    ax: Axes, table: pd.DataFrame, methods: Sequence[str], controls: Sequence[str], uniform: float
) -> None:
    """A row per method, in it each control's mean µ×100 and interval; dashed, a uniform map's.

    `table`: method, control, mean, ci_low, ci_high; `uniform` in [0, 1].
    """
    step = 0.8 / len(controls)
    for number, control in enumerate(controls):
        own = table[table["control"] == control].set_index("method").reindex(methods)
        places = np.arange(len(methods)) + step * (number - (len(controls) - 1) / 2)
        marker, colour = MARKERS[control]
        ax.hlines(places, own["ci_low"], own["ci_high"], color=colour, linewidth=1)
        drawn = {"color": colour, "markersize": 3.5, "linestyle": "", "label": control}
        ax.plot(own["mean"], places, marker, **drawn)
    ax.axvline(100 * uniform, color="0.3", linestyle="--", linewidth=0.8)
    ax.set_yticks(range(len(methods)), [literal(method) for method in methods])
    ax.set(xlim=(-2, 102), ylim=(len(methods) - 0.5, -0.5))


def every_image(report: Report) -> Figure:
    """µ×100 of every image: a row per method, a colour per control; dashed, uniform."""
    figure, ax = plt.subplots(figsize=(WIDTH, 0.55 + 0.3 * len(report.methods)))
    step = 0.8 / len(report.controls)
    places = {method: row for row, method in enumerate(report.methods)}
    for number, control in enumerate(report.controls):
        own = report.table[report.table["control"] == control].dropna(subset="mu")
        rows = own["method"].map(places) + step * (number - (len(report.controls) - 1) / 2)
        marker, colour = MARKERS[control]
        ax.plot(100 * own["mu"], rows, marker, color=colour, markersize=2, alpha=0.6, label=control)
    ax.axvline(100 * report.uniform, color="0.3", linestyle="--", linewidth=0.8)
    ax.set_yticks(range(len(report.methods)), report.methods)
    ax.set(xlim=(-2, 102), ylim=(len(report.methods) - 0.5, -0.5))
    ax.set_xlabel("µ×100 in the hidden part, of every image")
    _legend(ax, len(report.controls))
    return figure


def maps(report: Report, image: int = 0, methods: list[str] | None = None) -> Figure:
    """One image's maps: a method a row, a control a column, µ×100 below; hatched, what is hidden.

    `image`: one of the few whose maps the report keeps. Images are shown as they are fed to the
    network, each from the darkest to the brightest value of its seen part.
    """
    first = report.controls[0]
    chosen = [name for name in methods or report.methods if (name, first) in report.maps]
    figure, axes = grid(len(chosen) + 1, len(report.controls))
    size = tuple(report.images[first].shape[2:])
    for column, control in enumerate(report.controls):
        picture = _picture(report, control, image)
        _show(axes[0, column], picture, report)
        axes[0, column].set_title(control, fontsize=SMALL, pad=2)
        for row, method in enumerate(chosen, 1):
            ax = axes[row, column]
            if column == 0:
                ax.set_ylabel(method, fontsize=SMALL, labelpad=2)
            if (method, control) not in report.maps or image >= len(report.maps[method, control]):
                ax.axis("off")
                continue
            raw = report.maps[method, control][image : image + 1].float()
            _show(ax, picture, report, upscale(raw, size)[0])
            ax.set_xlabel(_shown(report, method, control, image), fontsize=SMALL, labelpad=2)
    return figure


def headline(report: Report, method: str, image: int = 0) -> Figure:
    """One image above an object of its class and above another: each with `method`'s map beside it.

    What is hidden is hatched; above a map stands its µ×100.
    """
    pairs = [control for control in (SAME, ANOTHER) if (method, control) in report.maps]
    size = tuple(report.images[pairs[0]].shape[2:])
    height = WIDTH / (2 * len(pairs)) * size[0] / size[1]
    figure, axes = plt.subplots(
        1, 2 * len(pairs), figsize=(WIDTH, height + 0.2), squeeze=False, layout="compressed"
    )
    for number, control in enumerate(pairs):
        whole, heat = axes[0, 2 * number : 2 * number + 2]
        picture = _picture(report, control, image)
        _show(whole, picture, report)
        whole.set_title(f"{control} below", fontsize=SMALL + 0.5, pad=3)
        raw = report.maps[method, control][image : image + 1].float()
        _show(heat, picture, report, upscale(raw, size)[0])
        said = f"{method}: {_shown(report, method, control, image)}"
        heat.set_title(said, fontsize=SMALL + 0.5, pad=3)
    zone = report.zone
    middles = [zone.seen_rows / 2, zone.seen_rows + zone.dead_rows / 2]
    if zone.side == "top":
        middles = [zone.image_rows - middle for middle in middles]
    side = {"rotation": 90, "va": "center", "fontsize": SMALL + 0.5}
    axes[0, 0].set_yticks(middles, ["seen", "hidden"], **side)
    axes[0, 0].tick_params(axis="y", length=0, pad=1)
    return figure


def _shown(report: Report, method: str, control: str, image: int) -> str:
    """µ×100 of one map, in words."""
    table = report.table
    own = (table["method"] == method) & (table["control"] == control) & (table["image"] == image)
    mu = table.loc[own, "mu"].iloc[0]
    return "empty" if np.isnan(mu) else f"µ×100 {100 * mu:.1f}"


def _show(ax: Axes, picture: np.ndarray, report: Report, heat: Tensor | None = None) -> None:
    ax.imshow(picture)
    if heat is not None:
        ax.imshow(heat.numpy(), alpha=0.6, vmin=0, vmax=1)
    zone, width = report.zone, picture.shape[1]
    first, last = zone.seen_rows, zone.image_rows
    if zone.side == "top":
        first, last = 0, zone.dead_rows
    dead_band(ax, first, last, width, over_heat=heat is not None)
    bare(ax)


def _picture(report: Report, control: str, image: int) -> np.ndarray:
    """A normalised image as one to look at, (H, W, 3) in [0, 1].

    From the darkest to the brightest value of its seen part, which so looks the same above
    whatever is hidden.
    """
    whole, zone = report.images[control][image], report.zone
    seen = whole[:, zone.dead_rows :] if zone.side == "top" else whole[:, : zone.seen_rows]
    low, high = seen.amin(), seen.amax()
    scaled = ((whole - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    return scaled[:3].permute(1, 2, 0).float().numpy()


def _legend(ax: Axes, columns: int) -> None:
    """The controls' marks, above the axes."""
    ax.legend(
        loc="lower right",
        bbox_to_anchor=(1, 1),
        ncol=columns,
        borderaxespad=0,
        fontsize=SMALL,
        handletextpad=0.2,
        columnspacing=1.0,
    )
