"""Training [VGG], masked or baseline: SGD with momentum, weight decay and a schedule, random crop and flip.

A checkpoint per epoch lies in `.resume/`, keyed by everything that shapes the weights, so that a killed run goes on
where it was and ends with the same bytes; a finished run deletes it.
"""

import hashlib
import inspect
import json
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import nn
from tqdm import tqdm

from walls import data, geometry, models, params, paths
from walls.models import Classifier


def build(which: str, settings: params.Model, classes: int, wall_rows: int, image_size: int, seed: int) -> Classifier:
    """The untrained network: `which` is masked (behind a wall of `wall_rows`) or baseline (no wall)."""
    return models.seeded(
        seed, width=settings.width, dense=settings.dense, classes=classes, batch_norm=settings.batch_norm,
        wall_rows=wall_rows if which == "masked" else 0, image_size=image_size, dropout=settings.dropout,
    )  # fmt: skip


def obtain(
    model: Classifier,
    which: str,
    checkpoint: str | None,
    train_set: data.Images,
    val_set: data.Images,
    settings: params.Train,
    resume: Path,
) -> tuple[pd.DataFrame, dict]:
    """`train`, or the weights of `checkpoint`/`which`.safetensors instead, with an empty history.

    Raises ValueError where that checkpoint has another configuration, naming the entry that differs.
    """
    if checkpoint is None:
        return train(model, train_set, val_set, settings, resume)
    file = Path(checkpoint).expanduser() / f"{which}.safetensors"
    model.load_state_dict(models.load(file, **model.config).state_dict())
    record = {"precision": "checkpoint", "device": "cpu", "epochs": 0, "images_seen": 0}
    return pd.DataFrame(columns=["epoch", "train_loss", "top1", "top5"]), record


def train(
    model: Classifier, train_set: data.Images, val_set: data.Images, settings: params.Train, resume: Path
) -> tuple[pd.DataFrame, dict]:
    """Train `model` in place; return its history and its record.

    History, a row per epoch: epoch, train_loss (mean over the epoch), top1, top5 (on `val_set`, in [0, 1]). Record:
    what `auto` resolved to (precision, device) and the images seen. `resume`: the folder of this run's checkpoint.
    Raises ValueError where the loss stops being finite, naming the step.
    """
    precision = resolve(settings.precision)
    accelerator = Accelerator(mixed_precision={"bfloat16": "bf16", "float16": "fp16", "float32": "no"}[precision])
    model.to(accelerator.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    steps = len(train_set) // settings.batch_size
    if not steps:
        raise ValueError(f"train.batch_size: got {settings.batch_size}; takes up to {len(train_set)}, the images there are")
    scheduler = schedule(optimizer, settings, steps)
    step = torch.compile(model) if settings.compile else model
    history = _resume(resume, model, optimizer, scheduler)
    scaler = torch.amp.GradScaler(accelerator.device.type, enabled=precision == "float16")
    bar = tqdm(total=steps * settings.epochs, initial=steps * len(history), desc="training", unit="step", mininterval=1)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        # Dropout's randomness depends on the epoch alone, so a resumed epoch is the same epoch.
        torch.manual_seed(int(data.stream(train_set.seed, "dropout", epoch).integers(2**63)))
        model.train()
        losses = []
        for images, labels in data.loader(train_set, settings.batch_size, settings.workers, epoch):
            images = data.normalise(images.to(accelerator.device)).contiguous(memory_format=torch.channels_last)
            with accelerator.autocast():
                loss = nn.functional.cross_entropy(step(images).float(), labels.to(accelerator.device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
            scheduler.step()
            losses.append(loss.detach())
            bar.update()
        mean = float(torch.stack(losses).double().mean())
        if mean != mean or mean in (float("inf"), -float("inf")):
            first = int((~torch.isfinite(torch.stack(losses))).nonzero()[0])
            raise ValueError(f"the loss is not finite from step {first + 1} of epoch {epoch} on; takes a lower train.lr")
        scores = accuracy(predict(model, val_set, settings))
        history.append({"epoch": epoch, "train_loss": mean, **scores})
        bar.set_postfix(loss=f"{mean:.3f}", top1=f"{scores['top1']:.3f}")
        _keep(resume, model, optimizer, scheduler, history)
    bar.close()
    model.to("cpu", memory_format=torch.contiguous_format).eval()
    record = {"precision": precision, "device": accelerator.device.type, "epochs": settings.epochs,
              "images_seen": steps * settings.batch_size * settings.epochs}  # fmt: skip
    return pd.DataFrame(history), record


def resolve(precision: str) -> str:
    """What `auto` means here: bfloat16 where the device has it in hardware, else float32."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    return "bfloat16" if "avx512_bf16" in _cpu_flags() else "float32"


def schedule(optimizer: torch.optim.Optimizer, settings: params.Train, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate per step: onecycle, cosine, step (a tenth after every third of the epochs) or constant."""
    total = steps * settings.epochs
    rates = torch.optim.lr_scheduler
    match settings.schedule:
        case "onecycle":
            # Its peak is train.lr; at least 2 steps, or it divides by zero.
            return rates.OneCycleLR(optimizer, settings.lr, max(total, 2), cycle_momentum=False)
        case "cosine":
            return rates.CosineAnnealingLR(optimizer, total)
        case "step":
            return rates.StepLR(optimizer, -(-settings.epochs // 3) * steps, 0.1)
        case _:
            return rates.ConstantLR(optimizer, 1.0)


@torch.no_grad()
def predict(model: Classifier, images: data.Images, settings: params.Train) -> pd.DataFrame:
    """Every image's label, predicted class and the label's rank among the logits (1: right), in float32."""
    device = next(model.parameters()).device
    model.eval()
    rows = []
    for batch, labels in data.loader(images, 2 * settings.batch_size, settings.workers):
        logits = model(data.normalise(batch.to(device)).contiguous(memory_format=torch.channels_last)).float()
        rank = (logits > logits.gather(1, labels.to(device)[:, None])).sum(1) + 1
        rows.append(torch.stack([labels, logits.argmax(1).cpu(), rank.cpu()], 1))
    table = pd.DataFrame(torch.cat(rows).numpy(), columns=["label", "predicted", "rank"])
    table.insert(0, "path", [Path(path).name for path in images.paths])
    return table


def accuracy(predictions: pd.DataFrame) -> dict[str, float]:
    """Top-1 and top-5 accuracy, in [0, 1]."""
    return {"top1": float((predictions["rank"] <= 1).mean()), "top5": float((predictions["rank"] <= 5).mean())}


def resume_folder(which: str, seed: int, *settings: object) -> Path:
    """Where a run keeps its checkpoint: named after all that shapes its weights, this code included."""
    parts = [which, str(seed), torch.__version__, str(torch.get_num_threads()), *map(str, settings)]
    parts += [inspect.getsource(module) for module in (data, geometry, models, sys.modules[__name__])]
    return paths.root() / ".resume" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def finish(resume: Path) -> None:
    """Delete a run's checkpoint, once its weights are written."""
    shutil.rmtree(resume, ignore_errors=True)


def _keep(folder: Path, model: Classifier, optimizer, scheduler, history: list[dict]) -> None:
    """Write the checkpoint whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"model": model.state_dict(), "optimizer": optimizer.state_dict(),
             "scheduler": _plain(scheduler.state_dict()), "history": history}  # fmt: skip
    partial = folder / "epoch.pt.partial"
    with open(partial, "wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / "epoch.pt")


def _resume(folder: Path, model: Classifier, optimizer, scheduler) -> list[dict]:
    """Load the checkpoint where there is one; return its history."""
    if not (folder / "epoch.pt").is_file():
        return []
    state = torch.load(folder / "epoch.pt", weights_only=True)
    model.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    scheduler.load_state_dict(state["scheduler"])
    return state["history"]


def _plain(state: dict) -> dict:
    """A scheduler's state without the functions some keep, which `weights_only` refuses."""
    return {name: value for name, value in state.items() if not callable(value)}


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
