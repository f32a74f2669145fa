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
    Of several networks (`parts` of one dataset) every one counts alike. `low`, `high`: 95%
    intervals of the share, for which whole classes and networks are drawn again. `least`, `most`:
    the shares of the networks with the smallest and the largest.
    """
    lit = pd.concat([_lit(part, zone) for part in parts], ignore_index=True)
    rows = []
    for key, group in lit.groupby(["dataset", "method", "criterion"], sort=False):
        values, classes = group["lit"].to_numpy(), group["class"].to_numpy()
        low, high = interval(values, classes, seed, networks=group["network"].to_numpy())
        each = group.groupby("network")["lit"].mean()
        rows.append(
            {
                **dict(zip(("dataset", "method", "criterion"), key, strict=True)),
                "share": each.mean(),
                "low": low,
                "high": high,
                "networks": len(each),
                "least": each.min(),
                "most": each.max(),
            }
        )
    return pd.DataFrame(rows)


def _lit(part: Maps, zone: DeadZone) -> pd.DataFrame:
    """Whether each image lights up, 0 or 100, by every method and criterion; long."""
    rows = []
    for method in part.methods:
        count = len(part.raw[method])  # of a further network's costly methods: the first images
        mu = part.mu[method].to_numpy()[:count]
        found = {f"µ×100 > {least}": 100 * mu > least for least in THRESHOLDS}
        for criterion, own in (found | {HALF: bright(part, method, zone)}).items():
            rows.append(
                pd.DataFrame(
                    {
                        "dataset": part.dataset,
                        "network": part.network,
                        "method": method,
                        "criterion": criterion,
                        "class": part.classes[:count],
                        "lit": 100 * own.astype(float),
                    }
                )
            )
    return pd.concat(rows, ignore_index=True)


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
