"""A method's activity over a dataset: Table 1's cells."""

import math

import numpy as np
import pandas as pd

CELLS = ["mean", "std", "ci_low", "ci_high", "mean_raw", "images", "empty"]
OVER_NETWORKS = [
    "classes",
    "networks",
    "networks_std",
    "maps",
]  # and these, where there may be several


def summary(
    values: np.ndarray,
    raw: np.ndarray,
    seed: int = 0,
    classes: np.ndarray | None = None,
    networks: np.ndarray | None = None,
) -> dict[str, float]:
    """Table 1's `CELLS` for one method on one dataset, ×100; of `networks`, `OVER_NETWORKS` too.

    `values` and `raw`: µ per map with and without the min-subtractions of the upscaling, NaN for an
    empty map. `networks`: whose map each is; None: all of one. `classes`: its image's; None: every
    image is a class of its own. `mean`, `mean_raw`: every network counts alike, though one may have
    maps of fewer images. `std`: of one image's map by one network, the networks' mean variance over
    images (n-1) plus the variance of their means; `networks_std`: the latter's root, NaN of one
    network. `ci_low`, `ci_high`: the mean's 95% `interval` over classes and networks. `images`:
    those of the network that has most; `maps`: of all; `empty`: all-zero maps, left out.
    """
    whose = np.zeros(len(values), int) if networks is None else np.asarray(networks)
    own = np.arange(len(values)) if classes is None else classes
    parts = [100 * values[(whose == one) & ~np.isnan(values)] for one in np.unique(whose)]
    parts = [part for part in parts if part.size]
    means = np.array([part.mean() for part in parts])
    within = [part.var(ddof=1) for part in parts if part.size > 1]
    between = float(means.std(ddof=1)) if len(means) > 1 else math.nan
    spread = np.mean(within) + np.nan_to_num(between) ** 2 if within else math.nan
    low, high = interval(100 * values, own, seed, networks=whose)
    cells = {
        "mean": float(means.mean()) if parts else math.nan,
        "std": float(np.sqrt(spread)),
        "ci_low": low,
        "ci_high": high,
        "mean_raw": 100 * _mean(raw, np.zeros(len(raw), int) if networks is None else whose),
        "images": int(np.unique(whose, return_counts=True)[1].max()) if len(whose) else 0,
        "empty": int(np.isnan(values).sum()),
    }
    if networks is None:
        return cells
    return cells | {
        "classes": len(np.unique(own)),
        "networks": len(np.unique(whose)),
        "networks_std": between,
        "maps": len(values),
    }


def interval(
    values: np.ndarray,
    classes: np.ndarray,
    seed: int = 0,
    resamples: int = 10_000,
    networks: np.ndarray | None = None,
) -> tuple[float, float]:
    """The 95% interval of a mean whose images come in classes, and whose maps in networks.

    Drawn again, `resamples` times, are whole classes, with replacement (the percentile bootstrap),
    since images of one class are alike, for all networks together; and the networks' mean, by
    Student's t of n-1 degrees of freedom times their standard error: of three networks drawn with
    replacement the spread would be too small by a third. Every network counts alike. `networks`:
    whose each value is; None, or one: classes alone. NaN is left out; where all values are the
    same, and of one class and one network, both ends are the mean; of nothing, NaN.
    """
    kept = ~np.isnan(values)
    values, classes = values[kept], np.asarray(classes)[kept]
    if not values.size:
        return math.nan, math.nan
    whose = np.zeros(len(values), int) if networks is None else np.asarray(networks)[kept]
    names, member = np.unique(classes, return_inverse=True)
    ours, network = np.unique(whose, return_inverse=True)
    each = np.bincount(network, values) / np.bincount(network)
    if np.ptp(values) == 0 or (len(names) < 2 and len(ours) < 2):
        return float(each.mean()), float(each.mean())
    random = np.random.default_rng(seed)
    drawn = random.integers(len(names), size=(resamples, len(names)))
    means = np.full((len(ours), resamples), np.nan)
    for number in range(len(ours)):
        part = network == number
        sums, counts = (
            np.bincount(member[part], weights, len(names)) for weights in (values[part], None)
        )
        some = counts[drawn].sum(1)  # 0 where a network has no map of any class drawn
        np.divide(sums[drawn].sum(1), some, out=means[number], where=some > 0)
    whole = np.nanmean(means, axis=0)
    if len(ours) > 1:
        error = each.std(ddof=1) / math.sqrt(len(ours))
        whole = whole + error * random.standard_t(len(ours) - 1, resamples)
    # As a mean of draws: never beyond the values themselves.
    low, high = np.clip(np.percentile(whole, (2.5, 97.5)), values.min(), values.max())
    return float(low), float(high)


def tabulate(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """`summary` per dataset and method, in the order met.

    `measured`: long, with dataset, method, mu, mu_raw, class where images of one are alike, and
    network where there may be several: `OVER_NETWORKS` are told then, too.
    """
    rows, several = [], "network" in measured
    for (dataset, method), group in measured.groupby(["dataset", "method"], sort=False):
        classes = group["class"].to_numpy() if "class" in group else None
        networks = group["network"].to_numpy() if several else None
        own = (group["mu"].to_numpy(), group["mu_raw"].to_numpy(), seed, classes, networks)
        rows.append({"dataset": dataset, "method": method, **summary(*own)})
    cells = CELLS + OVER_NETWORKS if several else CELLS
    return pd.DataFrame(rows, columns=["dataset", "method", *cells])


def _mean(values: np.ndarray, networks: np.ndarray) -> float:
    """The mean of the networks' means, without NaN; NaN of nothing."""
    kept = ~np.isnan(values)
    parts = [values[kept & (networks == one)] for one in np.unique(networks[kept])]
    return float(np.mean([part.mean() for part in parts])) if parts else math.nan
