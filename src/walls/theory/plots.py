"""The theory notebook's figures, each a Figure; the dead zone is red and hatched as everywhere."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from walls.figures.pictures import dead_band
from walls.figures.style import DEAD, SEEN, SMALL, WIDTH
from walls.theory.formulas import Array, Sizes


def _bare(ax: Axes, title: str) -> None:
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)
    ax.set_title(title, loc="left")


def _map(
    ax: Axes, values: Array, wall: int, title: str, top: float | None = None, bar: bool = True
) -> None:
    """A map (h, w), its rows from `wall` on outlined and hatched beside the scores."""
    drawn = ax.imshow(values, vmin=0, vmax=top)
    rows, columns = values.shape
    ax.add_patch(
        Rectangle(
            (-0.5, wall - 0.5),
            columns,
            rows - wall,
            facecolor="none",
            edgecolor=DEAD,
            linewidth=1.2,
        )
    )
    ax.add_patch(
        Rectangle(
            (-0.5 - 0.06 * columns, wall - 0.5),
            0.06 * columns,
            rows - wall,
            facecolor="none",
            edgecolor=DEAD,
            hatch="////////",
            linewidth=0.6,
            clip_on=False,
        )
    )
    if bar:
        plt.colorbar(drawn, ax=ax, shrink=0.8, format="%.2g")
    _bare(ax, title)


def digit_and_map(
    image: Array, values: Array, size: Sizes, kernel: int, title: str = "GradCAM"
) -> Figure:
    """Figure 3: the digit ξ (H, W) with its dead zone, and the masked [CNN]'s map (h, w)."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.46 * WIDTH), layout="compressed")
    axes[0].imshow(image, cmap="gray", vmin=0, vmax=1)
    dead_band(axes[0], size.wall + kernel - 1, len(image), image.shape[1])
    _bare(axes[0], "the digit ξ")
    _map(axes[1], values, size.wall, title)
    return figure


def expectation(
    samples: Mapping[int, tuple[float, float]], curves: Mapping[str, tuple[Sequence[int], Array]]
) -> Figure:
    """The expected score at one position against V: Monte Carlo {V: (mean, error)}, and lines."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.5 * WIDTH), width_ratios=(1.25, 1))
    v = np.array(list(samples))
    mean, error = np.array(list(samples.values())).T
    exact = dict(zip(*curves["exact expectation"], strict=True))
    there = np.array([exact[x] for x in v])
    styles = {
        "exact expectation": ("0.15", "-"),
        "large-V limit": (SEEN, ":"),
        "moment bound, ours": (SEEN, "--"),
        "bound of Theorem 1 (Eq. 5)": (DEAD, "-."),
    }
    for name, (at, values) in curves.items():
        color, line = styles[name]
        axes[0].plot(at, values, line, color=color, label=name)
        axes[1].plot(at, np.array(values) / [exact[x] for x in at], line, color=color)
    points = {"fmt": "o", "color": "0.15", "markersize": 2.5, "capsize": 2, "linewidth": 0.8}
    axes[0].errorbar(v, mean, 4 * error, label="Monte Carlo, ± 4 errors", **points)
    axes[1].errorbar(v, mean / there, 4 * error / there, **points)
    axes[1].axhline(1 / np.sqrt(2), color="0.6", linewidth=0.7)
    axes[1].text(0.8, 1 / np.sqrt(2) + 0.02, "1/√2", fontsize=SMALL, color="0.3")
    axes[0].set(xscale="log", yscale="log", xlabel="number of filters V", ylabel="E[[GC]$_{ij}$]")
    axes[0].set_ylim(min(there) / 3, None)
    axes[0].set_title("expected GradCAM score in the dead zone")
    axes[0].legend(fontsize=SMALL, loc="upper left", borderaxespad=0)
    axes[1].set(xscale="log", xlabel="number of filters V", ylim=(0, 1.3))
    axes[1].set_title("over the exact expectation")
    return figure


def expected_maps(maps: Mapping[str, Array], wall: int) -> Figure:
    """Maps (h, w) side by side, one colour scale each: the expectation, its bound, single draws."""
    figure, axes = plt.subplots(
        1, len(maps), figsize=(WIDTH, 1.3 * WIDTH / len(maps)), layout="compressed"
    )
    for ax, (title, values) in zip(axes, maps.items(), strict=True):
        _map(ax, values, wall, title)
    return figure


def depth_dependence(
    samples: Mapping[int, tuple[float, float]], exact: Sequence[float], per_layer: float
) -> Figure:
    """The expected score at one position for L = 1 …: Monte Carlo {L: (mean, error)}, formula."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.42 * WIDTH))
    depth = np.array(list(samples))
    mean, error = np.array(list(samples.values())).T
    points = {"fmt": "o", "color": "0.15", "markersize": 2.5, "capsize": 2, "linewidth": 0.8}
    for ax, scale in zip(axes, (1.0, per_layer), strict=True):
        division = scale ** (depth - 1.0)
        ax.plot(depth, np.array(exact) / division, color=SEEN, label="exact")
        ax.errorbar(
            depth, mean / division, 4 * error / division, label="Monte Carlo, ± 4 errors", **points
        )
        ax.set(xticks=depth, xlabel="dense layers L", ylim=(0, None))
    axes[0].set(yscale="log", ylim=(mean.min() / 2, None), ylabel="E[[GC]$_{ij}$]")
    axes[0].set_title("with weights from N(0, τ²)")
    axes[0].legend()
    axes[1].set_title("divided by each hidden layer's factor")
    axes[1].set_ylim(0, 1.3 * exact[0])
    return figure


def predicted_class(
    curves: Mapping[str, Array], points: Mapping[int, Mapping[str, float]]
) -> Figure:
    """P(> 0) and the expected score against the number of classes K: the law, and simulations."""
    figure, axes = plt.subplots(1, 2, figsize=(WIDTH, 0.42 * WIDTH))
    marks = {"color": "0.15", "linestyle": "none", "marker": "o", "markersize": 2.5}
    for ax, name in zip(axes, ("P(> 0)", "factor"), strict=True):
        ax.axhline(0.5 if name == "P(> 0)" else 1, color="0.6", linewidth=0.8, label="fixed class")
        ax.plot(curves["K"], curves[name], color=SEEN, label="exact, predicted class")
        drawn = [point[name] for point in points.values()]
        ax.plot(list(points), drawn, label="Monte Carlo", **marks)
        ax.set(xscale="log", xlabel="classes K", ylim=(0, None))
    axes[0].set_title("P([GC]$_{ij}$ > 0)", loc="left")
    axes[1].set_title("E[[GC]$_{ij}$], fixed class = 1", loc="left")
    axes[0].legend(loc="lower right")
    return figure


def methods(maps: Mapping[str, Array], wall: int) -> Figure:
    """One map (h, w) per method over many networks, each up to its own 98% quantile."""
    figure, axes = plt.subplots(
        2, -(-len(maps) // 2), figsize=(WIDTH, 0.8 * WIDTH), layout="compressed"
    )
    for ax in axes.flat[len(maps) :]:
        ax.remove()
    for ax, (title, values) in zip(axes.flat, maps.items(), strict=False):
        _map(
            ax,
            values,
            wall,
            title.replace(", ", ",\n"),
            float(np.quantile(values, 0.98)),
            bar=False,
        )
    return figure


def model(
    size: Sizes, image_shape: tuple[int, int], filters: int, kernel: int, pool: int, depth: int
) -> Figure:
    """Figure 2: [CNN] from ξ to y_c, with what W can't see in red.

    ξ, A, B and C are stacks, F(·) columns. The drawing's unit is half a centimetre on paper where L
    = 1; a deeper [CNN] is drawn smaller.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, 0.36 * WIDTH), layout="none")
    ax.set_position((0, 0, 1, 1))
    seen = size.seen // size.pooled_columns
    stages = [
        ("ξ", image_shape, (size.wall + kernel - 1) / image_shape[0] if seen else 0, 1),
        ("A", (size.rows, size.columns), size.wall / size.rows, 3),
        ("B", (size.rows, size.columns), size.wall / size.rows, 3),
        ("C", (size.pooled_rows, size.pooled_columns), seen / size.pooled_rows, 3),
    ]
    arrows = (
        f"$\\mathcal{{C}}$: {filters}\nfilters\n{kernel}×{kernel}",
        "σ: ReLU",
        f"$\\mathcal{{M}}$: max\n{pool}×{pool}",
        "W$^{(1)}$",
    )
    x = 0.0
    for (name, (rows, columns), share, sheets), arrow in zip(stages, arrows, strict=True):
        height, width = 3.6 * rows / image_shape[0], 3.6 * columns / image_shape[0]
        for sheet in reversed(range(sheets)):
            left, top = x + 0.2 * sheet, -height / 2 - 0.2 * sheet
            dead = {
                "xy": (left, top + height * share),
                "width": width,
                "height": height * (1 - share),
            }
            ax.add_patch(
                Rectangle(
                    (left, top), width, height, facecolor="white", edgecolor="0.25", linewidth=0.7
                )
            )
            ax.add_patch(
                Rectangle(
                    (left, top), width, height * share, facecolor=SEEN, alpha=0.3, linewidth=0
                )
            )
            ax.add_patch(Rectangle(**dead, facecolor=DEAD, alpha=0.16, linewidth=0))
            ax.add_patch(
                Rectangle(**dead, facecolor="none", edgecolor=DEAD, hatch="//////", linewidth=0.7)
            )
        count = f"{filters}×" if sheets > 1 else ""
        ax.text(
            x + width / 2,
            height / 2 + 0.2,
            f"{name}\n{count}{rows}×{columns}",
            ha="center",
            va="top",
            fontsize=7,
        )
        x = _arrow(ax, x + width + 0.2 * (sheets - 1), arrow)
    for level in range(depth):
        tall = 2.2 if level < depth - 1 else 0.4
        ax.add_patch(
            Rectangle(
                (x, -tall / 2),
                0.4,
                tall,
                facecolor=SEEN,
                alpha=0.3,
                edgecolor="0.25",
                linewidth=0.7,
            )
        )
        label = f"a$^{{({level + 1})}}$" + ("\n= y$_c$" if level == depth - 1 else "")
        ax.text(x + 0.2, tall / 2 + 0.2, label, ha="center", va="top", fontsize=7)
        x = _arrow(ax, x + 0.4, f"σ, W$^{{({level + 2})}}$") if level < depth - 1 else x + 0.4
    ax.text(
        0,
        -2.75,
        "g = σ ∘ $\\mathcal{C}$ gives B;   f = $\\mathcal{F}$ ∘ $\\mathcal{M}$ gives the score;   "
        "red: what the masked W$^{(1)}$ can't see",
        fontsize=SMALL + 0.5,
    )
    ax.set(xlim=(-0.1, x + 0.5), ylim=(3.2, -3.1), aspect="equal")
    ax.axis("off")
    return figure


def _arrow(ax: Axes, x: float, label: str) -> float:
    """An arrow to the right of x with its label above; where the next thing starts."""
    ax.add_patch(
        FancyArrowPatch(
            (x + 0.15, 0),
            (x + 1.85, 0),
            arrowstyle="-|>",
            mutation_scale=7,
            color="0.25",
            linewidth=0.7,
            shrinkA=0,
            shrinkB=0,
        )
    )
    ax.text(x + 0.9, -0.15, label, ha="center", va="bottom", fontsize=SMALL)
    return x + 2
