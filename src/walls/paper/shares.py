"""How many images light up behind the wall: shares of images beside Table 1's means."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from walls.network.geometry import DeadZone
from walls.paper.results import Maps
from walls.saliency.activity import upscale
from walls.saliency.statistics import interval

THRESHOLDS = (5, 10, 20)  # µ×100 above which an image counts
HALF = "a dead pixel above half"  # of the map's maximum


def shares(parts: Sequence[Maps], zone: DeadZone, seed: int = 0) -> pd.DataFrame:
    """Per dataset and method, the shares of images that light up in the dead zone, in percent.

    A row per dataset, method and criterion: µ×100 above each of THRESHOLDS, and HALF: a pixel of
    the dead zone with more than half of the upscaled map's maximum. An empty map lights up nothing.
    `low`, `high`: 95% intervals of the share, for which whole classes are drawn again.
    """
    rows = []
    for part in parts:
        classes = np.array(part.classes)
        for method in part.methods:
            mu = part.mu[method].to_numpy()
            lit = {f"µ×100 > {least}": 100 * mu > least for least in THRESHOLDS}
            lit[HALF] = bright(part, method, zone)
            for criterion, own in lit.items():
                values = 100 * own.astype(float)
                low, high = interval(values, classes, seed)
                rows.append(
                    {
                        "dataset": part.dataset,
                        "method": method,
                        "criterion": criterion,
                        "share": values.mean() if len(values) else np.nan,
                        "low": low,
                        "high": high,
                    }
                )
    return pd.DataFrame(rows)


def bright(part: Maps, method: str, zone: DeadZone) -> np.ndarray:
    """Whether a pixel of the dead zone has more than half of the upscaled map's maximum, (N,)."""
    found = []
    for raw in part.raw[method].split(16):
        maps = upscale(raw.float(), zone.image_rows)
        highest = maps.amax((1, 2))
        found.append((maps[:, zone.measured].amax((1, 2)) > highest / 2) & (highest > 0))
    return np.concatenate([one.numpy() for one in found]) if found else np.zeros(0, bool)


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """The shares as text, a method per row: per dataset and criterion a share and its interval."""
    cells = [f"{row.share:.0f} [{row.low:.0f}, {row.high:.0f}]" for row in table.itertuples()]
    columns = [f"{row.dataset.upper()}: {row.criterion}" for row in table.itertuples()]
    wide = table.assign(cell=cells, column=columns).pivot(
        index="method", columns="column", values="cell"
    )
    order = list(dict.fromkeys(columns))
    return wide.reindex(index=table["method"].unique(), columns=order).rename_axis(None)
