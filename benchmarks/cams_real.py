"""The part efficientnet-lite0 of benchmarks.cams: a network in use, behind a wall.

Two photographs of the twenty that notebook 9 takes stand one above the other, other ones in every
repetition; the network is `walls.behind`'s, and the libraries hook its `.layer` by their documented
call. Both libraries' maps are compared with ours.
"""

import sys
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from benchmarks.measure import clocked
from benchmarks.peers import BLOCK, GRADIENT, LIBRARY, OTHER, Whole, by_grad_cam, by_torch_cam
from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.saliency.activity import upscale
from walls.saliency.maps import saliency_maps
from walls.sources import packaged

NAME = "efficientnet-lite0"
REPETITIONS = 3
# What is compared: its name, the methods, whose, and how many images at once.
GROUPS = (
    ("GradCAM", ["GradCAM"], LIBRARY, 2),
    ("gradient family", GRADIENT, LIBRARY, 2),
    ("AblationCAM", ["AblationCAM"], LIBRARY, 1),
    ("AblationCAM", ["AblationCAM"], BLOCK, 1),
    ("ScoreCAM", ["ScoreCAM"], LIBRARY, 1),
    ("GradCAM", ["GradCAM"], OTHER, 2),
    ("ScoreCAM", ["ScoreCAM"], OTHER, 1),
)
MOST = max(images for *_, images in GROUPS)


def made() -> tuple[Behind, Tensor]:
    """The network behind a wall, and photographs stacked in pairs, (N, 3, 448, 224)."""
    named = zoo.get(NAME)
    photographs = packaged.photographs("packaged", named.recipe)[0]
    pairs = torch.cat([photographs, photographs.roll(-1, 0)], dim=2)
    return behind(named.network, normalised=named.recipe.normalised), pairs


def by_ours(names: Sequence[str], model: Behind, images: Tensor) -> dict[str, Tensor]:
    """Any methods by our one call; ScoreCAM masks as the libraries'."""
    options = {"ScoreCAM": {"hidden": "mean"}}
    return saliency_maps(model, images, names, options=options, progress=lambda count: None)


def apart(theirs: dict, ours: dict[str, Tensor], size: tuple[int, int]) -> float:
    """The largest difference of any two maps, both scaled to [0, 1] as the library has them."""
    worst = 0.0
    for name, maps in theirs.items():
        own = ours[name]
        if isinstance(maps, np.ndarray):
            own = upscale(own, size)
        else:
            low, high = own.amin((1, 2), keepdim=True), own.amax((1, 2), keepdim=True)
            own = (own - low) / (high - low + 1e-8)
        worst = max(worst, float((torch.as_tensor(maps) - own).abs().max()))
    return worst


def peers(model: Behind) -> dict[str, Callable[[Sequence[str], Tensor], dict]]:
    """What computes a group's maps, by whose it is."""
    whole = Whole(model).eval()
    return {
        LIBRARY: lambda names, images: by_grad_cam(names, model, model.layer, images),
        BLOCK: lambda names, images: by_grad_cam(names, whole, whole.features, images),
        OTHER: lambda names, images: by_torch_cam(names, model, model.layer, images),
    }


def compare(repetitions: int = REPETITIONS, only: Sequence[str] | None = None) -> pd.DataFrame:
    """Seconds per image, a library's and ours in turn, per group and repetition (long).

    `only`: these groups alone, for a rehearsal. `apart`: the largest difference of the maps.
    """
    model, pairs = made()
    warm, *turns = pairs[: MOST * (repetitions + 1)].split(MOST)
    by = peers(model)
    by_ours(["GradCAM", "AblationCAM"], model, warm)
    for work in (by[LIBRARY], by[OTHER]):
        work(["GradCAM"], warm)
    rows = [
        row
        for repetition, images in enumerate(turns)
        for row in _turn(model, by, images, repetition, only)
    ]
    return pd.DataFrame(rows)


def _turn(
    model: Behind, by: dict, images: Tensor, repetition: int, only: Sequence[str] | None
) -> Iterator[dict]:
    """One repetition: every group's row; ours is timed once a group."""
    own: dict[str, tuple[float, dict]] = {}
    for group, names, peer, count in GROUPS:
        if only is not None and group not in only:
            continue
        some = images[:count]
        if group not in own:
            own[group] = _timed(by_ours, names, model, some)
        seconds, theirs = _timed(by[peer], names, some)
        ours, maps = own[group]
        row = {"geometry": NAME, "methods": group, "peer": peer, "repetition": repetition}
        row |= {"library": seconds / count, "ours": ours / count, "ratio": seconds / ours}
        row["apart"] = apart(theirs, maps, tuple(some.shape[2:]))
        print(row, file=sys.stderr, flush=True)
        yield row


def _timed(work: Callable, *arguments: object) -> tuple[float, dict]:
    """Seconds that it takes, and what it gives."""
    found: list[dict] = []
    return clocked(lambda: found.append(work(*arguments)), torch.device("cpu")), found[0]
