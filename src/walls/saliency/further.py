"""The maps of a further network: all of the cheap methods', the costly ones' of fewer images."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from torch import Tensor

from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency.evaluation import evaluate
from walls.saliency.methods import COSTLY
from walls.saliency.settings import Cams


def thrifty(
    model: Classifier,
    images: Sequence,
    settings: Cams,
    zone: DeadZone,
    resume: Path | None = None,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """`evaluate`, with the methods of COSTLY on the first `settings.costly_images` alone.

    Stacks are built of one class after the other, in turn, so the first ones are of all classes
    alike. None: on all of them, as `evaluate`.
    """
    few, plain = settings.costly_images, settings.model_copy(update={"costly_images": None})
    costly = [name for name in settings.methods if name in COSTLY]
    cheap = [name for name in settings.methods if name not in COSTLY]
    if few is None or few >= len(images) or not costly:
        return evaluate(model, images, plain, zone, resume)
    tables, maps = [], {}
    for methods, some in ((cheap, images), (costly, images[:few])):
        if methods:
            own = plain.model_copy(update={"methods": methods})
            table, found = evaluate(model, some, own, zone, resume)
            tables.append(table)
            maps |= found
    table = pd.concat(tables, ignore_index=True)
    order = table["method"].map(settings.methods.index)
    table = table.iloc[order.argsort(kind="stable")].reset_index(drop=True)
    return table, {name: maps[name] for name in settings.methods}
