"""Figures: one style, the dead zone always red and hatched, every function returns a Figure or draws on an Axes."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor, nn

from walls.geometry import DeadZone, kinds

DEAD = "#c8102e"  # the dead zone, and whatever lies behind the wall
SEEN = "#33608c"
HEAT = "magma"  # perceptually uniform, readable in greyscale
BAND = 9  # methods side by side; more go below
WIDTH = 12.2 / 2.54 * 1.6  # inches: LNCS's text width, drawn larger and set at that width


def use_style() -> None:
    """The one style of all figures."""
    sns.set_theme(context="notebook", style="ticks", palette="colorblind", font_scale=0.85)
    plt.rcParams.update({
        "figure.dpi": 80, "savefig.dpi": 130, "savefig.bbox": "tight", "savefig.pad_inches": 0.04,
        "figure.constrained_layout.use": True, "pdf.fonttype": 42, "svg.hashsalt": "walls", "hatch.linewidth": 0.6,
        "axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": "medium", "legend.frameon": False,
    })  # fmt: skip


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write `name.pdf` and `name.png` into `folder`, without dates, so that equal figures are equal files."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png", metadata={"Software": None})
    return figure


def save_sheet(figure: Figure, folder: Path, name: str) -> Figure:
    """Write a contact sheet as `name.png` alone: a hundred small pictures are no vector graphic."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(folder / f"{name}.png", metadata={"Software": None}, dpi=110)
    return figure


def collect(runs: Path, folder: Path) -> list[str]:
    """Copy every stage's figures, and the numbers in them, to `folder`; their names."""
    folder.mkdir(parents=True, exist_ok=True)
    found = sorted(runs.glob("*/figures/*.*"))
    for file in found:
        shutil.copyfile(file, folder / file.name)
    return [file.name for file in found]


def dead_band(ax: Axes, first: float, last: float, width: float, over_heat: bool = False, left: float = 0) -> None:
    """Mark the rows `first` to `last` of an image drawn on `ax`; `over_heat`: by an outline that leaves colours alone."""
    place = {"xy": (left - 0.5, first - 0.5), "width": width, "height": last - first}
    if over_heat:
        ax.add_patch(Rectangle(**place, facecolor="none", edgecolor="white", hatch="//", linewidth=0, alpha=0.25))
        ax.add_patch(Rectangle(**place, facecolor="none", edgecolor=DEAD, linewidth=1.6))
        return
    ax.add_patch(Rectangle(**place, facecolor=DEAD, alpha=0.16, linewidth=0))
    ax.add_patch(Rectangle(**place, facecolor="none", edgecolor=DEAD, hatch="////", linewidth=0.8, alpha=0.8))


def show(ax: Axes, image: Tensor, edge: int | None = None, heat: Tensor | None = None) -> None:
    """An image (3, H, W), uint8 or in [0, 1], its dead zone from row `edge`, a saliency map (H, W) laid over it."""
    height, width = image.shape[1:]
    ax.imshow(image.permute(1, 2, 0).numpy())
    if heat is not None:
        ax.imshow(heat.numpy(), cmap=HEAT, alpha=0.6, vmin=0, vmax=1)
    if edge is not None:
        dead_band(ax, edge, height, width, over_heat=heat is not None)
    _bare(ax)


def contact_sheet(images: Sequence[Tensor], titles: Sequence[str], columns: int, edge: int | None = None) -> Figure:
    """Images in rows of `columns`, each under its title."""
    rows = -(-len(images) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(WIDTH, WIDTH * rows / columns * 1.16), squeeze=False)
    for ax in axes.flat[len(images) :]:
        ax.remove()
    for ax, image, title in zip(axes.flat, images, titles, strict=False):
        show(ax, image, edge)
        ax.set_title(title, fontsize=7, pad=2)
    return figure


def crop_sheet(
    images: Sequence[Tensor], titles: Sequence[str], frames: Sequence[tuple[int, int, int]], columns: int, edge: float
) -> Figure:
    """Images as in `contact_sheet`, with the square (top, left, size) to be cut out of each and the dead zone in it.

    `edge`: the share of the square's height at which the dead zone begins.
    """
    figure = contact_sheet(images, titles, columns)
    for ax, (top, left, size) in zip(figure.axes, frames, strict=True):
        dead_band(ax, top + edge * size, top + size, size, left=left)
        ax.add_patch(Rectangle((left - 0.5, top - 0.5), size, size, facecolor="none", edgecolor=SEEN, linewidth=1.6))
    return figure


def example(image: Tensor, raw: Tensor, upscaled: Tensor, facts: dict) -> Figure:
    """Figure 1: an image, its raw saliency map (h, w), and the upscaled one laid over it. `facts`: metrics/wall.json."""
    edge, seen = facts["seen_rows"], facts["map_rows"] - facts["wall_rows"]
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, WIDTH / 2.85))
    show(axes[0], image, edge)
    axes[1].imshow(raw.numpy(), cmap=HEAT)
    dead_band(axes[1], seen, len(raw), raw.shape[1], over_heat=True)
    _bare(axes[1])
    show(axes[2], image, edge, upscaled)
    for ax, title in zip(axes, ("the image", "GradCAM, before upscaling", "GradCAM, as users see it"), strict=True):
        ax.set_title(title)
    return figure


def saliency_grid(
    images: Sequence[Tensor],
    maps: dict[str, Sequence[Tensor]],
    names: Sequence[str],
    edge: int,
    activity: pd.DataFrame | None = None,
) -> Figure:
    """Figures 7 to 9: an image per row, a method per column, maps (N, H, W) laid over it, μ×100 below.

    `activity`: μ per image (rows) and method (columns), in [0, 1]. More than nine methods take further rows.
    """
    methods = list(maps)
    bands = -(-len(methods) // BAND)
    columns = -(-len(methods) // bands)
    width = 1.7 * WIDTH * (columns + 1) / (BAND + 1)
    height = width * len(images) * bands / (columns + 1) * 1.16
    figure, axes = plt.subplots(len(images) * bands, columns + 1, figsize=(width, height), squeeze=False)
    for row, name in enumerate(names):
        for ax in axes[row * bands : (row + 1) * bands].flat:
            ax.axis("off")
        first = axes[row * bands, 0]
        first.axis("on")
        show(first, images[row], edge)
        first.set_ylabel(name, fontsize=9)
        for place, method in enumerate(methods):
            ax = axes[row * bands + place // columns, 1 + place % columns]
            ax.axis("on")
            show(ax, images[row], edge, maps[method][row])
            if activity is not None:
                mu = activity[method].iloc[row]
                ax.set_xlabel("empty map" if np.isnan(mu) else f"µ×100 = {100 * mu:.1f}", fontsize=8)
            if row == 0 or bands > 1:
                ax.set_title(method, fontsize=10 if bands == 1 else 8)
    axes[0, 0].set_title("image", fontsize=10)
    return figure


def eigencam_signs(activity: pd.DataFrame, paper: dict[str, dict]) -> Figure:
    """What the sign of EigenCAM's singular vector does: every image's μ×100 for the library's sign and for both.

    `activity`: long, with dataset, method, mu. `paper`: claims.PAPER.
    """
    labels = {"EigenCAM": "as the SVD\nreturns it", "EigenCAM (sign fixed)": "towards\nthe features",
              "EigenCAM (other sign)": "away\nfrom them"}  # fmt: skip
    table = activity[activity["method"].isin(labels)].dropna(subset="mu")
    datasets = list(table["dataset"].unique())
    figure, axes = plt.subplots(1, len(datasets), figsize=(WIDTH, WIDTH / 2.6), sharey=True, squeeze=False)
    for ax, dataset in zip(axes.flat, datasets, strict=True):
        part = table[table["dataset"] == dataset]
        shown = pd.DataFrame({"sign": part["method"].map(labels), "mu": 100 * part["mu"]})
        sns.boxplot(shown, x="sign", y="mu", order=labels.values(), color=SEEN, fliersize=2, linewidth=0.8, width=0.5, ax=ax)
        mean, std = paper[dataset]["EigenCAM"]
        ax.axhspan(mean - std, mean + std, color="0.5", alpha=0.2, linewidth=0)
        ax.axhline(mean, color="0.3", linestyle="--", linewidth=0.9)
        ax.text(2.45, mean + 1, f"the paper: {mean} ± {std}", ha="right", va="bottom", fontsize=8)
        ax.set(title=dataset.upper(), xlabel="sign of the singular vector", ylabel="µ×100", ylim=(-2, 102))
    return figure


def curves(histories: dict[str, pd.DataFrame]) -> Figure:
    """Figure 5: training loss, validation top-1 and top-5 accuracy per epoch, masked and baseline."""
    history = pd.concat([table.assign(model=which) for which, table in histories.items()], ignore_index=True)
    figure, axes = plt.subplots(1, 3, figsize=(WIDTH, WIDTH / 3))
    panels = (("train_loss", "training loss"), ("top1", "validation top-1"), ("top5", "validation top-5"))
    for ax, (column, title) in zip(axes, panels, strict=True):
        sns.lineplot(history, x="epoch", y=column, hue="model", style="model", markers=True, ax=ax,
                     palette={"masked": DEAD, "baseline": SEEN}, legend=column == "train_loss")  # fmt: skip
        ax.set(title=title, ylabel="", xticks=_ticks(history["epoch"].max()))
    if axes[0].get_legend():
        axes[0].get_legend().set_title("")
    return figure


def activity_plot(activity: pd.DataFrame, uniform: float) -> Figure:
    """μ×100 of every image: a box and a point cloud per method and dataset; dashed, a uniform map.

    `activity`: long, with the columns dataset, method, mu.
    """
    table = activity.assign(mu=100 * activity["mu"], dataset=activity["dataset"].str.upper()).dropna(ignore_index=True)
    figure, ax = plt.subplots(figsize=(WIDTH * max(1, table["method"].nunique() / 12), WIDTH / 2.2))
    kind = {"data": table, "x": "method", "y": "mu", "hue": "dataset", "dodge": True, "ax": ax}
    sns.boxplot(**kind, fliersize=0, linewidth=0.8, boxprops={"alpha": 0.4}, legend=True)
    state = np.random.get_state()
    np.random.seed(0)  # seaborn jitters with the global generator
    sns.stripplot(**kind, size=1.8, alpha=0.6, jitter=0.18, legend=False)
    np.random.set_state(state)
    ax.axhline(100 * uniform, color="0.3", linestyle="--", linewidth=0.9)
    ax.text(1.01, 100 * uniform, f"a uniform\nmap: {100 * uniform:.1f}", transform=ax.get_yaxis_transform(), va="center",
            fontsize=8)  # fmt: skip
    ax.set(xlabel="", ylabel="activity in the dead zone, µ×100", ylim=(-2, 102))
    plt.setp(ax.get_xticklabels(), rotation=30, ha="right", rotation_mode="anchor")
    sns.move_legend(ax, "lower right", bbox_to_anchor=(1, 1), ncol=2, title=None)
    return figure


def rows_needed(zone: DeadZone, layers: Sequence[str]) -> Figure:
    """How far down every layer is read: the share of its rows that reach a logit, from the image to **B**."""
    figure, ax = plt.subplots(figsize=(WIDTH, WIDTH / 3))
    share = 100 * np.array(zone.rows) / np.array(zone.heights)
    steps = np.arange(len(share))
    ax.bar(steps, share, color=SEEN, width=0.8)
    ax.bar(steps, 100 - share, bottom=share, facecolor="none", edgecolor=DEAD, hatch="////", linewidth=0, width=0.8)
    last = None
    for step, (rows, height) in enumerate(zip(zone.rows, zone.heights, strict=True)):
        if height != last:
            ax.text(step, 3, f"{rows}/{height}", rotation=90, ha="center", va="bottom", color="white", fontsize=8)
        last = height
    ax.set_xticks(steps, ["image", *layers], rotation=90, fontsize=7)
    ax.set(ylabel="rows needed (%)", ylim=(100, 0), xlim=(-0.6, len(share) - 0.4))
    return figure


def network(model: nn.Module, image_size: int) -> Figure:
    """Figure 4: the masked [VGG], every block with the rows that no logit reads in red, and W's own zeros.

    Of W (dense, C, h, w) the mean |weight| per position is drawn.
    """
    zone, layers, weight = model.zone(image_size), kinds(model.features), model.head[0].full_weight()
    dense, classes = model.config["dense"], model.config["classes"]
    figure, ax = plt.subplots(figsize=(1.35 * WIDTH, WIDTH / 1.75))
    x, gap, thick = 0.0, 14.0, 26.0
    starts = [0] + [n + 1 for n, layer in enumerate(layers) if layer == "pool"]
    _block(ax, x, 110, zone.rows[0] / zone.heights[0], zone.heights[0], "image ξ")
    for block, start in enumerate(starts):
        x += (110 if block == 0 else thick) + gap
        end = starts[block + 1] - 1 if block + 1 < len(starts) else len(layers)
        convolutions = sum(layer == "conv" for layer in layers[start:end])
        _block(
            ax,
            x,
            thick,
            zone.rows[end] / zone.heights[end],
            zone.heights[end],
            f"{convolutions}×conv" + ("\n= B" if end == len(layers) else ""),
        )
    x += thick + 3 * gap
    size = 120
    profile = weight.abs().mean(dim=(0, 1)).numpy()
    ax.imshow(profile, cmap="Greys", extent=(x, x + size, size, 0), vmin=0, zorder=2)
    _outline(ax, x, size, size, zone.rows[-1] / zone.map_rows)
    ax.text(x + size / 2, size + 6, f"W, {dense}×({weight.shape[1]}×{zone.map_rows}×{weight.shape[3]})\nmean |weight|; "
            f"bottom {zone.wall_rows} rows are 0", ha="center", va="top", fontsize=8)  # fmt: skip
    x += size + 2 * gap
    for units, label in ((dense, "dense"), (dense, "dense"), (classes, "logits")):
        height = 100 if units == dense else 40
        ax.add_patch(Rectangle((x, 0), 10, height, facecolor=SEEN, alpha=0.35, edgecolor="0.2", linewidth=0.8))
        ax.text(x + 5, height + 6, f"{label}\n{units}", ha="center", va="top", fontsize=8)
        x += 10 + 2.4 * gap
    ax.set(xlim=(-4, x), ylim=(272, -12))
    ax.set_aspect("equal")
    ax.axis("off")
    return figure


def _block(ax: Axes, x: float, thick: float, seen: float, height: int, label: str) -> None:
    ax.add_patch(Rectangle((x, 0), thick, height * seen, facecolor=SEEN, alpha=0.35, linewidth=0))
    _outline(ax, x, thick, height, seen)
    ax.text(
        x + thick / 2, height + 6, f"{label}\n{round(height * seen)} of\n{height} rows", ha="center", va="top", fontsize=7
    )


def _outline(ax: Axes, x: float, width: float, height: float, seen: float) -> None:
    """A frame whose lower part, from the share `seen` on, lies behind the wall."""
    ax.add_patch(Rectangle((x, height * seen), width, height * (1 - seen), facecolor=DEAD, alpha=0.16, linewidth=0))
    ax.add_patch(Rectangle((x, height * seen), width, height * (1 - seen), facecolor="none", edgecolor=DEAD, hatch="////",
                           linewidth=0.8, zorder=3))  # fmt: skip
    ax.add_patch(Rectangle((x, 0), width, height, facecolor="none", edgecolor="0.2", linewidth=0.8, zorder=4))


def _bare(ax: Axes) -> None:
    ax.set(xticks=[], yticks=[])
    sns.despine(ax=ax, left=True, bottom=True)


def _ticks(epochs: int) -> list[int]:
    epochs = 0 if np.isnan(epochs) else int(epochs)  # no epoch at all: weights from a checkpoint
    step = max(1, -(-epochs // 6))
    return list(range(step, epochs + 1, step))
