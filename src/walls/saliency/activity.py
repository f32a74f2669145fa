"""Activity in the dead zone, μ (Eq. 7 of the paper), and the upscaling that comes before it."""

import math
from numbers import Integral

import torch
from torch import Tensor, nn

from walls.network.geometry import DeadZone


def activity(maps: Tensor, dead_rows: int | DeadZone) -> Tensor:
    """μ(Λ) = ‖Λ in the dead zone‖₂ / ‖Λ‖₂ of upscaled maps (N, H, W): (N,), in [0, 1]; lower is
    better.

    The dead zone is the bottom `dead_rows` rows, or a DeadZone's measured ones, on its side. NaN
    for an all-zero map, which says nothing of any zone. Raises ValueError for maps that aren't (N,
    H, W), negative or not finite, or a zone that doesn't fit.
    """
    if isinstance(dead_rows, DeadZone):
        rows = dead_rows.image_rows
        if maps.ndim == 3 and maps.shape[1] != rows:
            raise ValueError(
                f"activity: got maps of {maps.shape[1]} rows; takes {rows}, as the dead zone's "
                "image"
            )
        maps = maps.flip(1) if dead_rows.side == "top" and maps.ndim == 3 else maps
        dead_rows = dead_rows.measured_rows
    whole = isinstance(dead_rows, Integral) and maps.ndim == 3 and 0 not in maps.shape[1:]
    if not whole or maps.is_complex() or not 0 <= dead_rows <= maps.shape[1]:
        raise ValueError(
            f"activity: got maps {tuple(maps.shape)} and {dead_rows!r} dead rows; takes (N, H, W), "
            "0 to H"
        )
    if not torch.isfinite(maps).all() or (maps < 0).any():
        raise ValueError(
            "activity: got a map with negative, infinite or NaN scores; takes saliency after the "
            "ReLU"
        )
    maps = maps.double()
    # Scaled first: the squares of a map of 1e-200 would all be zero.
    peak = maps.amax(dim=(1, 2), keepdim=True)
    maps = maps / peak  # 0/0 = NaN for an all-zero map
    dead = maps[:, maps.shape[1] - dead_rows :].square().sum(dim=(1, 2))
    return (dead / maps.square().sum(dim=(1, 2))).sqrt()


def uniform_activity(dead_share: float) -> float:
    """μ of a map that is the same everywhere: the square root of the dead zone's share of the
    image.
    """
    return math.sqrt(dead_share)


def upscale(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) as a user sees them, (N, H, W) in [0, 1], scaled as pytorch-grad-cam scales
    them.

    Min-max at (h, w), bilinear (align_corners=False), min-max again. An all-zero or constant map
    gives zeros. Raises ValueError for maps that aren't (N, h, w) of real numbers, and a size of
    nothing.
    """
    return _min_max(interpolate(_min_max(maps), size))


def interpolate(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) bilinearly upscaled to (N, H, W), their scores left as they are."""
    size = (size, size) if isinstance(size, int) else tuple(size)
    _check_maps(maps)
    if len(size) != 2 or min(size) < 1:
        raise ValueError(f"size: got {size}; takes (H, W), 1 or more each")
    return nn.functional.interpolate(maps[:, None], size, mode="bilinear", align_corners=False)[
        :, 0
    ]


def _check_maps(maps: Tensor) -> None:
    if maps.ndim != 3 or 0 in maps.shape[1:] or not maps.is_floating_point():
        raise ValueError(
            f"maps: got {tuple(maps.shape)} of {maps.dtype}; takes (N, h, w) of floating-point "
            "numbers"
        )


def _min_max(maps: Tensor) -> Tensor:
    _check_maps(maps)
    low = maps.amin((1, 2), keepdim=True)
    return (maps - low) / (
        1e-7 + (maps - low).amax((1, 2), keepdim=True)
    )  # 1e-7: the library's guard
