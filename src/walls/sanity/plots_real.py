"""Notebook 9's later sections, drawn: classes, randomised parts, sides, and what maps are worth."""

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from walls.figures.style import DEAD, SMALL, WIDTH
from walls.figures.style import SEEN as BLUE
from walls.sanity import masking, sides
from walls.sanity.cascade import summary
from walls.sanity.classes import HIDDEN, SEEN, OverClasses

ORANGE, GREY = "#de8f05", "0.55"
PLACES = {sides.TOP: ("^", ORANGE), sides.MIDDLE: ("s", GREY), sides.BOTTOM: ("v", BLUE)}


def over_classes(found: Mapping[str, OverClasses]) -> Figure:
    """Of trained and of random classes.

    Left, the mean map over the expected one, by position; right, P(score > 0) of every class."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2.9))
    for (name, over), colour in zip(found.items(), (BLUE, ORANGE), strict=True):
        parts = (np.s_[:, : over.wall], np.s_[:, over.wall :])
        for row, part in enumerate(parts):
            values = over.ratio()[part]
            drawn = {"bins": np.linspace(0.8, 1.3, 41), "color": colour, "histtype": "step"}
            drawn |= {"linestyle": ("-", ":")[row], "label": f"{name}, {(SEEN, HIDDEN)[row]}"}
            axes[0].hist(values[np.isfinite(values)], **drawn)
        drawn = {"bins": np.linspace(0, 1, 41), "color": colour, "histtype": "step"}
        axes[1].hist(over.class_positive[1], **drawn, label=name)
    axes[0].axvline(1, color="0.3", linestyle="--", linewidth=0.8)
    axes[1].axvline(0.5, color="0.3", linestyle="--", linewidth=0.8)
    axes[0].set(xlabel="mean map over the expected one", ylabel="positions")
    axes[1].set(xlabel="share of hidden positions above 0", ylabel="classes")
    for ax in axes:
        ax.legend(fontsize=SMALL, handlelength=1.4)
    return figure


def cascade(table: pd.DataFrame) -> Figure:
    """As parts are drawn anew from the top: rank correlation with the trained map, and µ×100.

    `table`: of `cascade.cascade`.
    """
    figure, axes = plt.subplots(2, 1, figsize=(WIDTH, WIDTH / 2), sharex=True)
    found = summary(table).reset_index()
    parts = found.drop_duplicates("step")["part"].tolist()
    methods = found["method"].unique()
    looks = ({"color": DEAD, "marker": "o"}, {"color": BLUE, "marker": "s", "linestyle": "--"})
    for method, look in zip(methods, looks, strict=False):
        own = found[found["method"] == method]
        drawn = look | {"markersize": 5 if look is looks[0] else 2.5, "label": method}
        axes[0].plot(own["step"], own["rank_seen"], **drawn)
        axes[1].plot(own["step"], 100 * own["mu"], **drawn)
    axes[0].axhline(0, color="0.7", linewidth=0.6)
    axes[0].set(ylabel="rank correlation,\nseen cells", ylim=(-0.3, 1.05))
    axes[1].set(ylabel="µ×100", ylim=(-3, 100), xlabel="randomised down to")
    axes[1].set_xticks(range(len(parts)), parts, rotation=30, ha="right", fontsize=SMALL)
    axes[0].legend(fontsize=SMALL)
    return figure


def costs(table: pd.DataFrame) -> Figure:
    """By hidden rows and place: how often the prediction stays, and the probability lost.

    `table`: of `sides.costs`.
    """
    table = sides.summary(table)
    figure, axes = plt.subplots(2, 2, figsize=(WIDTH, WIDTH / 1.8), sharex=True, sharey="row")
    for column, how in enumerate((sides.WALL, sides.GREY)):
        kind = table[table["how"] == how]
        axes[0, column].set_title({"wall": "behind a wall"}.get(how, how), fontsize=SMALL + 1)
        for number, (place, (marker, colour)) in enumerate(PLACES.items()):
            own = kind[kind["place"] == place]
            if own.empty:
                continue
            at = own["hidden_rows"] + 2.5 * (number - 1)
            drawn = {"color": colour, "marker": marker, "markersize": 3, "label": place}
            for ax, name in zip(axes[:, column], ("agrees", "drop"), strict=True):
                ax.plot(at, 100 * own[name], **drawn)
                ax.vlines(at, 100 * own[f"{name}_low"], 100 * own[f"{name}_high"], color=colour)
    axes[0, 0].set(ylabel="same class\npredicted (%)", ylim=(0, 103))
    axes[1, 0].set(ylabel="probability lost\n(points)")
    for ax in axes[1]:
        ax.axhline(0, color="0.7", linewidth=0.6)
        ax.set(xlabel="hidden rows", xticks=sorted(table["hidden_rows"].unique()))
    axes[0, 1].legend(fontsize=SMALL, loc="lower left")
    return figure


def worth(table: pd.DataFrame) -> Figure:
    """Both areas of every map, with 95% intervals, and its µ×100.

    `table`: of `masking.measured`.
    """
    table = masking.summary(table)
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, WIDTH / 2.6), sharey=True)
    places = np.arange(len(table))
    useless = table["method"].isin([masking.UNIFORM, masking.UNIFORM_SEEN])
    for ax, name, better in zip(axes, ("insertion", "deletion"), ("higher", "lower"), strict=True):
        _intervals(ax, table[useless], name, places[useless], GREY)
        _intervals(ax, table[~useless], name, places[~useless], BLUE)
        ax.set_xlabel(f"{name} area ({better} is better)")
    labels = [f"{row.method} ({row.mu:.1f})" for row in table.itertuples()]
    axes[0].set_yticks(places, labels)
    axes[0].set_ylim(len(table) - 0.5, -0.5)
    return figure


def _intervals(ax: Axes, table: pd.DataFrame, name: str, places: np.ndarray, colour: str) -> None:
    ax.hlines(places, table[f"{name}_low"], table[f"{name}_high"], color=colour, linewidth=1)
    ax.plot(table[name], places, "o", color=colour, markersize=3.5)
