"""The register of saliency methods: every function under its name, and what is known of it.

methods.py, by_library.py, attribution.py, perturbation.py and transformers.py fill it; importing
methods.py brings all of them.
"""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from walls.saliency.cut import Cut

# What is known of a map behind any wall, whatever the network and its weights.
BY_CONSTRUCTION = "zero by construction"
BUT_ACROSS = "zero by construction, but for squares across the wall"
IN_THE_LIMIT = "zero in the limit of many samples"
NONE = "none"

METHODS: dict[str, Callable[..., Tensor]] = {}
BY: dict[str, str] = {}  # who proposed each
PASSES: dict[str, str] = {}  # of the network, an image
GUARANTEES: dict[str, str] = {}
# Filled by the marks of `@method`, in the order of the files.
PAPERS: list[str] = []  # the eight of the paper's Table 1
COSTLY: list[str] = []  # more than five passes of the backbone an image
ZERO: list[str] = []  # zero behind any wall, by construction
PIXELS: list[str] = []  # maps (N, H, W) of the image itself, signed, instead of (N, h, w)
ATTENTION: list[str] = []  # maps (N, h, w) of a vision transformer's patches
CAMS: list[str] = []  # the others: maps (N, h, w) at **B**


def arrange(modules: Sequence[str]) -> None:
    """Put every list into the order of these modules, and of the functions in them.

    Whichever of them somebody imported first.
    """
    turn = {name: modules.index(function.__module__) for name, function in METHODS.items()}
    every: tuple[dict[str, Any], ...] = (METHODS, BY, PASSES, GUARANTEES)
    for known in every:
        ordered = {name: known[name] for name in sorted(known, key=turn.__getitem__)}
        known.clear()
        known.update(ordered)
    for names in (PAPERS, COSTLY, ZERO, PIXELS, ATTENTION, CAMS):
        names.sort(key=turn.__getitem__)


def method(
    name: str,
    *,
    by: str = "",
    passes: str = "1",
    guarantee: str = NONE,
    paper: bool = False,
    costly: bool = False,
    pixels: bool = False,
    attention: bool = False,
):
    """Register a function Cut → raw maps (N, h, w), before their ReLU, under `name`.

    `by`: who proposed it; `passes`: of the network, an image; `guarantee`: what is known of it
    behind a wall. With `pixels` the maps are (N, H, W). `attention`: it takes a vision transformer
    behind a wall. The marks put the name into the lists above as well.
    """

    def register(function: Callable[[Cut], Tensor]) -> Callable[[Cut], Tensor]:
        METHODS[name] = function
        BY[name], PASSES[name], GUARANTEES[name] = by, passes, guarantee
        zero = guarantee == BY_CONSTRUCTION
        marks = (
            (PAPERS, paper),
            (COSTLY, costly),
            (ZERO, zero),
            (PIXELS, pixels),
            (ATTENTION, attention),
            (CAMS, not pixels and not attention),
        )
        for names, marked in marks:
            if marked:
                names.append(name)
        return function

    return register
