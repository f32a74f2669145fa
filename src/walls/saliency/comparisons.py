"""Beside an evaluation: settings, precisions and ways of hiding compared; what logits follow."""

from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from walls.base.progress import track
from walls.images import stacked
from walls.images.transforms import normalise
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency import opticam
from walls.saliency.activity import measured
from walls.saliency.evaluation import BATCH, evaluate, fitting, inputs_of, measure, ready
from walls.saliency.maps import saliency_maps
from walls.saliency.settings import Cams

TUNED_LR, TUNED_STEPS = (0.01, 0.1, 1.0), (10, 50)  # the settings of Opti-CAM that `tune` compares


def tune(model: Classifier, images: Tensor, settings: Cams, zone: DeadZone) -> pd.DataFrame:
    """Opti-CAM's average drop and increase (percent) for several learning rates and step numbers.

    The paper tunes both "to achieve a low average drop"; `images` (N, 3, H, W) uint8 should be none
    of those evaluated. The settings' own pair is among those compared. Columns: lr, steps,
    average_drop, average_increase, and mu, the mean µ×100 of these maps.
    """
    model, inputs, targets = _prepared(model, images, settings)
    rates = sorted({*TUNED_LR, settings.opticam_lr})
    numbers = sorted({*TUNED_STEPS, settings.opticam_steps})
    pairs = [(lr, steps) for lr in rates for steps in numbers]
    rows = []
    for lr, steps in track(pairs, desc="tuning Opti-CAM"):
        work = partial(_tried, model, inputs, targets, {"steps": steps, "lr": lr})
        found = fitting(work, settings.batch_size)[0]
        drop = opticam.average_drop(model, inputs, found, targets)
        mu = 100 * float(measured(found, (inputs.shape[2], inputs.shape[3]), zone)[0].nanmean())
        rows.append({"lr": lr, "steps": steps, **drop, "mu": mu})
    return pd.DataFrame(rows)


def hidden_ways(model: Classifier, images: Tensor, settings: Cams, zone: DeadZone) -> pd.DataFrame:
    """µ×100 of the methods that mask images, where black is hidden and where the mean colour is.

    `images` (N, 3, H, W) uint8, the target the predicted class. Columns: method, images (whose µ is
    a number both ways), black (the definition's way), mean (the library's), difference (the mean
    over images of black - mean) and error (its standard error, NaN for one image).
    """
    model, inputs, targets = _prepared(model, images, settings)
    size = tuple(images.shape[2:])
    rows = []
    for name in (name for name in ("ScoreCAM", "Opti-CAM") if name in settings.methods):
        mu = []
        for hidden in opticam.HIDDEN:
            own = settings.options.get(name, {}) | {"hidden": hidden}
            work = partial(_tried, model, inputs, targets, own, name=name)
            found = fitting(work, settings.batch_size)[0].cpu()
            mu.append(100 * measure(found, size, zone)[0])
        both = torch.stack(mu)[:, ~torch.stack(mu).isnan().any(0)]
        difference = both[0] - both[1]
        row = {"method": name, "images": both.shape[1]}
        row |= dict(zip(opticam.HIDDEN, both.mean(1).tolist(), strict=True))
        row["difference"] = float(difference.mean())
        error = difference.std() / len(difference) ** 0.5 if len(difference) > 1 else np.nan
        rows.append(row | {"error": float(error)})
    return pd.DataFrame(rows)


def _prepared(
    model: Classifier, images: Tensor, settings: Cams
) -> tuple[Classifier, Tensor, Tensor]:
    """The network ready for maps, its inputs (N, 3, H, W), and the classes that it predicts."""
    model = ready(model, settings)
    inputs = inputs_of(model, images)
    with torch.no_grad():
        return model, inputs, model.scores([inputs]).argmax(1)


def _tried(
    model: Classifier,
    inputs: Tensor,
    targets: Tensor,
    own: dict[str, object],
    at_once: int,
    name: str = "Opti-CAM",
) -> Tensor:
    """One method's maps with settings of its own, without a bar."""
    return saliency_maps(
        model,
        inputs,
        [name],
        targets,
        batch_size=at_once,
        options={name: own},
        progress=lambda maps: None,
    )[name]


def follows_upper(
    model: Classifier, images: Sequence, zone: DeadZone, labels: Sequence[int]
) -> dict[str, int]:
    """Of N images, in how many the logits change with the part in the dead zone, and above it.

    Each part is taken from the next image (stacked.swap); the full-height computation, bit for bit.
    `labels`: the class of each image's animals; `own_named`, `other_named`: how often the upper
    animal's class is predicted, of the image as it is and with the next one's upper part. Empty
    where there are fewer than two images.
    """
    if len(images) < 2:
        return {}

    def logits(part: Tensor) -> Tensor:
        return model.head(model.features(normalise(part)))

    below, above, own, other = [], [], [], []
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            places = range(start + 1, start + 1 + len(batch))
            following = torch.stack([images[place % len(images)] for place in places])
            named = [int(labels[start + i]) for i in range(len(batch))]
            next_named = [int(labels[place % len(images)]) for place in places]
            before, lower, upper = map(logits, (batch, *stacked.swap(batch, following, zone)))
            below += (lower != before).any(1).tolist()
            above += (upper != before).any(1).tolist()
            own += (before.argmax(1).cpu() == torch.tensor(named)).tolist()
            other += (upper.argmax(1).cpu() == torch.tensor(next_named)).tolist()
    return {
        "images": len(images),
        "lower_changed": sum(below),
        "upper_changed": sum(above),
        "own_named": sum(own),
        "other_named": sum(other),
    }


def rounding(model: Classifier, images: Tensor, settings: Cams, zone: DeadZone) -> float:
    """The largest change of µ×100 that bfloat16 makes on `images`, over the settings' methods."""
    mu = []
    for kind in ("float32", "bfloat16"):
        table, _ = evaluate(model, images, settings.model_copy(update={"precision": kind}), zone)
        mu.append(table["mu"].to_numpy())
    return 100 * float(np.nanmax(np.abs(mu[0] - mu[1])))
