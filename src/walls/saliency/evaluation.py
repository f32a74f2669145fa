"""A network and images, evaluated: every method's maps and their activity, batch by batch."""

import copy
import gc
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

import pandas as pd
import torch
from accelerate.utils.memory import should_reduce_batch_size
from torch import Tensor
from tqdm import tqdm

from walls.base.progress import track
from walls.images.transforms import normalise
from walls.network.classifier import Classifier
from walls.network.geometry import DeadZone
from walls.saliency.activity import measured
from walls.saliency.kept import Kept, digest
from walls.saliency.maps import saliency_maps
from walls.saliency.processes import Processes
from walls.saliency.settings import Cams

T = TypeVar("T")
# The code that a batch's values follow from: two rooms, and what a batch goes through before.
WALLS = Path(__file__).parents[1]
FILES = (
    *sorted(WALLS.glob("network/*.py")),
    *sorted(WALLS.glob("saliency/*.py")),
    WALLS / "images" / "transforms.py",
    WALLS / "base" / "messages.py",
    WALLS / "base" / "normalisation.py",
)
BATCH = 16  # images at once through the full-height network
COLUMNS = ["image", "predicted", "method", "mu", "mu_raw"]
# Among the values of a batch, beside each method's raw maps under its name.
PREDICTED, MU, MU_RAW = "predicted", "{}: mu", "{}: mu_raw"


def evaluate(
    model: Classifier,
    images: Sequence,
    settings: Cams,
    zone: DeadZone,
    resume: Path | None = None,
    processes: Processes | None = None,
) -> tuple[pd.DataFrame, dict[str, Tensor]]:
    """Every method's activity on every image, and its raw maps (N, h, w).

    On the accelerator where there is one. `images`: uint8, a slice of it (n, 3, H, W); the target
    is the predicted class. The table is long: image (its position), predicted, method, mu, mu_raw
    (without any min-subtraction); mu is NaN for an all-zero map. In a folder `resume` every
    finished batch is kept, under a name that stands for its pixels, the weights, the settings, the
    zone, the code and the machine: a killed evaluation goes on where it was. The caller deletes the
    folder once the results are written. Of several `processes` each computes every n-th batch, and
    each returns the whole, the same bits as one process with as many threads; the first leaves it
    in `resume`, where any machine finds it. Where the memory doesn't hold settings.batch_size
    images, as many as it holds go at once; ValueError where not one does.
    """
    if not len(images):
        return pd.DataFrame(columns=COLUMNS), {}
    work = _Work(ready(model, settings), images, settings, zone)
    kept = Kept(resume, *work.names())
    among = processes or Processes()
    share = _share(work, kept, range(among.rank, work.batches, among.ranks))
    names, found = _together(among.gather(share), work)
    if processes and among.rank == 0:
        kept.finish(names, settings.batch_size, found)
    return _table(found, settings.methods), {name: found[name] for name in settings.methods}


def measure(maps: Tensor, size: tuple[int, int], zone: DeadZone) -> tuple[Tensor, Tensor]:
    """µ of raw maps (N, h, w) at the image's `size`: as users see them, no minimum taken off.

    Scores below zero, which maps of the input's pixels have, count as 0.
    """
    mu, mu_raw = (torch.empty(len(maps), dtype=torch.float64) for _ in range(2))
    for start in range(0, len(maps), BATCH):
        part = slice(start, start + BATCH)
        mu[part], mu_raw[part] = measured(maps[part].clamp_min(0), size, zone)
    return mu, mu_raw


class _Work(NamedTuple):
    """What every batch is computed from."""

    model: Classifier
    images: Sequence
    settings: Cams
    zone: DeadZone

    @property
    def batches(self) -> int:
        return -(-len(self.images) // self.settings.batch_size)

    def place(self, batch: int) -> slice:
        """Where a batch's images stand among all."""
        first = batch * self.settings.batch_size
        return slice(first, min(first + self.settings.batch_size, len(self.images)))

    def names(self) -> tuple[str, str]:
        """What all batches' values follow from besides their pixels, and the kind of machine."""
        code = [file.read_text(encoding="utf-8") for file in FILES]
        own = self.model.normalised, self.settings, self.zone
        follows = digest(*self.model.state_dict().values(), *own, code)
        device = next(self.model.parameters()).device.type
        return follows, digest(torch.__version__, torch.get_num_threads(), device)


def _share(work: _Work, kept: Kept, batches: range) -> tuple[list[str], dict[str, Tensor]]:
    """Some batches' names, and the values of all their images, one after the other."""
    settings, names, values = work.settings, [], {}
    count = sum(place.stop - place.start for place in map(work.place, batches))
    at_once, done, methods = settings.batch_size, 0, len(settings.methods)
    hidden = batches.start > 0  # of several processes, the first shows its share
    with track(total=count * methods, desc="saliency maps", unit="map", hidden=hidden) as bar:
        for number in batches:
            batch = work.images[work.place(number)]
            names.append(kept.name(batch))
            found = kept.find(names[-1])
            if found is None:
                found, at_once = fitting(partial(_batch, work, batch, bar.update), at_once)
                kept.keep(names[-1], found)
            _put(found, values, slice(done, done + len(batch)), count)
            done += len(batch)
            bar.n = done * methods  # a second try counted some twice
    return names, values


def _together(
    shares: list[tuple[list[str], dict[str, Tensor]]], work: _Work
) -> tuple[list[str], dict[str, Tensor]]:
    """The names of all batches and the values of all images, in order."""
    if len(shares) == 1:
        return shares[0]
    names, values, size = [""] * work.batches, {}, work.settings.batch_size
    for rank, (some, found) in enumerate(shares):
        names[rank :: len(shares)] = some
        for i in range(len(some)):
            part = {key: every[i * size : (i + 1) * size] for key, every in found.items()}
            _put(part, values, work.place(rank + i * len(shares)), len(work.images))
    return names, values


def _put(part: dict[str, Tensor], whole: dict[str, Tensor], at: slice, count: int) -> None:
    """Copy values into tensors for all `count` images.

    Small ones, kept among what every batch frees, would make memory grow.
    """
    for key, values in part.items():
        if key not in whole:
            whole[key] = values.new_empty(count, *values.shape[1:])
        whole[key][at] = values


def _table(found: dict[str, Tensor], methods: Sequence[str]) -> pd.DataFrame:
    """The values of all images as `evaluate` returns them."""
    tables = []
    for name in methods:
        values = [found[key].numpy() for key in (PREDICTED, MU.format(name), MU_RAW.format(name))]
        columns = (range(len(values[0])), values[0], name, *values[1:])
        tables.append(pd.DataFrame(dict(zip(COLUMNS, columns, strict=True))))
    return pd.concat(tables, ignore_index=True)


def ready(model: Classifier, settings: Cams) -> Classifier:
    """A copy of the network on its device, in the settings' precision and the faster layout."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    kind = torch.float64 if settings.precision == "float64" else torch.float32
    model = copy.deepcopy(model).to(device, kind).eval()
    model.features.to(memory_format=torch.channels_last)
    return model


def inputs_of(model: Classifier, batch: Tensor) -> Tensor:
    return normalise(batch).to(next(model.parameters()))


def _batch(
    work: _Work, batch: Tensor, progress: Callable[[int], object], at_once: int
) -> dict[str, Tensor]:
    """One batch's predicted classes, raw maps and activities, on the CPU."""
    found = _batch_maps(work.model, batch, work.settings, progress, at_once)
    for name in work.settings.methods:
        mu, mu_raw = measure(found[name], tuple(batch.shape[2:]), work.zone)
        found |= {MU.format(name): mu, MU_RAW.format(name): mu_raw}
    return found


def _batch_maps(
    model: Classifier,
    batch: Tensor,
    settings: Cams,
    progress: Callable[[int], object],
    at_once: int,
) -> dict[str, Tensor]:
    """One batch's raw maps and predicted classes, on the CPU, `at_once` images at a time."""
    inputs = inputs_of(model, batch)
    rounded = settings.precision == "bfloat16"
    with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=rounded):
        parts = inputs.split(at_once)
        predicted = torch.cat([model.scores([part]).argmax(1) for part in parts])
        found = saliency_maps(
            model,
            inputs,
            settings.methods,
            predicted,
            batch_size=at_once,
            options=settings.options,
            progress=progress,
        )
    return {name: raw.cpu().contiguous() for name, raw in ({PREDICTED: predicted} | found).items()}


def fitting(work: Callable[[int], T], at_once: int) -> tuple[T, int]:
    """`work(at_once)`, or with half as many images at once while the memory doesn't hold them.

    And how many it was. Says so on stderr; ValueError where not even one fits.
    """
    while True:
        try:
            return work(at_once), at_once
        except (RuntimeError, MemoryError) as error:
            kinds = MemoryError | torch.OutOfMemoryError
            if not isinstance(error, kinds) and not should_reduce_batch_size(error):
                raise
        # Only here, outside the handler, are the tensors free that the error's traceback held.
        gc.collect()
        torch.cuda.empty_cache()
        if at_once == 1:
            raise ValueError(
                "out of memory with a single image at a time; takes more memory, a narrower "
                "network (model.width) or smaller images (image_size)"
            )
        fewer = f"goes on with {at_once // 2} (cams.batch_size)"
        tqdm.write(f"out of memory with {at_once} images at once: {fewer}", sys.stderr)
        at_once //= 2
