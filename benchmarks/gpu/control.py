"""The control of Table 1: the same upper parts above something else, and µ×100 then.

What another photograph of the class has beyond one of another class is the hidden object's; what
that has beyond grey is any content's.
"""

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from walls.base import seeds
from walls.images import stacked
from walls.network.geometry import DeadZone

SAME = "another of the class"
BELOW = (SAME, "one of another class", "grey", "noise")


def under(images: Tensor, labels: np.ndarray, zone: DeadZone, below: str, seed: int) -> Tensor:
    """The images (N, 3, H, W), uint8, with another lower part, one of `BELOW`.

    One of another class: the lower part of the next image that is of another class. Noise: every
    value uniform in 0 … 255, drawn for each image by itself. Grey: 128. Raises ValueError where all
    images are of one class.
    """
    if below == SAME:
        return images
    others = torch.full_like(images, 128)
    for place in range(len(images)):
        if below == "noise":
            drawn = seeds.stream(seed, "control", place).integers(
                0, 256, tuple(images.shape[1:]), np.uint8
            )
            others[place] = torch.from_numpy(drawn)
        elif below == "one of another class":
            following = np.roll(np.arange(len(images)), -place)
            other = following[labels[following] != labels[place]]
            if not len(other):
                raise ValueError("control: all images are of one class; takes two classes or more")
            others[place] = images[other[0]]
    return stacked.swap(images, others, zone)[0]


def controlled(measured: pd.DataFrame) -> list[dict]:
    """Per method: mean µ×100 above one kind of lower part, deviation (n - 1), empty maps out."""
    rows = []
    for (below, method), group in measured.groupby(["below", "method"], sort=False):
        mu = 100 * group["mu"].dropna()
        rows.append(
            {
                "below": below,
                "method": method,
                "mean": float(mu.mean()),
                "std": float(mu.std()),
                "images": len(group),
                "empty": int(group["mu"].isna().sum()),
            }
        )
    return rows


def mean(measured: pd.DataFrame, method: str) -> float:
    """One method's mean µ×100."""
    return float(100 * measured[measured["method"] == method]["mu"].mean())


def paired(measured: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, int]:
    """µ×100 of the images that every kind of lower part has, a method per row; and how many.

    `measured`: per kind of `BELOW`, long (image, method, mu). Columns: each kind's mean; beyond:
    what the first has beyond the second, image by image, with its 95% interval (Student's t):
    beyond_low, beyond_high. An image counts where no map of a method is empty.
    """
    images = min(table["image"].max() + 1 for table in measured.values())
    wide = {
        kind: 100
        * table[table["image"] < images].pivot(index="image", columns="method", values="mu")
        for kind, table in measured.items()
    }
    rows = []
    for method in measured[SAME]["method"].unique():
        scores = pd.DataFrame({kind: table[method] for kind, table in wide.items()}).dropna()
        row = {"method": method} | {kind: scores[kind].mean() for kind in measured}
        if len(measured) > 1 and len(scores) > 1:
            gain = scores[SAME] - scores.iloc[:, 1]
            row["beyond"] = gain.mean()
            half = stats.t.ppf(0.975, len(gain) - 1) * gain.sem()
            row |= {"beyond_low": gain.mean() - half, "beyond_high": gain.mean() + half}
        rows.append(row)
    return pd.DataFrame(rows), int(images)
