"""Every wall at once, shown."""

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from walls.figures.style import DEAD, SEEN, WIDTH, literal

COLUMNS = 3  # panels side by side


def height_curves(table: pd.DataFrame, trained: pd.DataFrame, classes: int) -> Figure:
    """Accuracy, and every method's activity, against the wall's height.

    Each has a panel, with 95% intervals.

    `table`: sweep.table; dashed, a uniform map's activity, and chance. `trained`: rows of the same
    columns for the network that was trained as a whole behind its wall, marked by a diamond.
    """
    methods = list(table["method"].unique())
    rows = -(-(1 + len(methods)) // COLUMNS)
    figure, axes = plt.subplots(
        rows, COLUMNS, figsize=(WIDTH, WIDTH * 0.29 * rows + 0.3), sharey=True, squeeze=False
    )
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
        ax.set_title(f"{literal(method)}, µ×100")
    for ax in axes.flat[: 1 + len(methods)]:
        last = (
            ax.get_subplotspec().rowspan.stop * COLUMNS + ax.get_subplotspec().colspan.start
            > len(methods)
        )
        ticks = walls[::-1][::2]  # every second: the dead zones' heights are wide
        labels = [
            f"{wall}\n{dead}"
            for wall, dead in zip(ticks["wall_rows"], ticks["dead_rows"], strict=True)
        ]
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


def _panel(
    ax: Axes,
    rows: pd.DataFrame,
    columns: tuple[str, str, str],
    mark: pd.DataFrame,
    scale: float,
    colour: str,
) -> None:
    """A mean and its interval against the wall's height.

    The fully trained network's stands beside it.
    """
    x, (mean, low, high) = rows["wall_rows"], (scale * rows[column] for column in columns)
    ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
    ax.plot(x, mean, color=colour, marker="o", markersize=3, linewidth=1.2)
    for _, one in mark.iterrows():
        x, (at, down, up) = one["wall_rows"] + 0.3, (scale * one[column] for column in columns)
        ax.vlines(x, down, up, color="0.1", linewidth=0.9)
        ax.plot(
            x,
            at,
            color="0.1",
            marker="D",
            markersize=4,
            markerfacecolor="white",
            markeredgewidth=0.9,
        )
