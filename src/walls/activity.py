"""Activity in the dead zone, μ (Eq. 7 of the paper), and its statistics over a dataset."""

import math
from numbers import Integral

import numpy as np
import pandas as pd
import torch
from scipy import stats
from torch import Tensor

from walls.geometry import DeadZone


def activity(maps: Tensor, dead_rows: int | DeadZone) -> Tensor:
    """μ(Λ) = ‖Λ in the dead zone‖₂ / ‖Λ‖₂ of upscaled maps (N, H, W): (N,), in [0, 1]; lower is better.

    The dead zone is the bottom `dead_rows` rows, or a DeadZone's measured ones, on its side. NaN for an all-zero map,
    which says nothing of any zone.
    Raises ValueError for maps that aren't (N, H, W), negative or not finite, or a zone that doesn't fit.
    """
    if isinstance(dead_rows, DeadZone):
        if maps.ndim == 3 and maps.shape[1] != dead_rows.image_rows:
            raise ValueError(f"activity: got maps of {maps.shape[1]} rows; takes {dead_rows.image_rows}, as the dead zone's image")
        maps = maps.flip(1) if dead_rows.side == "top" and maps.ndim == 3 else maps
        dead_rows = dead_rows.measured_rows
    whole = isinstance(dead_rows, Integral) and maps.ndim == 3 and 0 not in maps.shape[1:]
    if not whole or maps.is_complex() or not 0 <= dead_rows <= maps.shape[1]:
        raise ValueError(f"activity: got maps {tuple(maps.shape)} and {dead_rows!r} dead rows; takes (N, H, W), 0 to H")
    if not torch.isfinite(maps).all() or (maps < 0).any():
        raise ValueError("activity: got a map with negative, infinite or NaN scores; takes saliency after the ReLU")
    maps = maps.double()
    # Scaled first: the squares of a map of 1e-200 would all be zero.
    peak = maps.amax(dim=(1, 2), keepdim=True)
    maps = maps / peak  # 0/0 = NaN for an all-zero map
    dead = maps[:, maps.shape[1] - dead_rows :].square().sum(dim=(1, 2))
    return (dead / maps.square().sum(dim=(1, 2))).sqrt()


def uniform_activity(dead_share: float) -> float:
    """μ of a map that is the same everywhere: the square root of the dead zone's share of the image."""
    return math.sqrt(dead_share)


def summary(values: np.ndarray, raw: np.ndarray, seed: int = 0) -> dict[str, float]:
    """Table 1's cells for one method on one dataset, ×100: mean, std (n-1), a bootstrap interval, the counts.

    `values` and `raw`: μ per image with and without the min-subtractions of the upscaling, NaN for an empty map.
    `ci_low`, `ci_high`: 95% percentile bootstrap of the mean, 10,000 resamples. `empty`: all-zero maps, left out.
    """
    kept = 100 * values[~np.isnan(values)]
    mean = float(kept.mean()) if kept.size else math.nan
    low = high = mean
    if kept.size > 1 and np.ptp(kept) > 0:
        random = np.random.default_rng(seed)
        interval = stats.bootstrap((kept,), np.mean, n_resamples=10_000, method="percentile", batch=500, rng=random)
        low, high = map(float, interval.confidence_interval)
    return {
        "mean": mean, "std": float(kept.std(ddof=1)) if kept.size > 1 else math.nan, "ci_low": low, "ci_high": high,
        "mean_raw": float(100 * np.nanmean(raw)) if not np.isnan(raw).all() else math.nan,
        "images": len(values), "empty": int(np.isnan(values).sum()),
    }  # fmt: skip


def tabulate(measured: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """`summary` per dataset and method, in the order met. `measured`: long, with dataset, method, mu, mu_raw."""
    rows = [{"dataset": dataset, "method": method, **summary(group["mu"].to_numpy(), group["mu_raw"].to_numpy(), seed)}
            for (dataset, method), group in measured.groupby(["dataset", "method"], sort=False)]  # fmt: skip
    columns = ["dataset", "method", "mean", "std", "ci_low", "ci_high", "mean_raw", "images", "empty"]
    return pd.DataFrame(rows, columns=columns)
