"""The maps of a further network: all of the cheap methods', the costly ones' of fewer images.

And what is written of any network's.
"""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from safetensors.torch import save_file
from torch import Tensor

from walls.base import files
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


def write(folder: Path, maps: dict[str, Tensor], **tables: pd.DataFrame) -> None:
    """Write maps.safetensors, in float32, and NAME.csv for every table given, into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = {name: raw.float().contiguous() for name, raw in maps.items()}
    save_file(kept, folder / "maps.safetensors")
    for name, table in tables.items():
        files.write_csv(table, folder / f"{name}.csv")
