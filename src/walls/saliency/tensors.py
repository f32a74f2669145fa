"""Arrays and lists that stand for tensors, and seeds that follow from an image's own pixels."""

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_tensor(values: Any, name: str) -> Tensor:
    """A tensor itself; an array or a list as torch.tensor reads it, with torch's usual float32.

    Raises ValueError naming the argument, `name`, where it holds no numbers, or uneven rows of
    them.
    """
    if isinstance(values, Tensor):
        return values
    try:
        if _holds_arrays(values):
            return torch.stack([as_tensor(value, name) for value in values])
        array = np.asarray(values)
        if array.dtype.kind not in "biufc":
            raise TypeError
        if array.dtype == np.float64 and isinstance(values, list | tuple):
            array = array.astype(np.float32)
        # torch takes no other byte order and no steps backwards, and warns of what it can't write.
        flags = array.flags
        if not (flags.c_contiguous and flags.writeable and array.dtype.isnative):
            array = np.array(array, array.dtype.newbyteorder("="), order="C")
        return torch.as_tensor(array, device="cpu")  # whatever the default device is
    except (TypeError, ValueError, RuntimeError, OverflowError):
        kind = type(values).__name__
        raise ValueError(
            f"{name}: got a {kind} that is no array of numbers; takes a tensor, a NumPy array or "
            "a list of numbers"
        ) from None


def pixel_seed(image: Tensor) -> int:
    """A seed that follows from an image's own pixels, whatever else is in its batch."""
    return zlib.crc32(image.float().cpu().numpy().tobytes())


@contextmanager
def numpy_seeded(seed: int) -> Iterator[None]:
    """NumPy's global generator at `seed`, which libraries draw from; afterwards as it was."""
    before = np.random.get_state()
    np.random.seed(seed % 2**32)
    try:
        yield
    finally:
        np.random.set_state(before)


def _holds_arrays(values: Any) -> bool:
    """Whether a list holds tensors or arrays, at any depth."""
    if not isinstance(values, list | tuple):
        return False
    return any(isinstance(value, Tensor | np.ndarray) or _holds_arrays(value) for value in values)
