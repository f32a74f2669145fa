"""A network and a set of images, evaluated: every method's maps and their activity, batch by batch, resumable."""

import copy
import hashlib
import inspect
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from walls import cams, data, methods, models, opticam, stacks
from walls.activity import activity
from walls.data import normalise
from walls.models import Classifier
from walls.params import Cams
from walls.progress import track

BATCH = 16  # images at once through the full-height network
TUNED_LR, TUNED_STEPS = (0.01, 0.1, 1.0), (10, 50)  # the settings of Opti-CAM that `tune` compares


def evaluate(
    model: Classifier, images: Sequence, settings: Cams, dead_rows: int, resume: Path | None = None
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Every method's activity on every image, and its raw maps (N, h, w), on the accelerator where there is one.

    `images`: uint8, a slice of it (n, 3, H, W); the target is the predicted class. The table is long: image (its
    position), predicted, method, mu, mu_raw (without any min-subtraction); mu is NaN for an all-zero map. In a folder
    `resume` every finished batch is kept, under a name that stands for its pixels, the weights, the settings and the
    code: a killed evaluation goes on where it was. Whoever has written the results deletes it.
    """
    if not len(images):
        return pd.DataFrame(columns=["image", "predicted", "method", "mu", "mu_raw"]), {}
    model = _ready(model, settings)
    code = [inspect.getsource(module) for module in (cams, methods, opticam, models, data)]
    key = _digest(*model.state_dict().values(), settings, code)
    rows, maps = [], []
    with track(total=len(images) * len(settings.methods), desc="saliency maps", unit="map") as bar:
        for start in range(0, len(images), settings.batch_size):
            batch = images[start : start + settings.batch_size]
            part = resume / f"{_digest(key, batch)}.safetensors" if resume else None
            if part and part.is_file():
                found = load_file(part)
                bar.update(len(batch) * len(settings.methods))
            else:
                found = _maps(model, batch, settings, bar.update)
                if part:
                    _keep(part, found)
            size = tuple(batch.shape[2:])
            rows += [
                pd.DataFrame({
                    "image": range(start, start + len(batch)), "predicted": found["predicted"].numpy(), "method": method,
                    "mu": activity(cams.upscale(found[method], size), dead_rows).numpy(),
                    "mu_raw": activity(cams.interpolate(found[method], size), dead_rows).numpy(),
                }) for method in settings.methods
            ]  # fmt: skip
            maps.append(found)
    rows = [row for method in range(len(settings.methods)) for row in rows[method :: len(settings.methods)]]
    return pd.concat(rows, ignore_index=True), {m: torch.cat([part[m] for part in maps]) for m in settings.methods}


def tune(model: Classifier, images: Tensor, settings: Cams) -> pd.DataFrame:
    """Opti-CAM's average drop and average increase (percent) for several learning rates and numbers of steps.

    The paper tunes both "to achieve a low average drop"; `images` (N, 3, H, W) uint8 should be none of those evaluated.
    The settings' own pair is among those compared. Columns: lr, steps, average_drop, average_increase.
    """
    model = _ready(model, settings)
    inputs = _inputs(model, images)
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    rates, numbers = sorted({*TUNED_LR, settings.opticam_lr}), sorted({*TUNED_STEPS, settings.opticam_steps})
    rows = []
    for lr, steps in track([(lr, steps) for lr in rates for steps in numbers], desc="tuning Opti-CAM"):
        maps = cams.saliency_maps(
            model, inputs, ["Opti-CAM"], targets, batch_size=settings.batch_size, opticam_steps=steps, opticam_lr=lr,
            progress=lambda maps: None)["Opti-CAM"]  # fmt: skip
        rows.append({"lr": lr, "steps": steps, **opticam.average_drop(model, inputs, maps, targets)})
    return pd.DataFrame(rows)


def follows_upper(model: Classifier, images: Sequence, edge: int) -> dict[str, int]:
    """Of N images, in how many the logits change with the part below the edge, and with the part above it.

    Each part is taken from the next image (stacks.swap); the full-height computation, bit for bit. Empty where
    there are fewer than two images.
    """
    if len(images) < 2:
        return {}

    def logits(part: Tensor) -> Tensor:
        return model.head(model.features(normalise(part)))

    below, above, classes = [], [], []
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            following = torch.stack([images[(start + i + 1) % len(images)] for i in range(len(batch))])
            before, lower, upper = map(logits, (batch, *stacks.swap(batch, following, edge)))
            below += (lower != before).any(1).tolist()
            above += (upper != before).any(1).tolist()
            classes += (upper.argmax(1) != before.argmax(1)).tolist()
    return {"images": len(images), "lower_changed": sum(below), "upper_changed": sum(above),
            "upper_changed_class": sum(classes)}  # fmt: skip


def rounding(model: Classifier, images: Tensor, settings: Cams, dead_rows: int) -> float:
    """The largest change of μ×100 that bfloat16 makes on `images`, over the settings' methods."""
    mu = [evaluate(model, images, settings.model_copy(update={"precision": kind}), dead_rows)[0]["mu"].to_numpy()
          for kind in ("float32", "bfloat16")]  # fmt: skip
    return 100 * float(np.nanmax(np.abs(mu[0] - mu[1])))


def _ready(model: Classifier, settings: Cams) -> Classifier:
    """A copy of the network on its device, in the settings' precision and the faster memory layout."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.float64 if settings.precision == "float64" else torch.float32
    model = copy.deepcopy(model).to(device, kind).eval()
    model.features.to(memory_format=torch.channels_last)
    return model


def _inputs(model: Classifier, batch: Tensor) -> Tensor:
    return normalise(batch).to(next(model.parameters()))


def _maps(model: Classifier, batch: Tensor, settings: Cams, progress: Callable[[int], object]) -> dict[str, Tensor]:
    """One batch's raw maps and predicted classes, on the CPU."""
    inputs = _inputs(model, batch)
    with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"):
        predicted = model(inputs).argmax(1)
        found = cams.saliency_maps(
            model, inputs, settings.methods, predicted, batch_size=settings.batch_size,
            opticam_steps=settings.opticam_steps, opticam_lr=settings.opticam_lr, progress=progress)  # fmt: skip
    return {"predicted": predicted.cpu(), **{method: raw.cpu() for method, raw in found.items()}}


def _digest(*parts: object) -> str:
    """A name for tensors and whatever else has a repr."""
    digest = hashlib.sha256()
    for part in parts:
        whole = part.cpu().contiguous().numpy().tobytes() if isinstance(part, Tensor) else repr(part).encode()
        digest.update(whole)
    return digest.hexdigest()[:32]


def _keep(part: Path, found: dict[str, Tensor]) -> None:
    """Write a batch's maps whole or not at all."""
    part.parent.mkdir(parents=True, exist_ok=True)
    partial = part.with_suffix(".partial")
    with open(partial, "wb") as file:
        file.write(save({name: tensor.contiguous() for name, tensor in found.items()}))
        file.flush()
        os.fsync(file.fileno())
    partial.replace(part)
