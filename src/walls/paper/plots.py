"""What notebook 7 draws: Figures 1 and 5, every image's activity, EigenCAM's signs."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from torch import Tensor

from walls.figures.pictures import bare, dead_band, grid, saliency_grid, show
from walls.figures.style import DEAD, SEEN, WIDTH, literal
from walls.network.geometry import DeadZone
from walls.paper.results import Maps
from walls.saliency.activity import upscale
from walls.saliency.controls import REDRAWN, SAME, STACKED
from walls.sanity.plots import MARKERS, by_control


def example(image: Tensor, raw: Tensor, zone: DeadZone, method: str) -> Figure:
    """Figure 1: an image, its raw saliency map (h, w), and the upscaled one laid over it."""
    (upscaled,) = upscale(raw[None], zone.image_rows)
    seen = zone.rows[-1]
    figure, (axes,) = grid(1, 3)
    show(axes[0], image, zone)
    axes[1].imshow(raw.numpy())
    dead_band(axes[1], seen, len(raw), raw.shape[1], over_heat=True)
    bare(axes[1])
    show(axes[2], image, zone, upscaled)
    for ax, title in zip(
        axes,
        ("the image", f"{method}, before upscaling", f"{method}, as users see it"),
        strict=True,
    ):
        ax.set_title(literal(title))
    return figure


def map_grid(
    parts: Sequence[Maps], count: int, zone: DeadZone, methods: Sequence[str] | None = None
) -> Figure:
    """Figures 7 to 9: the first `count` images of every dataset, with the maps of all `methods`."""
    methods = methods or parts[0].methods
    pictures = [image for part in parts for image in part.pictures[:count]]
    laid = {
        method: [
            upscale(raw[None], zone.image_rows)[0]
            for part in parts
            for raw in part.raw[method][:count]
        ]
        for method in methods
    }
    classes = [name for part in parts for name in part.classes[:count]]
    mu = pd.concat([part.mu.head(count) for part in parts])
    return saliency_grid(pictures, laid, classes, zone, mu)


def eigencam_signs(activity: pd.DataFrame, paper: dict[str, dict]) -> Figure:
    """What the sign of EigenCAM's singular vector does.

    It shows every image's µ×100 for the library's sign and for both.

    `activity`: long, with dataset, method, mu. `paper`: table1.PAPER_TABLE.
    """
    labels = {
        "EigenCAM": "as the SVD\nreturns it",
        "EigenCAM (sign fixed)": "towards\nthe features",
        "EigenCAM (other sign)": "away\nfrom them",
    }
    table = activity[activity["method"].isin(labels)].dropna(subset="mu")
    datasets = list(table["dataset"].unique())
    figure, axes = plt.subplots(
        1, len(datasets), figsize=(WIDTH, WIDTH / 2.3), sharey=True, squeeze=False
    )
    for ax, dataset in zip(axes.flat, datasets, strict=True):
        part = table[table["dataset"] == dataset]
        shown = pd.DataFrame({"sign": part["method"].map(labels), "mu": 100 * part["mu"]})
        sns.boxplot(
            shown,
            x="sign",
            y="mu",
            order=labels.values(),
            color="#9db4cc",
            fliersize=1.5,
            linewidth=0.7,
            width=0.5,
            zorder=2,
            ax=ax,
        )
        mean, std = paper[dataset]["EigenCAM"]
        ax.axhspan(mean - std, mean + std, color="0.88", linewidth=0, zorder=0)
        ax.axhline(mean, color="0.3", linestyle="--", linewidth=0.8, zorder=1)
        ax.set(
            title=f"{dataset.upper()} (grey: the paper, {mean} ± {std})",
            xlabel="sign of the singular vector",
            ylabel="µ×100",
            ylim=(-2, 102),
        )
    return figure


def training_curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Figure 5: loss, validation top-1 and top-5 accuracy per epoch, masked and baseline.

    Further networks (masked-1, …) are thin lines of the masked one's kind.
    """
    history = pd.concat(
        [
            table.assign(model=which.partition("-")[0], network=which)
            for which, table in histories.items()
        ],
        ignore_index=True,
    )
    first = history[history["network"] == history["model"]]
    further = history[history["network"] != history["model"]]
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, WIDTH / 2.8))
    panels = (
        ("train_loss", "training loss"),
        ("top1", "validation top-1"),
        ("top5", "validation top-5"),
    )
    for ax, (column, title) in zip(axes, panels, strict=True):
        for _, own in further.groupby("network"):
            ax.plot(own["epoch"], own[column], color=DEAD, linewidth=0.7, alpha=0.6)
        sns.lineplot(
            first,
            x="epoch",
            y=column,
            hue="model",
            style="model",
            markers=True,
            markersize=4,
            ax=ax,
            palette={"masked": DEAD, "baseline": SEEN},
            legend=column == "train_loss",
        )
        ax.set(title=title, ylabel="", xticks=_ticks(history["epoch"].max()))
    if axes[0].get_legend():
        axes[0].get_legend().set_title("")
    return figure


def activity_plot(activity: pd.DataFrame, uniform: float) -> Figure:
    """µ×100 of every image: a box and a point cloud per method and dataset; dashed, a uniform map.

    `activity`: long, with the columns dataset, method, mu.
    """
    table = activity.assign(
        mu=100 * activity["mu"],
        dataset=activity["dataset"].str.upper(),
        method=activity["method"].map(literal),
    ).dropna(ignore_index=True)
    figure, ax = plt.subplots(figsize=(WIDTH, 0.6 + 0.21 * table["method"].nunique()))
    colours = [SEEN, "#de8f05"][: table["dataset"].nunique()]
    kind = {
        "data": table,
        "x": "mu",
        "y": "method",
        "hue": "dataset",
        "dodge": True,
        "ax": ax,
        "palette": colours,
    }
    sns.boxplot(**kind, fliersize=0, linewidth=0.6, boxprops={"alpha": 0.45}, legend=True)
    state = np.random.get_state()
    np.random.seed(0)  # seaborn jitters with the global generator
    sns.stripplot(**kind, size=1.2, alpha=0.6, jitter=0.18, legend=False)
    np.random.set_state(state)
    ax.axvline(100 * uniform, color="0.3", linestyle="--", linewidth=0.8)
    ax.set(
        ylabel="",
        xlabel=f"activity in the dead zone, µ×100 (dashed: a uniform map, {100 * uniform:.1f})",
    )
    ax.set_xlim(-2, 102)
    sns.move_legend(ax, "lower right", bbox_to_anchor=(1, 1), ncol=2, title=None, borderaxespad=0)
    return figure


def control(table: pd.DataFrame, uniform: float) -> Figure:
    """µ×100 under every control, a panel per dataset; last, how much lies on the hidden animal.

    Dashed, a map that is the same everywhere; `table`: control.tabulate's. Without images redrawn
    there is no last panel; methods at 0 on every image are left out.
    """
    same = table[table["control"] == SAME]
    lit = same[same["mean"] > 0] if (same["mean"] > 0).any() else same
    methods, datasets = list(dict.fromkeys(lit["method"])), list(table["dataset"].unique())
    mass = table[table["control"] == REDRAWN].set_index("method").reindex(methods)
    redrawn = bool(mass["on"].notna().any())
    panels = max(1, len(datasets)) + redrawn
    size = (WIDTH, 0.75 + 0.24 * len(methods))
    figure, axes = plt.subplots(1, panels, figsize=size, sharey=True, squeeze=False)
    for ax, dataset in zip(axes.flat, datasets, strict=False):
        own = table[table["dataset"] == dataset]
        shown = [name for name in STACKED if name in set(own["control"])]
        by_control(ax, own, methods, shown, uniform)
        ax.set(title=dataset.upper(), xlabel="µ×100\nin the dead zone")
    if redrawn:
        ax, rows = axes.flat[-1], range(len(methods))
        ax.hlines(rows, mass["on_low"], mass["on_high"], color=DEAD, linewidth=1)
        ax.plot(mass["on"], rows, MARKERS[SAME][0], color=DEAD, markersize=3.5)
        ax.axvline(mass["area"].mean(), color="0.3", linestyle="--", linewidth=0.8)
        own = table.loc[table["control"] == REDRAWN, "dataset"].iloc[0]
        ax.set(title=own.upper(), xlabel="% of the mass there\non the animal", xlim=(-2, 102))
    shown = [name for name in STACKED if name in set(table["control"])]
    handles = [
        plt.Line2D([], [], marker=MARKERS[name][0], color=MARKERS[name][1], linestyle="")
        for name in shown
    ]
    columns = max(1, len(shown))
    figure.legend(handles, shown, loc="outside upper right", ncol=columns, markerscale=0.6)
    return figure


def _ticks(epochs: int) -> list[int]:
    epochs = 0 if np.isnan(epochs) else int(epochs)  # no epoch at all: weights from a checkpoint
    step = max(1, -(-epochs // 6))
    return list(range(step, epochs + 1, step))
