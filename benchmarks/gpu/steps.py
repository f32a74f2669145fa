"""Part b: the masked [VGG]'s training step against a plain loop's, and against the loader.

The plain loop is benchmarks.training's: NCHW, ready-made float images, every row computed, the
wall's mask multiplied in after every step. Ours gets the loader's uint8, flips and normalises them,
and computes the rows that the head can see. The same architecture, precision, batch and optimiser;
variants take turns, a step each. To tell what the gain is made of, the plain loop runs in
channels-last too, and both are compiled where time is left.
"""

import os
import shutil
from collections.abc import Callable
from itertools import count, repeat
from pathlib import Path

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor

from benchmarks import measure as clocks
from benchmarks import training as plain
from benchmarks.gpu.run import Run
from walls.images import loaders, transforms
from walls.network import architecture
from walls.training.loop import Step
from walls.training.settings import Train

PAPERS = {"width": 1.0, "dense": 4096, "batch_norm": False, "dropout": 0.5}
TINY = {"width": 0.0625, "dense": 16, "batch_norm": False, "dropout": 0.5}
PRECISIONS = ("bfloat16", "float16", "float32")
EAGER = ("ours", "plain", "plain, channels-last")
COMPILED = ("ours, compiled", "plain, compiled")
# Seconds left, at least, for both to be compiled and measured: 39 weren't enough on an H200.
COMPILING = 90


def measure(run: Run) -> str:
    """Write steps.json; the result in a sentence."""
    network, batch, size, wall = (TINY, 4, 128, 7) if run.tiny else (PAPERS, 256, 224, 9)
    found: dict = {
        "network": network | {"wall_rows": wall, "image_size": size},
        "batch": batch,
        "steps": [],
        "loader": [],
        "errors": {},
    }
    each = min(7.0, run.left() / 14)
    accelerator = Accelerator(cpu=run.device.type == "cpu", mixed_precision="no")
    loading = run.attempt(
        "loader", lambda: loader(run, batch, each / 4, found["errors"]), found["errors"]
    )
    found["loader"] = loading or []
    run.keep("steps", found)
    for variants in (EAGER, COMPILED):
        for precision in PRECISIONS if variants is EAGER or not run.tiny else ["float32"]:
            if run.left() < (COMPILING if variants is COMPILED and not run.tiny else each):
                found["errors"][f"{', '.join(variants)}, {precision}"] = "left out: no time"
                continue
            rows = run.attempt(
                f"{precision}, {' and '.join(variants)}",
                lambda v=variants, p=precision: turns(
                    run, accelerator, network, v, p, batch, size, wall, each
                ),
                found["errors"],
                run.left() if variants is COMPILED else None,
            )
            found["steps"] += rows or []
            run.keep("steps", found)
            accelerator.free_memory()
            run.free()
            if rows:
                pace = ", ".join(
                    f"{r['variant']} {batch / np.median(r['seconds']):.0f}" for r in rows
                )
                run.say(f"  {precision}, images/s: {pace} ({len(rows[0]['seconds'])} turns)")
    return summary(found)


def turns(
    run: Run,
    accelerator: Accelerator,
    network: dict,
    variants: tuple[str, ...],
    precision: str,
    batch: int,
    size: int,
    wall: int,
    seconds: float,
) -> list[dict]:
    """Each variant's seconds of every step, in turns, and the memory of its step at its peak.

    The memory: beyond what the other variants hold, so that it counts weights, gradient, momentum
    and activations of one.
    """
    random = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch, 3, size, size), dtype=torch.uint8, generator=random)
    labels, flips = torch.arange(batch) % plain.CLASSES, torch.rand(batch, generator=random) < 0.5
    works, peaks = [], []
    for variant in variants:
        before = _reset(run.device)
        works.append(
            stepper(
                run, accelerator, network, variant, precision, (images, labels, flips), size, wall
            )
        )
        for _ in range(2):
            clocks.clocked(works[-1], run.device)
        peaks.append(_peak(run.device) - before)
    seconds_each = plain.in_turns(works, run.device, seconds)
    return [
        {
            "precision": precision,
            "variant": variant,
            "seconds": seconds_each[:, n].round(6).tolist(),
            "peak_mb": peaks[n] / 2**20 if run.device.type == "cuda" else None,
        }
        for n, variant in enumerate(variants)
    ]


def stepper(
    run: Run,
    accelerator: Accelerator,
    network: dict,
    variant: str,
    precision: str,
    batch: tuple[Tensor, Tensor, Tensor],
    size: int,
    wall: int,
) -> Callable[[], Tensor]:
    """One variant's step on the same batch, again and again."""
    images, labels, flips = batch
    settings = plain.SETTINGS | {
        "batch_size": len(images),
        "precision": precision,
        "compile": variant == "ours, compiled",
    }
    if variant.startswith("ours"):
        model = architecture.seeded(
            0, classes=plain.CLASSES, wall_rows=wall, image_size=size, **network
        ).train()
        step = Step(model, Train(**settings), 1, accelerator)
        batches = repeat(tuple(_pinned(part, run.device) for part in (images, labels, flips)))
        return lambda: step(batches)
    loop = plain.Plain(run.device, precision, wall, size, **network)
    loop.model.train()
    ready = transforms.normalise(images)
    if variant == "plain, channels-last":
        loop.model[0].to(memory_format=torch.channels_last)
        ready = ready.contiguous(memory_format=torch.channels_last)
    if variant == "plain, compiled":
        loop.model = torch.compile(loop.model)
    ready, labels = _pinned(ready, run.device), _pinned(labels, run.device)
    return lambda: loop.step(ready, labels)


def loader(run: Run, batch: int, seconds: float, errors: dict) -> list[dict]:
    """Images per second of the loader alone, by its workers: photographs, part d's images."""
    most = readers(batch)
    numbers = [0, 1] if run.tiny else sorted({min(1, most), most // 2, most})
    _, photographs = plain.draw(run.scratch / "drawn", 8 if run.tiny else 128)
    rows = paces(
        run,
        "photographs, JPEG, 500 × 375",
        plain.images_of(photographs * -(-2 * batch // len(photographs))),
        batch,
        numbers,
        seconds,
    )
    trained = run.attempt(
        "the images of part d", lambda: loaders.read_manifest(run.images(), "train"), errors
    )
    if trained is not None:
        rows += paces(
            run,
            "the images of part d",
            loaders.Images(trained, 224, (0.25, 1.0)),
            batch,
            numbers,
            seconds,
        )
    return rows


def paces(
    run: Run, kind: str, images: loaders.Images, batch: int, workers: list[int], seconds: float
) -> list[dict]:
    """The loader's pace on one kind of images."""
    rows = []
    for number in workers:
        flow = iter(loaders.loader(images, min(batch, len(images)), number, count(1)))
        pace = plain.flow(flow, min(batch, len(images)), next, seconds)
        rows.append({"images": kind, "workers": number, "cores": cores(), "images_per_s": pace})
        run.say(f"  loader, {kind}, {number} workers: {pace:.0f} images/s")
    return rows


def cores() -> int:
    """The processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def readers(batch: int, size: int = 224) -> int:
    """How many workers read: a processor less than there are, if /dev/shm holds their batches."""
    shared = Path("/dev/shm")
    each = (
        6 * batch * 3 * size**2
    )  # two batches ahead, twice over while one loader follows another, and air
    fit = shutil.disk_usage(shared).free // each if shared.is_dir() else 1
    return min(max(1, cores() - 1), fit)


def summary(found: dict) -> str:
    """Ours against the plain loop, both as they are, per precision."""
    said = []
    for precision in PRECISIONS:
        seconds = {
            r["variant"]: np.array(r["seconds"])
            for r in found["steps"]
            if r["precision"] == precision
        }
        if {"ours", "plain"} <= seconds.keys():
            ratio = np.median(seconds["plain"] / seconds["ours"])
            said.append(
                f"{precision} {found['batch'] / np.median(seconds['ours']):.0f} images/s, "
                f"{ratio:.2f}×"
            )
    return "ours, and plain / ours: " + ("; ".join(said) or "nothing measured")


def _pinned(tensor: Tensor, device: torch.device) -> Tensor:
    return tensor.pin_memory() if device.type == "cuda" else tensor


def _reset(device: torch.device) -> int:
    if device.type != "cuda":
        return 0
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()


def _peak(device: torch.device) -> int:
    return torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
