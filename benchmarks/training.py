"""Our training step against a plain loop in torchvision's style, and the loader against the step.

    python -m benchmarks.training                writes benchmarks/training.md
                                                 (with a GPU: training-gpu.md)
    python -m benchmarks.training --seconds 2    the same in a minute, printed alone

The plain loop is torchvision's reference recipe with the paper's network: NCHW, ready-made float
images, every row computed, and the dense layer's weights multiplied by the wall's mask after every
step, as the authors do. Ours gets the loader's uint8 and flips and normalises them. Both have the
same architecture, precision, batch and optimiser. They take turns, a step each, after two that
don't count; the ratio is of neighbouring steps. Medians, and quartiles in brackets.
"""

import argparse
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count, repeat
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import psutil
import torch
import torchvision
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.v2 import functional as tf

from benchmarks.measure import clocked, hardware, quartiles, sources_commit
from walls.base import seeds
from walls.base.files import write_csv
from walls.images import loaders, reading, transforms
from walls.network import architecture
from walls.network.classifier import Classifier
from walls.sources import critters
from walls.training import loop
from walls.training.settings import Train

SETTINGS = {
    "epochs": 1,
    "batch_size": 32,
    "accumulate": 1,
    "lr": 1e-3,
    "momentum": 0.9,
    "weight_decay": 5e-4,
    "schedule": "constant",
    "precision": "auto",
    "compile": False,
    "workers": 1,
}
VERSIONS = [f"torch {torch.__version__}", f"torchvision {torchvision.__version__}"]
CLASSES, SIZE, WALL = 10, 224, 9
DEFAULT = {"width": 0.125, "dense": 512, "batch_norm": True, "dropout": 0.2}
HALF = {"width": 0.5, "dense": 2048, "batch_norm": True, "dropout": 0.5}
PAPERS = {"width": 1.0, "dense": 4096, "batch_norm": False, "dropout": 0.5}
NETWORKS = {
    "default, 1/8 of VGG16's width": DEFAULT,
    "1/2 of its width": HALF,
    "the paper's, whole width": PAPERS,
}
BATCHES = {"cpu": (32, 16, 8), "cuda": (256, 256, 128)}  # of each network
PRECISIONS = {"cpu": ("float32", "bfloat16"), "cuda": ("float32", "bfloat16", "float16")}


class Plain:
    """The reference loop: `step(images, labels)` on normalised NCHW images trains every row behind
    a mask.
    """

    def __init__(
        self,
        device: torch.device,
        precision: str,
        wall_rows: int,
        size: int,
        settings: dict = SETTINGS,
        **network,
    ):
        whole = architecture.seeded(0, classes=CLASSES, wall_rows=0, image_size=size, **network)
        first = whole.head[0]
        dense = nn.Linear(first.weight[0].numel(), len(first.weight))
        self.model = nn.Sequential(whole.features, nn.Flatten(), dense, *whole.head[1:]).to(device)
        mask = torch.ones_like(first.weight)
        mask[:, :, -wall_rows:] = 0
        self.weight, self.mask = dense.weight, mask.flatten(1).to(device)
        self.device, self.precision = device, precision
        self.optimizer = torch.optim.SGD(
            self.model.parameters(),
            settings["lr"],
            settings["momentum"],
            weight_decay=settings["weight_decay"],
        )
        self.scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
        self.wall()

    def wall(self) -> None:
        """Multiply the first dense layer by the mask."""
        with torch.no_grad():
            self.weight.mul_(self.mask)

    def step(self, images: Tensor, labels: Tensor) -> Tensor:
        """One step; its loss."""
        images = images.to(self.device, non_blocking=True)
        labels = labels.to(self.device, non_blocking=True)
        with torch.autocast(
            self.device.type, getattr(torch, self.precision), enabled=self.precision != "float32"
        ):
            loss = nn.functional.cross_entropy(self.model(images), labels)
        self.optimizer.zero_grad()
        self.scaler.scale(loss).backward()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.wall()
        return loss.detach()


def masked(network: dict) -> Classifier:
    """The network behind the paper's wall, with fresh weights."""
    return architecture.seeded(0, classes=CLASSES, wall_rows=WALL, image_size=SIZE, **network)


def in_turns(works: list[Callable], device: torch.device, seconds: float) -> np.ndarray:
    """(turns, works) seconds, the works one after the other, until `seconds` are over; two turns
    before don't count.
    """
    for work in works * 2:
        clocked(work, device)
    ends = time.perf_counter() + seconds
    turns = []
    while len(turns) < 5 or time.perf_counter() < ends:
        turns.append([clocked(work, device) for work in works])
    return np.array(turns)


def compare(
    accelerator: Accelerator, network: dict, batch: int, precision: str, seconds: float
) -> dict:
    """Images per second of our masked step and of the plain one, and their ratio."""
    device = accelerator.device
    images = torch.randint(0, 256, (batch, 3, SIZE, SIZE), dtype=torch.uint8)
    labels, flips = torch.randint(0, CLASSES, (batch,)), torch.rand(batch) < 0.5
    ready = transforms.normalise(images)
    if device.type == "cuda":
        images, labels, flips, ready = (
            tensor.pin_memory() for tensor in (images, labels, flips, ready)
        )
    model = masked(network).train()
    settings = Train(**(SETTINGS | {"batch_size": batch, "precision": precision}))
    step, batches = loop.Step(model, settings, 1, accelerator), repeat((images, labels, flips))
    plain = Plain(device, precision, WALL, SIZE, **network)
    plain.model.train()
    turns = in_turns([lambda: step(batches), lambda: plain.step(ready, labels)], device, seconds)
    accelerator.free_memory()
    return {
        "precision": precision,
        "batch": batch,
        "ours, images/s": quartiles(batch / turns[:, 0]),
        "plain, images/s": quartiles(batch / turns[:, 1]),
        "ours / plain": quartiles(turns[:, 1] / turns[:, 0], 2),
        "turns": len(turns),
    }


def draw(folder: Path, images: int) -> tuple[list[str], list[str]]:
    """Drawn images as PNG, 224 × 224, and the same as JPEG of a photograph's size, 500 × 375; their
    paths.
    """
    critters.write(folder, "train", images, 0, CLASSES, SIZE)
    drawn = sorted(str(path) for path in folder.rglob("*.png"))
    (folder / "photographs").mkdir()
    photographs = [
        str(folder / "photographs" / f"{Path(path).stem}-{number}.jpg")
        for number, path in enumerate(drawn)
    ]
    for source, target in zip(drawn, photographs, strict=True):
        Image.open(source).resize((500, 375), Image.Resampling.BICUBIC).save(target, quality=90)
    return drawn, photographs


def images_of(files: list[str], crop_area: tuple | None = (0.6, 1.0)) -> loaders.Images:
    manifest = pd.DataFrame(
        {"path": files, "label": [number % CLASSES for number in range(len(files))]}
    )
    return loaders.Images(manifest, SIZE, crop_area)


def pillow(path: str) -> Tensor:
    """What `read_image` does where torchvision has no decoder."""
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


def flow(batches: Iterator, batch: int, use: Callable, seconds: float) -> float:
    """Images per second through `use`, the first two batches not counted."""
    for _ in range(2):
        use(batches)
    started, ends = time.perf_counter(), time.perf_counter() + seconds
    for number in count(1):
        use(batches)
        if time.perf_counter() > ends and number >= 3:
            return number * batch / (time.perf_counter() - started)
    return 0.0


def apart(
    accelerator: Accelerator, files: list[str], workers: int, batch: int, seconds: float
) -> dict:
    """Images per second of every part of the default's training: alone on one core, in the workers,
    on the device.
    """
    device, images = accelerator.device, images_of(files)
    decoded = [reading.read_image(path) for path in files]

    def crop(number: int) -> None:
        box = transforms.crop_box(
            seeds.stream(0, "augment", 1, number), *decoded[number].shape[1:], images.crop_area
        )
        tf.resized_crop(decoded[number], *box, [SIZE, SIZE], antialias=True)

    stacked, labels, flips = next(iter(loaders.loader(images, batch, 0, count(1))))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a worker
    works = [
        lambda: [pillow(path) for path in files],
        lambda: [reading.read_image(path) for path in files],
        lambda: [crop(number) for number in range(len(files))],
    ]
    alone = in_turns(works, torch.device("cpu"), seconds)
    torch.set_num_threads(threads)
    settings = Train(**(SETTINGS | {"batch_size": batch, "workers": workers}))
    model = masked(DEFAULT).train()
    step = loop.Step(model, settings, 1, accelerator)
    ready = repeat((stacked, labels, flips))
    there = in_turns(
        [lambda: transforms.on_device(stacked, flips, device), lambda: step(ready)], device, seconds
    )
    pillows, reads, crops = (quartiles(len(files) / alone[:, column], 0) for column in range(3))
    read_alone = flow(iter(loaders.loader(images, batch, workers, count(1))), batch, next, seconds)
    together = flow(iter(loaders.loader(images, batch, workers, count(1))), batch, step, seconds)
    accelerator.free_memory()
    return {
        "decode, Pillow alone": pillows,
        "decode, as we read": reads,
        "crop and scale": crops,
        f"loader, {workers} worker{'s' * (workers > 1)}": f"{read_alone:.0f}",
        "flip and normalise, on the device": quartiles(batch / there[:, 0], 0),
        f"step ({step.precision})": quartiles(batch / there[:, 1]),
        "loader and step together": f"{together:.1f}",
    }


@contextmanager
def peaks(device: torch.device) -> Iterator[list[int]]:
    """Peak memory, in MB, of every epoch trained inside: the device's, or this process's and its
    workers'.
    """
    found, highest, done = [], [0], threading.Event()

    def watch() -> None:
        process = psutil.Process()
        while not done.wait(0.02):
            try:
                workers = process.children(recursive=True)
                own = sum(worker.memory_full_info().uss for worker in workers)
                highest[0] = max(highest[0], process.memory_info().rss + own)
            except psutil.Error:  # a worker that ends right now
                continue

    def keep(file: Path, saved: dict) -> None:
        if "record" not in saved:
            if device.type == "cuda":
                found.append(torch.cuda.max_memory_allocated() // 2**20)
                torch.cuda.reset_peak_memory_stats()
            else:
                found.append(highest[0] // 2**20)
                highest[0] = 0
        real(file, saved)

    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    watcher, real = threading.Thread(target=watch), loop._keep
    watcher.start()
    try:
        with mock.patch.object(loop, "_keep", keep):
            yield found
    finally:
        done.set()
        watcher.join()


def memory(
    files: list[str], device: torch.device, workers: int, epochs: int, folder: Path
) -> list[int]:
    """Peak memory of every epoch of the default network, MB."""
    settings = Train(**(SETTINGS | {"epochs": epochs, "workers": workers}))
    train_set, val_set = images_of(files), images_of(files[:10], None)
    with peaks(device) as found:
        loop.train(masked(DEFAULT), train_set, val_set, settings, folder / "resume")
    return found


def report(
    device: torch.device,
    compared: pd.DataFrame,
    parts: dict[str, dict],
    used: list[int],
    workers: int,
) -> str:
    """The page."""
    what = (__doc__ or "").split("\n\n")[2]
    growth = np.median(used[len(used) // 2 :]) - np.median(used[: len(used) // 2])
    return f"""# Training, measured

`python -m benchmarks.training` of {sources_commit()[:7]} on {hardware(device, *VERSIONS)}.

## Masked training against a plain loop

{what}

{compared.to_markdown(index=False)}

## Reading against stepping

The default's images per second, part by part: decoding and cropping on one core, as a worker does it. Photographs are of
500 × 375 pixels; they become a batch only once they are cropped to one size, so the workers crop and the device does the
rest.

{pd.DataFrame(parts).to_markdown()}

## Memory

Peak of every epoch in MB, {"on the GPU" if device.type == "cuda" else "the workers' included"}, the default network,
{workers} worker{"s" * (workers > 1)}: {", ".join(map(str, used))}.
Median of the second half less that of the first: {growth:+.0f} MB.
"""


def main(arguments: list[str]) -> int:
    """Measure, print, and write the page of a full run."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--seconds", type=float, help="how long each comparison runs; given, nothing is written"
    )
    given = parser.parse_args(arguments).seconds
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    device = accelerator.device
    seconds = given or 20
    workers = 1 if device.type == "cpu" else max(1, (torch.get_num_threads() or 2) - 1)
    batch = 32 if device.type == "cpu" else 256
    with tempfile.TemporaryDirectory() as scratch:
        drawn, photographs = draw(Path(scratch), max(64, batch))
        used = memory(drawn, device, workers, 8, Path(scratch))
        kinds = {"drawn, PNG, 224 × 224": drawn, "photographs, JPEG, 500 × 375": photographs}
        parts = {
            name: apart(accelerator, files, workers, batch, seconds / 5)
            for name, files in kinds.items()
        }
    rows = []
    for (name, network), size in zip(NETWORKS.items(), BATCHES[device.type], strict=True):
        for precision in PRECISIONS[device.type]:
            rows.append({"network": name} | compare(accelerator, network, size, precision, seconds))
            print(rows[-1], file=sys.stderr, flush=True)
    page = report(device, pd.DataFrame(rows), parts, used, workers)
    print(page)
    if given is None:
        name = "training.md" if device.type == "cpu" else "training-gpu.md"
        file = Path(__file__).with_name(name)
        file.write_text(page, encoding="utf-8")
        medians = pd.DataFrame(parts).map(lambda shown: float(shown.split()[0]))
        medians.columns = ["drawn", "photographs"]
        write_csv(medians.rename_axis("part"), file.with_suffix(".csv"), index=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
