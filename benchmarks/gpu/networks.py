"""Part d: the paper's networks at their whole width, trained in the time there is; Table 1.

As many epochs as fit: a short trial shows whether the networks learn at the learning rate (if not:
a quarter of it), a few steps of either are timed. Then STACK-MIX and every method's µ×100, and the
same above something else (control.py).
"""

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from itertools import count
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import torch
import yaml
from accelerate import Accelerator
from torch import Tensor, nn

from benchmarks.gpu import carried, control, exactness, preset
from benchmarks.gpu.run import Run
from walls.base import files, params
from walls.images import loaders, stacked, transforms
from walls.network import classifier, geometry
from walls.network.certificate import certify
from walls.paper import claims, table1
from walls.saliency import comparisons, evaluation
from walls.sources.kinds import SOURCES
from walls.stacks import build as stacks
from walls.training import job, loop

REJECTS = Path(__file__).resolve().parents[2] / "rejects.csv"
MOST_EPOCHS, TINY_EPOCHS = 40, 3
TRIAL = 150  # steps of the baseline, the larger network, to see whether it learns at that rate
WARM = 5  # steps that the pace doesn't count
EVALUATING = 0.3  # of the part's time is kept for what comes after the training
CHANGED = "the prediction changed with what is below the edge"


def measure(run: Run) -> str:
    """Write networks.json, table1.csv and pictures.zip; the result in a sentence."""
    found: dict = {"errors": {}, "train": {}, "control": [], "claims": []}
    folder = run.images()
    p = params.check(yaml.safe_load((folder.parent / "params.yaml").read_text(encoding="utf-8")))
    crop = SOURCES[p.data.name].crop_area
    train_set = loaders.Images(loaders.read_manifest(folder, "train"), p.image_size, crop, p.seed)
    val_set = loaders.Images(loaders.read_manifest(folder, "val"), p.image_size)
    run.say(f"  {p.data.classes} classes; images: {len(train_set)} train, {len(val_set)} val")
    zone = built("masked", p).zone(p.image_size)
    pace = {which: paced(run, which, p, train_set, val_set) for which in job.WHICH}
    p = tried(run, p, train_set, val_set, found)
    epochs, train_set = planned(run, pace, p, train_set)
    p = p.model_copy(update={"train": p.train.model_copy(update={"epochs": epochs})})
    found |= {
        "params": preset.told(p),
        "pace": pace,
        "epochs": epochs,
        "wall": geometry.facts(zone),
        "images": {"train": len(train_set), "val": len(val_set)},
    }
    run.keep("networks", found)
    kept = carried.Pictures(run.out / "pictures.zip")

    masked, predictions = trained(run, "masked", p, train_set, val_set, found, kept)
    certified(run, masked, val_set, zone, p, found)
    stacks.build(
        p.stacks, loaders.read_manifest(folder, "val"), zone, p.seed, folder.parent, REJECTS
    )
    rows, pictures = stacked.read(folder.parent, "stack-mix", p.image_size)
    images = pictures[:]
    p = able(run, masked, images, zone, p, found)
    measured, took = measured_on(run, masked, images, rows, control.SAME, p, zone, kept)
    mix = measured.assign(dataset="stack-mix")
    table = table1.with_uniform(table1.table1(mix, p.seed), zone.dead_share)
    files.write_csv(table, run.out / "table1.csv", digits=4)
    found["activity"] = {row.method: round(row.mean, 3) for row in table.itertuples()}
    found["control"] += control.controlled(measured)
    run.keep("networks", found)
    run.say(f"  Table 1: {headline(table)} ({took:.2f} s an image)")

    _, others = trained(run, "baseline", p, train_set, val_set, found, kept)
    follows = run.attempt(
        "which part the logits follow",
        lambda: comparisons.follows_upper(masked, images[:16], zone, list(rows["label"][:16])),
        found["errors"],
    )
    checks = {"stack-mix": {"follows_upper": follows}}
    predicted = {"masked": predictions, "baseline": others}
    found["claims"] = claims.ledger(claims.Findings(found["wall"], mix, checks, predicted, {}))
    run.keep("networks", found)
    controls(run, masked, images, rows, measured, took, p, zone, found, kept)
    top1 = ", ".join(f"{which} {100 * s['top1']:.1f}%" for which, s in found["train"].items())
    return f"{epochs} epochs; top-1 {top1}; {headline(table)}"


def built(which: str, p: params.Params) -> classifier.Classifier:
    """The untrained network."""
    return job.build(which, p.model, p.data.classes, p.wall.rows, p.image_size, p.seed)


def certified(
    run: Run,
    masked: classifier.Classifier,
    val_set: loaders.Images,
    zone: geometry.DeadZone,
    p: params.Params,
    found: dict,
) -> None:
    """Certify the trained weights, on the processor and four validation images."""
    images = torch.stack([val_set[position][0] for position in range(min(4, len(val_set)))])
    certificate = certify(masked, zone.image_rows, transforms.normalise(images), p.seed)
    found["wall"]["certified"] = certificate.holds
    found["certificate"] = asdict(certificate)
    run.say(f"  certified on the trained weights: {certificate.holds}")
    run.keep("networks", found)


def able(
    run: Run,
    masked: classifier.Classifier,
    images: Tensor,
    zone: geometry.DeadZone,
    p: params.Params,
    found: dict,
) -> params.Params:
    """The dead zone on the device, and the parameters with the methods that the device computes."""
    found["sealed"] = run.attempt(
        "dead zone on the device",
        lambda: exactness.sealed(masked, images[:8], zone.seen_rows, run.device),
        found["errors"],
    )
    one = transforms.normalise(images[:1])
    names = exactness.working(run, masked, one, p.cams.methods, found["errors"])
    return p.model_copy(update={"cams": p.cams.model_copy(update={"methods": names})})


def controls(
    run: Run,
    masked: classifier.Classifier,
    images: Tensor,
    rows: pd.DataFrame,
    measured: pd.DataFrame,
    took: float,
    p: params.Params,
    zone: geometry.DeadZone,
    found: dict,
    kept: carried.Pictures,
) -> None:
    """The same upper parts above something else, as many as the time left allows at `took` s."""
    left = control.BELOW[1:]
    fits = min(len(images), int((run.left() - 2) / (1.1 * len(left) * took)))
    for below in left:
        if fits < min(8, len(images)):
            found["errors"][f"control, {below}"] = "left out: no time"
            continue
        changed = control.under(images, rows["label"].to_numpy(), zone, below, p.seed)[:fits]
        other, took = measured_on(run, masked, changed, rows[:fits], below, p, zone, kept)
        same = measured[measured["image"] < fits]
        if not np.array_equal(other["predicted"], same["predicted"]):
            found["errors"][f"control, {below}"] = CHANGED
        found["control"] += control.controlled(other)
        run.keep("networks", found)
        score = control.mean(other, "GradCAM")
        run.say(f"  above {below}: GradCAM {score:.1f} ({fits} images, {took:.2f} s each)")


def paced(
    run: Run, which: str, p: params.Params, train_set: loaders.Images, val_set: loaders.Images
) -> dict[str, float]:
    """Seconds of a step with its loader, and of a pass over the validation images."""
    accelerator = Accelerator(cpu=run.device.type == "cpu", mixed_precision="no")
    network = built(which, p).train()
    step = loop.Step(network, p.train.model_copy(update={"epochs": 1}), 10**6, accelerator)
    batches = iter(loaders.loader(train_set, p.train.batch_size, p.train.workers, count(1)))
    for _ in range(WARM):
        step(batches)
    _wait(run.device)
    began, number = time.perf_counter(), 0
    while number < 10 or time.perf_counter() < began + min(4, run.left() / 50):
        step(batches)
        number += 1
        _wait(run.device)
    a_step = (time.perf_counter() - began) / number
    began = time.perf_counter()
    loop.predict(network, val_set, p.train)
    a_pass = time.perf_counter() - began
    accelerator.free_memory()
    run.say(
        f"  {which}: {p.train.batch_size / a_step:.0f} images/s with its loader; validation "
        f"{a_pass:.1f} s"
    )
    return {"step": a_step, "validation": a_pass, "images_per_s": p.train.batch_size / a_step}


def tried(
    run: Run, p: params.Params, train_set: loaders.Images, val_set: loaders.Images, found: dict
) -> params.Params:
    """The parameters; a quarter of the learning rate where a short training ends near chance."""
    few = min(TRIAL * p.train.batch_size, len(train_set))
    every = np.linspace(0, len(train_set) - 1, few).astype(int)  # the images lie class by class
    some = loaders.Images(
        pd.DataFrame({"path": train_set.paths[every], "label": train_set.labels[every]}),
        train_set.size,
        train_set.crop_area,
        train_set.seed,
    )
    once = p.train.model_copy(update={"epochs": 1})
    with without_checkpoints():
        history = run.attempt(
            "trial",
            lambda: loop.train(built("baseline", p), some, val_set, once, run.scratch / "trial")[0],
            found["errors"],
        )
    run.free()
    top1 = None if history is None else float(history["top1"].iloc[-1])
    learns = top1 is not None and top1 > 2 / p.data.classes
    found["trial"] = {
        "lr": p.train.lr,
        "steps": few // p.train.batch_size,
        "top1": top1,
        "learns": learns,
    }
    lr = p.train.lr if learns else p.train.lr / 4
    run.say(
        f"  trial of {few // p.train.batch_size} steps at {p.train.lr:g}: top-1 {top1}; the "
        f"training takes {lr:g}"
    )
    return p.model_copy(update={"train": p.train.model_copy(update={"lr": lr})})


def planned(
    run: Run, pace: dict, p: params.Params, train_set: loaders.Images
) -> tuple[int, loaders.Images]:
    """How many epochs of both networks fit, and the images: all, or as many as one has time for."""
    share = run.left() * (1 - EVALUATING)
    steps_each = len(train_set) // p.train.batch_size
    an_epoch = sum(1.05 * steps_each * one["step"] + one["validation"] for one in pace.values())
    epochs = min(
        TINY_EPOCHS if run.tiny else MOST_EPOCHS,
        int((share - sum(one["validation"] for one in pace.values())) / an_epoch),
    )
    run.say(f"  an epoch of both networks: {an_epoch:.1f} s; {epochs} fit in {share:.0f} s")
    if epochs >= 1:
        return epochs, train_set
    fit = max(0.0, share - 2 * sum(one["validation"] for one in pace.values())) / sum(
        one["step"] for one in pace.values()
    )
    each = max(
        1,
        math.ceil(fit * p.train.batch_size / p.data.classes),
        math.ceil(p.train.batch_size / p.data.classes),
    )
    manifest = (
        pd.DataFrame({"path": train_set.paths, "label": train_set.labels})
        .groupby("label")
        .head(each)
    )
    run.say(f"  not one does: {each} images of each class instead")
    return 1, loaders.Images(manifest, train_set.size, train_set.crop_area, train_set.seed)


def trained(
    run: Run,
    which: str,
    p: params.Params,
    train_set: loaders.Images,
    val_set: loaders.Images,
    found: dict,
    kept: carried.Pictures,
) -> tuple[classifier.Classifier, pd.DataFrame]:
    """One network, trained as notebook 4 does, and its predictions; both are kept."""
    began = run.clock()
    network = built(which, p)
    with without_checkpoints():
        history, record = loop.train(network, train_set, val_set, p.train, run.scratch / which)
    took = run.clock() - began
    predictions = loop.predict(network.to(run.device), val_set, p.train)
    network.to("cpu")
    scores = loop.accuracy(predictions)
    found["train"][which] = (
        scores
        | {"train_loss": round(history["train_loss"].iloc[-1], 6)}
        | record
        | {"seconds": round(took, 1)}
    )
    kept.add(
        f"history-{which}.csv",
        history.to_csv(index=False, float_format="%.6f", lineterminator="\n"),
    )
    run.keep("networks", found)
    run.free()
    run.say(
        f"  {which}: {p.train.epochs} epochs in {took:.1f} s, top-1 {100 * scores['top1']:.1f}%"
    )
    return network, predictions


@contextmanager
def without_checkpoints() -> Iterator[None]:
    """Training writes its checkpoints, two gigabytes an epoch, as empty files."""

    def touch(file: Path, saved: dict) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()

    with mock.patch.object(loop, "_keep", touch):
        yield


def measured_on(
    run: Run,
    network: nn.Module,
    images: Tensor,
    rows: pd.DataFrame,
    below: str,
    p: params.Params,
    zone: geometry.DeadZone,
    kept: carried.Pictures,
) -> tuple[pd.DataFrame, float]:
    """Every method's activity, long, with the column `below`; the seconds an image took."""
    began = run.clock()
    measured, maps = evaluation.evaluate(network, images, p.cams, zone)
    took = (run.clock() - began) / len(images)
    measured.insert(0, "below", below)
    kept.show(below, images, maps, rows["class"].tolist())
    kept.add(
        f"activity-{below.replace(' ', '-')}.csv",
        measured.to_csv(index=False, float_format="%.6g", lineterminator="\n"),
    )
    return measured, took


def headline(table: pd.DataFrame) -> str:
    """µ×100 of the two methods that tell the story."""
    means = table.set_index("method")["mean"]
    return "µ×100 " + ", ".join(
        f"{name} {means[name]:.1f}" for name in ("GradCAM", "HiResCAM") if name in means
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
