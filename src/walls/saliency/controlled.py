"""The control of the paper's two datasets: µ with the hidden part replaced, and where a map lies.

What a map has above a hidden animal and not without it is the animal's; what it has on the pixels
that the animal covers lies on it, the rest beside it.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from walls.images.stacked import covered
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency.activity import upscale
from walls.saliency.evaluation import BATCH, COLUMNS, evaluate
from walls.saliency.methods import COSTLY
from walls.saliency.settings import Cams

MASS = ["image", "method", "on", "area"]


def cheap(settings: Cams) -> list[str]:
    """The settings' methods, without those of COSTLY."""
    return [name for name in settings.methods if name not in COSTLY]


def under(
    model: Classifier,
    controls: Mapping[str, Sequence],
    measured: pd.DataFrame,
    settings: Cams,
    zone: DeadZone,
    resume: Path | None = None,
) -> pd.DataFrame:
    """`evaluate`'s table by the cheap methods under every control, in one; `control` says which.

    `controls`: {control: the images, uint8}, all of the same upper parts; first the images as they
    are, whose table is there already: `measured`. No row without controls, a cheap method, or
    images.
    """
    if not controls:
        return pd.DataFrame(columns=[*COLUMNS, "control"])
    methods, (first, *others) = cheap(settings), controls
    plain = settings.model_copy(update={"methods": methods, "costly_images": None})
    kept = measured[measured["method"].isin(methods)]
    tables = [kept[COLUMNS].assign(control=first)]
    for name in others if len(kept) else ():
        table, _ = evaluate(model, controls[name], plain, zone, resume)
        tables.append(table.assign(control=name))
    return pd.concat(tables, ignore_index=True)


def means(table: pd.DataFrame) -> str:
    """Mean µ×100 of `under`'s table as text: a method per row, a control per column, in order.

    Below it, for how many images the predicted class isn't the same under every control.
    """
    if table.empty:
        return "No control: it is of the first network alone, by methods that cost little."
    mu = 100 * table.groupby(["method", "control"], sort=False)["mu"].mean().unstack()
    order = {"index": table["method"].unique(), "columns": table["control"].unique()}
    text = mu.reindex(**order).rename_axis(index=None, columns=None).round(1).to_string()
    classes = table.groupby("image")["predicted"].nunique()
    said = f"Another hidden part changes the predicted class of {(classes > 1).sum()}"
    return f"{text}\n{said} of {len(classes)} images."


def where(
    maps: Mapping[str, Tensor], images: Sequence, bare: Sequence | None, zone: DeadZone
) -> pd.DataFrame:
    """How much of each cheap method's mass in the dead zone lies on the hidden animal.

    `maps`: {method: raw (N, h, w)} of the images, uint8; `bare`: the same without the animal, which
    covers the pixels that differ; None: no row. Columns: image, method, on, area, as `mass` gives.
    """
    maps = {method: raw for method, raw in maps.items() if method not in COSTLY}
    tables = [pd.DataFrame(columns=MASS)]
    count = 0 if bare is None else len(images)
    for start in range(0, count, BATCH):
        part = slice(start, start + BATCH)
        masks = covered(images[part], bare[part])
        for method, raw in maps.items():
            on, area = mass(raw[part], masks, zone)
            numbers = range(start, start + len(on))
            values = (numbers, method, on.numpy(), area.numpy())
            tables.append(pd.DataFrame(dict(zip(MASS, values, strict=True))))
    return pd.concat(tables[1:] or tables, ignore_index=True)


def mass(maps: Tensor, masks: Tensor, zone: DeadZone) -> tuple[Tensor, Tensor]:
    """Of maps' squared norm in the dead zone the share on the masks, and the masks' share of it.

    ‖Λ on mask and dead zone‖₂² / ‖Λ in dead zone‖₂² of raw maps (N, h, w), upscaled as users see
    them, and the share of the dead zone's pixels that a mask (N, H, W) covers: (N,) each, in
    [0, 1]. A map that is the same everywhere in the dead zone has the two equal. NaN for one that
    is 0 there. Raises ValueError for masks that don't go with the maps.
    """
    size = tuple(masks.shape[1:])
    if masks.ndim != 3 or len(masks) != len(maps) or size[0] != zone.image_rows:
        got = f"{tuple(masks.shape)} for maps {tuple(maps.shape)}"
        raise ValueError(f"masks: got {got}; takes one of each, of {zone.image_rows} rows")
    dead = upscale(maps.float().clamp_min(0), size)[:, zone.measured].double().square()
    inside = masks[:, zone.measured]
    on = torch.where(inside, dead, 0).sum((1, 2)) / dead.sum((1, 2))
    return on, inside.double().mean((1, 2))
