"""How far down every layer is read."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from walls.figures.style import DEAD, SEEN, SMALL, WIDTH
from walls.network.geometry import DeadZone


def rows_needed(zone: DeadZone, layers: Sequence[str]) -> Figure:
    """How far down every layer is read, from the image to **B**.

    Of each layer it shows the share of the rows that reach a logit.
    """
    figure, ax = plt.subplots(figsize=(WIDTH, WIDTH / 2.4))
    share = 100 * np.array(zone.rows) / np.array(zone.heights)
    steps = np.arange(len(share))
    ax.bar(steps, share, color=SEEN, width=1)
    ax.bar(
        steps,
        100 - share,
        bottom=share,
        facecolor="none",
        edgecolor=DEAD,
        hatch="////",
        linewidth=0,
        width=1,
    )
    last = None
    for step, (rows, height) in enumerate(zip(zone.rows, zone.heights, strict=True)):
        if height != last:
            ax.text(
                step,
                2,
                f"{rows}/{height}",
                rotation=90,
                ha="center",
                va="top",
                color="white",
                fontsize=SMALL,
            )
        last = height
    ax.set_xticks(steps, ["image", *layers], rotation=90, fontsize=SMALL)
    ax.set(ylabel="rows needed (%)", ylim=(100, 0), xlim=(-0.5, len(share) - 0.5))
    return figure
