"""One style for all figures: colours, sizes, and files that are equal where the figures are.

Drawn at the size at which a paper sets them: LNCS's text width, letters of 6 points or more. What
is told apart by colour is told apart by lightness, line or hatching too, for greyscale and
colour-blind eyes.
"""

import html
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

DEAD = "#d7263d"  # the dead zone, and whatever lies behind the wall
SEEN = "#1d4570"  # much darker than DEAD, so that they differ in greyscale
HEAT = "magma"  # perceptually uniform, readable in greyscale
BAND = 8  # methods side by side; more go below
WIDTH = 12.2 / 2.54  # inches: LNCS's text width
SMALL = 6  # points: no letter is smaller


def heat_colours(heat: str = HEAT) -> str:
    """A colour map's 256 colours, six hexadecimal digits each: what the site's page draws with."""
    colours = np.rint(255 * plt.get_cmap(heat)(range(256))[:, :3])
    return colours.astype(np.uint8).tobytes().hex()


def literal(text: str) -> str:
    """A user's text, a class or a method, drawn as it is: Matplotlib reads $ … $ as a formula."""
    return text.replace("$", r"\$")


def use_style(heat: str = HEAT) -> None:
    """The one style of all figures, and no sentence in a table cut short.

    `heat`: the colour map of every saliency map.
    """
    pd.set_option("display.max_colwidth", None)
    sns.set_theme(
        context="paper", style="ticks", palette="colorblind", font="DejaVu Sans", font_scale=0.76
    )
    plt.rcParams.update(
        {
            "figure.dpi": 160,
            "savefig.dpi": 300,
            "figure.constrained_layout.use": True,
            "image.cmap": heat,
            "figure.constrained_layout.h_pad": 0.02,
            "figure.constrained_layout.w_pad": 0.02,
            "pdf.fonttype": 42,
            "svg.hashsalt": "walls",
            "hatch.linewidth": 0.4,
            "axes.linewidth": 0.7,
            "lines.linewidth": 1,
            "xtick.major.width": 0.7,
            "ytick.major.width": 0.7,
            "xtick.minor.width": 0.5,
            "ytick.minor.width": 0.5,
            "xtick.major.size": 3,
            "ytick.major.size": 3,
            "xtick.minor.size": 1.5,
            "ytick.minor.size": 1.5,
            "axes.titlepad": 4,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "legend.frameon": False,
        }
    )


def opens(line: str, table: pd.DataFrame) -> str:
    """HTML of a line that opens a table on request: what a notebook shows of what few will read."""
    return f"<details><summary>{html.escape(line)}</summary>{table.to_html(border=0)}</details>"


def save(figure: Figure, folder: Path, name: str) -> Figure:
    """Write `name.pdf` and `name.png` into `folder`.

    The files hold no dates, so that equal figures are equal files.

    As wide as the text column and as high as what is drawn.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = page_box(figure)
    figure.savefig(folder / f"{name}.pdf", bbox_inches=page, metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png", bbox_inches=page, metadata={"Software": None})
    return figure


def page_box(figure: Figure) -> Bbox:
    """The figure's whole width, and of its height (both in inches) what is drawn on."""
    figure.draw_without_rendering()
    drawn = figure.get_tightbbox()
    return Bbox.from_extents(0, drawn.y0 - 0.02, figure.get_figwidth(), drawn.y1 + 0.02)


def save_sheet(figure: Figure, folder: Path, name: str) -> Figure:
    """Write a contact sheet as `name.png` alone: a hundred small pictures are no vector graphic."""
    folder.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        folder / f"{name}.png", bbox_inches=page_box(figure), metadata={"Software": None}, dpi=250
    )
    return figure
