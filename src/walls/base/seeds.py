"""Randomness by name: a generator for every item, whatever was drawn before it."""

import zlib

import numpy as np


def stream(*key: int | str) -> np.random.Generator:
    """A random generator for one item: the same whatever was drawn before it."""
    return np.random.Generator(
        np.random.Philox(np.random.SeedSequence([_number(part) for part in key]))
    )


def _number(part: int | str) -> int:
    return part if isinstance(part, int) else zlib.crc32(part.encode())
