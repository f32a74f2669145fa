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
from walls import claims, data, evaluation, geometry, models, params, stacks, training

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
    train_set = data.Images(
        data.read_manifest(folder, "train"), p.image_size, data.CROP_AREA[p.data.name], p.seed
    )
    val_set = data.Images(data.read_manifest(folder, "val"), p.image_size)
    run.say(
        f"  {p.data.classes} classes, {len(train_set)} images to train on, {len(val_set)} to "
        "validate on"
    )
    facts = geometry.facts(
        training.build("masked", p.model, p.data.classes, p.wall.rows, p.image_size, p.seed).zone(
            p.image_size
        )
    )
    pace = {which: paced(run, which, p, train_set, val_set) for which in training.WHICH}
    p = tried(run, p, train_set, val_set, found)
    epochs, train_set = planned(run, pace, p, train_set)
    p = p.model_copy(update={"train": p.train.model_copy(update={"epochs": epochs})})
    found |= {
        "params": preset.told(p),
        "pace": pace,
        "epochs": epochs,
        "wall": facts,
        "images": {"train": len(train_set), "val": len(val_set)},
    }
    run.keep("networks", found)
    kept = carried.Pictures(run.out / "pictures.zip")

    masked, predictions = trained(run, "masked", p, train_set, val_set, found, kept)
    certificate = models.certify(
        masked, p.image_size, data.normalise(val_set_images(val_set, 4)), p.seed
    )
    facts["certified"] = certificate.holds
    found["certificate"] = asdict(certificate)
    run.say(f"  certified on the trained weights: {certificate.holds}")
    run.keep("networks", found)
    photographs = data.read_manifest(folder, "val")
    stacks.build(
        p.stacks,
        photographs,
        facts["seen_rows"],
        p.image_size,
        p.seed,
        folder.parent,
        REJECTS,
    )
    rows, pictures = stacks.read(folder.parent, "stack-mix", p.image_size)
    images = pictures[:]
    found["sealed"] = run.attempt(
        "dead zone on the device",
        lambda: exactness.sealed(masked, images[:8], facts["seen_rows"], run.device),
        found["errors"],
    )
    able = exactness.working(
        run, masked, data.normalise(images[:1]), p.cams.methods, found["errors"]
    )
    p = p.model_copy(update={"cams": p.cams.model_copy(update={"methods": able})})
    measured, took = measured_on(run, masked, images, rows, control.SAME, p, facts, kept)
    table = claims.with_uniform(
        claims.table1(measured.assign(dataset="stack-mix"), p.seed), facts["dead_share"]
    )
    table.to_csv(run.out / "table1.csv", index=False, float_format="%.4f", lineterminator="\n")
    found["control"] += control.controlled(measured)
    run.keep("networks", found)
    run.say(f"  Table 1: {headline(table)} ({took:.2f} s an image)")

    baseline, others = trained(run, "baseline", p, train_set, val_set, found, kept)
    del baseline
    checks = {
        "stack-mix": {
            "follows_upper": run.attempt(
                "which part the logits follow",
                lambda: evaluation.follows_upper(masked, images[:16], facts["seen_rows"]),
                found["errors"],
            )
        }
    }
    found["claims"] = claims.ledger(
        facts,
        measured.assign(dataset="stack-mix"),
        checks,
        {"masked": predictions, "baseline": others},
        {},
    )
    run.keep("networks", found)
    for number, below in enumerate(control.BELOW[1:]):
        share = (run.left() - 2) / (len(control.BELOW) - 1 - number)
        fits = min(len(images), int(share / max(1.2 * took, 1e-9)))
        if fits < min(8, len(images)):
            found["errors"][f"control, {below}"] = "left out: no time"
            continue
        parts = control.under(images, rows["label"].to_numpy(), facts["seen_rows"], below, p.seed)[
            :fits
        ]
        other, took = measured_on(run, masked, parts, rows[:fits], below, p, facts, kept)
        if not np.array_equal(other["predicted"], measured[measured["image"] < fits]["predicted"]):
            found["errors"][f"control, {below}"] = CHANGED
        found["control"] += control.controlled(other)
        run.keep("networks", found)
        run.say(
            f"  above {below}: GradCAM {control.mean(other, 'GradCAM'):.1f} ({fits} images, "
            f"{took:.2f} s each)"
        )
    found["activity"] = {row.method: round(row.mean, 3) for row in table.itertuples()}
    run.keep("networks", found)
    top1 = ", ".join(
        f"{which} {100 * scores['top1']:.1f}%" for which, scores in found["train"].items()
    )
    return f"{epochs} epochs; top-1 {top1}; {headline(table)}"


def paced(
    run: Run, which: str, p: params.Params, train_set: data.Images, val_set: data.Images
) -> dict[str, float]:
    """Seconds of a step with its loader, and of a pass over the validation images."""
    accelerator = Accelerator(cpu=run.device.type == "cpu", mixed_precision="no")
    network = training.build(
        which, p.model, p.data.classes, p.wall.rows, p.image_size, p.seed
    ).train()
    step = training.Step(network, p.train.model_copy(update={"epochs": 1}), 10**6, accelerator)
    batches = iter(data.loader(train_set, p.train.batch_size, p.train.workers, count(1)))
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
    training.predict(network, val_set, p.train)
    a_pass = time.perf_counter() - began
    accelerator.free_memory()
    run.say(
        f"  {which}: {p.train.batch_size / a_step:.0f} images/s with its loader; validation "
        f"{a_pass:.1f} s"
    )
    return {"step": a_step, "validation": a_pass, "images_per_s": p.train.batch_size / a_step}


def tried(
    run: Run, p: params.Params, train_set: data.Images, val_set: data.Images, found: dict
) -> params.Params:
    """The parameters; a quarter of the learning rate where a short training ends near chance."""
    few = min(TRIAL * p.train.batch_size, len(train_set))
    every = np.linspace(0, len(train_set) - 1, few).astype(int)  # the images lie class by class
    some = data.Images(
        pd.DataFrame({"path": train_set.paths[every], "label": train_set.labels[every]}),
        train_set.size,
        train_set.crop_area,
        train_set.seed,
    )
    shape = ("baseline", p.model, p.data.classes, p.wall.rows, p.image_size, p.seed)
    once = p.train.model_copy(update={"epochs": 1})
    with without_checkpoints():
        history = run.attempt(
            "trial",
            lambda: training.train(
                training.build(*shape), some, val_set, once, run.scratch / "trial"
            )[0],
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
    run: Run, pace: dict, p: params.Params, train_set: data.Images
) -> tuple[int, data.Images]:
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
    return 1, data.Images(manifest, train_set.size, train_set.crop_area, train_set.seed)


def trained(
    run: Run,
    which: str,
    p: params.Params,
    train_set: data.Images,
    val_set: data.Images,
    found: dict,
    kept: carried.Pictures,
) -> tuple[models.Classifier, pd.DataFrame]:
    """One network, trained as notebook 4 does, and its predictions; both are kept."""
    began = run.clock()
    network = training.build(which, p.model, p.data.classes, p.wall.rows, p.image_size, p.seed)
    with without_checkpoints():
        history, record = training.train(network, train_set, val_set, p.train, run.scratch / which)
    took = run.clock() - began
    predictions = training.predict(network.to(run.device), val_set, p.train)
    network.to("cpu")
    scores = training.accuracy(predictions)
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

    with mock.patch.object(training, "_keep", touch):
        yield


def val_set_images(val_set: data.Images, number: int) -> Tensor:
    """The first images, uint8 (N, 3, H, W)."""
    return torch.stack([val_set[position][0] for position in range(min(number, len(val_set)))])


def measured_on(
    run: Run,
    network: nn.Module,
    images: Tensor,
    rows: pd.DataFrame,
    below: str,
    p: params.Params,
    facts: dict,
    kept: carried.Pictures,
) -> tuple[pd.DataFrame, float]:
    """Every method's activity, long, with the column `below`; the seconds an image took."""
    began = run.clock()
    measured, maps = evaluation.evaluate(network, images, p.cams, facts["dead_rows"])
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
