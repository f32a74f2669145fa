"""Activity in the dead zone, µ (Eq. 7 of the paper), and the upscaling that comes before it."""

import math
from numbers import Integral
from typing import Any

import torch
from torch import Tensor, nn

from walls.network.geometry import DeadZone
from walls.saliency.tensors import as_tensor


def activity(maps: Tensor, dead_rows: int | DeadZone) -> Tensor:
    """µ(Λ) = ‖Λ in the dead zone‖₂ / ‖Λ‖₂ of upscaled maps (N, H, W): (N,), in [0, 1].

    Lower is better. The dead zone is the bottom `dead_rows` rows, or a DeadZone's measured ones, on
    its side. NaN for an all-zero map, which says nothing of any zone. `maps`: a tensor, a NumPy
    array or a list. Raises ValueError for maps that aren't (N, H, W), negative or not finite, or a
    zone that doesn't fit.
    """
    maps = as_tensor(maps, "maps")
    if isinstance(dead_rows, DeadZone):
        rows = dead_rows.image_rows
        if maps.ndim == 3 and maps.shape[1] != rows:
            got = f"got maps of {maps.shape[1]} rows"
            raise ValueError(f"activity: {got}; takes {rows}, as the dead zone's image")
        maps = maps.flip(1) if dead_rows.side == "top" and maps.ndim == 3 else maps
        dead_rows = dead_rows.measured_rows
    whole = isinstance(dead_rows, Integral) and maps.ndim == 3 and 0 not in maps.shape[1:]
    if not whole or maps.is_complex() or not 0 <= dead_rows <= maps.shape[1]:
        got = f"maps {tuple(maps.shape)} and {dead_rows!r} dead rows"
        raise ValueError(f"activity: got {got}; takes (N, H, W), 0 to H")
    if not torch.isfinite(maps).all() or (maps < 0).any():
        got = "a map with negative, infinite or NaN scores"
        raise ValueError(f"activity: got {got}; takes saliency after the ReLU")
    maps = maps.double()
    # Scaled first: the squares of a map of 1e-200 would all be zero.
    peak = maps.amax(dim=(1, 2), keepdim=True)
    maps = maps / peak  # 0/0 = NaN for an all-zero map
    dead = maps[:, maps.shape[1] - dead_rows :].square().sum(dim=(1, 2))
    return (dead / maps.square().sum(dim=(1, 2))).sqrt()


def measured(
    maps: Tensor, size: tuple[int, int], dead_rows: int | DeadZone
) -> tuple[Tensor, Tensor]:
    """µ of maps (N, h, w) upscaled as users see them, and without any minimum taken off: (N,) each.

    Maps of the image's own `size` are taken as they are.
    """
    if tuple(maps.shape[1:]) == tuple(size):
        mu = activity(maps, dead_rows)
        return mu, mu
    return activity(upscale(maps, size), dead_rows), activity(interpolate(maps, size), dead_rows)


def uniform_activity(dead_share: float) -> float:
    """µ of a map that is the same everywhere: the root of the dead zone's share of the image."""
    return math.sqrt(dead_share)


def upscale(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) as a user sees them, (N, H, W) in [0, 1], scaled as by pytorch-grad-cam.

    Min-max at (h, w), bilinear (align_corners=False), min-max again. An all-zero or constant map
    gives zeros. `maps`: a tensor, a NumPy array or a list. Raises ValueError for maps that aren't
    (N, h, w) of real numbers, and a size of nothing.
    """
    return _min_max(interpolate(_min_max(_checked(maps)), size))


def interpolate(maps: Tensor, size: int | tuple[int, int]) -> Tensor:
    """Maps (N, h, w) bilinearly upscaled to (N, H, W), their scores left as they are."""
    maps = _checked(maps)
    sides: Any = (size, size) if isinstance(size, Integral) else size
    two = isinstance(sides, tuple | list) and len(sides) == 2
    if not two or not all(isinstance(side, Integral) and int(side) > 0 for side in sides):
        raise ValueError(f"size: got {ascii(sides)[:80]}; takes (H, W), 1 or more each")
    whole = [int(side) for side in sides]
    up = nn.functional.interpolate(maps[:, None], whole, mode="bilinear", align_corners=False)
    return up[:, 0]


def _checked(maps: object) -> Tensor:
    """Maps as a tensor; ValueError where they aren't (N, h, w) of floating-point numbers."""
    found = as_tensor(maps, "maps")
    if found.ndim != 3 or 0 in found.shape[1:] or not found.is_floating_point():
        got = f"{tuple(found.shape)} of {found.dtype}"
        raise ValueError(f"maps: got {got}; takes (N, h, w) of floating-point numbers")
    return found


def _min_max(maps: Tensor) -> Tensor:
    low = maps.amin((1, 2), keepdim=True)
    high = (maps - low).amax((1, 2), keepdim=True)
    return (maps - low) / (1e-7 + high)  # 1e-7: the library's guard
