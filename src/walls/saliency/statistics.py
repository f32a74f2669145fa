"""A method's activity over a dataset: Table 1's cells."""

import math

import numpy as np
import pandas as pd

CELLS = ["mean", "std", "ci_low", "ci_high", "mean_raw", "images", "empty"]


def summary(
    values: np.ndarray, raw: np.ndarray, seed: int = 0, classes: np.ndarray | None = None
) -> dict[str, float]:
    """Table 1's `CELLS` for one method on one dataset, ×100, with std of n-1, and the counts.

    `values` and `raw`: μ per image with and without the min-subtractions of the upscaling, NaN for
    an empty map. `ci_low`, `ci_high`: the mean's 95% `interval` over `classes`; None: every image
    is a class of its own. `empty`: all-zero maps, left out.
    """
    kept = 100 * values[~np.isnan(values)]
    own = np.arange(len(values)) if classes is None else classes
    low, high = interval(100 * values, own, seed)
    return {
        "mean": float(kept.mean()) if kept.size else math.nan,
        "std": float(kept.std(ddof=1)) if kept.size > 1 else math.nan,
        "ci_low": low,
        "ci_high": high,
        "mean_raw": float(100 * np.nanmean(raw)) if not np.isnan(raw).all() else math.nan,
        "images": len(values),
        "empty": int(np.isnan(values).sum()),
    }


def interval(
    values: np.ndarray, classes: np.ndarray, seed: int = 0, resamples: int = 10_000
) -> tuple[float, float]:
    """The 95% percentile bootstrap interval of a mean whose images come in classes.

    Whole classes are drawn, with replacement, since images of one class are alike. NaN is left out;
    of one class, or where all values are the same, both ends are the mean; of nothing, NaN.
    """
    kept = ~np.isnan(values)
    values, classes = values[kept], np.asarray(classes)[kept]
    if not values.size:
        return math.nan, math.nan
    names, member = np.unique(classes, return_inverse=True)
    if len(names) < 2 or np.ptp(values) == 0:
        return float(values.mean()), float(values.mean())
    sums, counts = np.bincount(member, values), np.bincount(member)
    drawn = np.random.default_rng(seed).integers(len(names), size=(resamples, len(names)))
    means = sums[drawn].sum(1) / counts[drawn].sum(1)
    low, high = np.percentile(means, (2.5, 97.5))
    return float(low), float(high)


def tabulate(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """`summary` per dataset and method, in the order met.

    `measured`: long, with dataset, method, mu, mu_raw, and class where images of one are alike.
    """
    rows = []
    for (dataset, method), group in measured.groupby(["dataset", "method"], sort=False):
        classes = group["class"].to_numpy() if "class" in group else None
        cells = summary(group["mu"].to_numpy(), group["mu_raw"].to_numpy(), seed, classes)
        rows.append({"dataset": dataset, "method": method, **cells})
    return pd.DataFrame(rows, columns=["dataset", "method", *CELLS])
