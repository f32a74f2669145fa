"""A network and a set of images, evaluated: every method's maps and their activity, batch by batch,
resumable.
"""

import copy
import gc
import hashlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import pandas as pd
import torch
from accelerate.utils.memory import should_reduce_batch_size
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from walls.base import files
from walls.base.progress import track
from walls.images import stacked, transforms
from walls.images.transforms import normalise
from walls.network import classifier, geometry
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency import cut, maps, methods, opticam
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.settings import Cams

T = TypeVar("T")
SOURCES = (
    classifier,
    cut,
    geometry,
    maps,
    methods,
    opticam,
    transforms,
)  # besides this one, what a map's values follow from
BATCH = 16  # images at once through the full-height network
COLUMNS = ["image", "predicted", "method", "mu", "mu_raw"]
PREDICTED = "predicted"  # among the maps of a batch
TUNED_LR, TUNED_STEPS = (0.01, 0.1, 1.0), (10, 50)  # the settings of Opti-CAM that `tune` compares


def evaluate(
    model: Classifier,
    images: Sequence,
    settings: Cams,
    zone: DeadZone,
    resume: Path | None = None,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Every method's activity on every image, and its raw maps (N, h, w).

    On the accelerator where there is one. `images`: uint8, a slice of it (n, 3, H, W); the target
    is the predicted class. The table is long: image (its position), predicted, method, mu, mu_raw
    (without any min-subtraction); mu is NaN for an all-zero map. In a folder `resume` every
    finished batch is kept, under a name that stands for its pixels, the weights, the settings, the
    code and the machine: a killed evaluation goes on where it was. Whoever has written the results
    deletes it. Where the memory doesn't hold settings.batch_size images, as many as it holds go at
    once; ValueError where not one does.
    """
    if not len(images):
        return pd.DataFrame(columns=COLUMNS), {}
    predicted, maps = _all_maps(_ready(model, settings), images, settings, resume)
    size = tuple(images[:1].shape[2:])
    tables = []
    for name in settings.methods:
        mu, mu_raw = measure(maps[name], size, zone)
        values = (range(len(images)), predicted.numpy(), name, mu.numpy(), mu_raw.numpy())
        tables.append(pd.DataFrame(dict(zip(COLUMNS, values, strict=True))))
    return pd.concat(tables, ignore_index=True), maps


def measure(maps: Tensor, size: tuple[int, int], zone: DeadZone) -> tuple[Tensor, Tensor]:
    """μ of raw maps (N, h, w) at the image's `size`: as users see them, and without
    min-subtraction.
    """
    mu, mu_raw = (torch.empty(len(maps), dtype=torch.float64) for _ in range(2))
    for start in range(0, len(maps), BATCH):
        part = slice(start, start + BATCH)
        mu[part] = activity(upscale(maps[part], size), zone)
        mu_raw[part] = activity(interpolate(maps[part], size), zone)
    return mu, mu_raw


def _all_maps(
    model: Classifier, images: Sequence, settings: Cams, resume: Path | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """The predicted classes (N,) and every method's raw maps (N, h, w) of all images, batch by
    batch.
    """
    code = [Path(module.__file__).read_text(encoding="utf-8") for module in SOURCES]
    own = Path(__file__).read_text(encoding="utf-8")
    machine = torch.__version__, torch.get_num_threads(), next(model.parameters()).device
    key = _digest(*model.state_dict().values(), settings, own, code, machine)
    at_once, everything = settings.batch_size, {}
    total = len(images) * len(settings.methods)
    with track(total=total, desc="saliency maps", unit="map") as bar:
        for start in range(0, len(images), settings.batch_size):
            batch = images[start : start + settings.batch_size]
            kept = resume / f"{_digest(key, batch)}.safetensors" if resume else None
            if kept and kept.is_file():
                found = load_file(kept)
            else:
                work = partial(_batch_maps, model, batch, settings, bar.update)
                found, at_once = _fitting(work, at_once)
                if kept:
                    with files.whole(kept) as file:
                        save_file(found, file)
            bar.n = (start + len(batch)) * len(settings.methods)  # a second try counted some twice
            if not everything:
                # One tensor for all images: small ones, kept among what every batch frees, would
                # make memory grow.
                everything = {
                    name: values.new_empty(len(images), *values.shape[1:])
                    for name, values in found.items()
                }
            for name, values in found.items():
                everything[name][start : start + len(batch)] = values
    predicted = everything.pop(PREDICTED)
    return predicted, {name: everything[name] for name in settings.methods}


def tune(model: Classifier, images: Tensor, settings: Cams) -> pd.DataFrame:
    """Opti-CAM's average drop and average increase (percent) for several learning rates and numbers
    of steps.

    The paper tunes both "to achieve a low average drop"; `images` (N, 3, H, W) uint8 should be none
    of those evaluated. The settings' own pair is among those compared. Columns: lr, steps,
    average_drop, average_increase.
    """
    model = _ready(model, settings)
    inputs = _inputs(model, images)
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    rates, numbers = (
        sorted({*TUNED_LR, settings.opticam_lr}),
        sorted({*TUNED_STEPS, settings.opticam_steps}),
    )
    rows = []
    for lr, steps in track(
        [(lr, steps) for lr in rates for steps in numbers], desc="tuning Opti-CAM"
    ):
        options = {"Opti-CAM": {"steps": steps, "lr": lr}}

        def tried(at_once: int, options=options) -> dict[str, Tensor]:
            return saliency_maps(
                model,
                inputs,
                ["Opti-CAM"],
                targets,
                batch_size=at_once,
                options=options,
                progress=lambda maps: None,
            )

        maps = _fitting(tried, settings.batch_size)[0]["Opti-CAM"]
        rows.append(
            {"lr": lr, "steps": steps, **opticam.average_drop(model, inputs, maps, targets)}
        )
    return pd.DataFrame(rows)


def follows_upper(model: Classifier, images: Sequence, zone: DeadZone) -> dict[str, int]:
    """Of N images, in how many the logits change with the part in the dead zone, and with the part
    above it.

    Each part is taken from the next image (stacked.swap); the full-height computation, bit for bit.
    Empty where there are fewer than two images.
    """
    if len(images) < 2:
        return {}

    def logits(part: Tensor) -> Tensor:
        return model.head(model.features(normalise(part)))

    below, above, classes = [], [], []
    with torch.no_grad():
        for start in range(0, len(images), BATCH):
            batch = images[start : start + BATCH]
            following = torch.stack(
                [images[(start + i + 1) % len(images)] for i in range(len(batch))]
            )
            before, lower, upper = map(logits, (batch, *stacked.swap(batch, following, zone)))
            below += (lower != before).any(1).tolist()
            above += (upper != before).any(1).tolist()
            classes += (upper.argmax(1) != before.argmax(1)).tolist()
    return {
        "images": len(images),
        "lower_changed": sum(below),
        "upper_changed": sum(above),
        "upper_changed_class": sum(classes),
    }


def rounding(model: Classifier, images: Tensor, settings: Cams, zone: DeadZone) -> float:
    """The largest change of μ×100 that bfloat16 makes on `images`, over the settings' methods."""
    mu = [
        evaluate(model, images, settings.model_copy(update={"precision": kind}), zone)[0][
            "mu"
        ].to_numpy()
        for kind in ("float32", "bfloat16")
    ]
    return 100 * float(np.nanmax(np.abs(mu[0] - mu[1])))


def _ready(model: Classifier, settings: Cams) -> Classifier:
    """A copy of the network on its device, in the settings' precision and the faster memory
    layout.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.float64 if settings.precision == "float64" else torch.float32
    model = copy.deepcopy(model).to(device, kind).eval()
    model.features.to(memory_format=torch.channels_last)
    return model


def _inputs(model: Classifier, batch: Tensor) -> Tensor:
    return normalise(batch).to(next(model.parameters()))


def _batch_maps(
    model: Classifier,
    batch: Tensor,
    settings: Cams,
    progress: Callable[[int], object],
    at_once: int,
) -> dict[str, Tensor]:
    """One batch's raw maps and predicted classes, on the CPU, `at_once` images at a time."""
    inputs = _inputs(model, batch)
    with (
        torch.no_grad(),
        torch.autocast(
            inputs.device.type, torch.bfloat16, enabled=settings.precision == "bfloat16"
        ),
    ):
        predicted = torch.cat([model(part).argmax(1) for part in inputs.split(at_once)])
        found = saliency_maps(
            model,
            inputs,
            settings.methods,
            predicted,
            batch_size=at_once,
            options=settings.options,
            progress=progress,
        )
    return {
        name: values.cpu().contiguous() for name, values in ({PREDICTED: predicted} | found).items()
    }


def _fitting(work: Callable[[int], T], at_once: int) -> tuple[T, int]:
    """`work(at_once)`, or with half as many images at once while the memory doesn't hold them; and
    how many it was.

    Says so on stderr; ValueError where not even one fits.
    """
    while True:
        try:
            return work(at_once), at_once
        except (RuntimeError, MemoryError) as error:
            if not (
                isinstance(error, MemoryError | torch.OutOfMemoryError)
                or should_reduce_batch_size(error)
            ):
                raise
        # Only here, outside the handler, are the tensors free that the error's traceback held.
        gc.collect()
        torch.cuda.empty_cache()
        if at_once == 1:
            raise ValueError(
                "out of memory with a single image at a time; takes more memory, a narrower "
                "network "
                "(model.width) or smaller images (image_size)"
            )
        tqdm.write(
            f"out of memory with {at_once} images at once: goes on with {at_once // 2} "
            "(cams.batch_size)",
            sys.stderr,
        )
        at_once //= 2


def _digest(*parts: object) -> str:
    """A name for tensors and whatever else has a repr."""
    digest = hashlib.sha256()
    for part in parts:
        whole = (
            part.cpu().contiguous().numpy().tobytes()
            if isinstance(part, Tensor)
            else repr(part).encode()
        )
        digest.update(whole)
    return digest.hexdigest()[:32]
