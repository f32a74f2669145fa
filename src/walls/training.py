"""Training [VGG], masked or baseline: SGD with momentum, weight decay and a schedule, random crop and flip.

A checkpoint per epoch lies in `.resume/`, keyed by everything that shapes the weights, so that a killed run goes on
where it was and ends with the same bytes; a finished run deletes it.
"""

import hashlib
import inspect
import json
import math
import os
import shutil
import sys
from pathlib import Path

import pandas as pd
import torch
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
    device, precision = torch.device("cuda" if torch.cuda.is_available() else "cpu"), resolve(settings.precision)
    model.to(device)
    model.features.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay)
    steps = len(train_set) // settings.batch_size
    if not steps:
        raise ValueError(f"train.batch_size: got {settings.batch_size}; takes up to {len(train_set)}, the images there are")
    scheduler = schedule(optimizer, settings, steps)
    step = torch.compile(model) if settings.compile else model
    scaler = torch.amp.GradScaler(device.type, enabled=precision == "float16")
    state = {"model": model, "optimizer": optimizer, "scheduler": scheduler, "scaler": scaler}
    history = _resume(resume, state)
    bar = tqdm(total=steps * settings.epochs, initial=steps * len(history), desc="training", unit="step", mininterval=1)
    for epoch in range(len(history) + 1, settings.epochs + 1):
        # Dropout's randomness depends on the epoch alone, so a resumed epoch is the same epoch.
        torch.manual_seed(int(data.stream(train_set.seed, "dropout", epoch).integers(2**63)))
        model.train()
        losses = []
        for images, labels in data.loader(train_set, settings.batch_size, settings.workers, epoch):
            images = data.normalise(images.to(device)).contiguous(memory_format=torch.channels_last)
            with torch.autocast(device.type, getattr(torch, precision), enabled=precision != "float32"):
                loss = nn.functional.cross_entropy(step(images).float(), labels.to(device))
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scale = scaler.get_scale()
            scaler.step(optimizer)
            scaler.update()
            if scaler.get_scale() >= scale:  # else float16 overflowed and this step was left out
                scheduler.step()
            losses.append(loss.detach())
            bar.update()
        mean = float(torch.stack(losses).double().mean())
        if not math.isfinite(mean):
            first = int((~torch.isfinite(torch.stack(losses))).nonzero()[0])
            raise ValueError(f"the loss is not finite from step {first + 1} of epoch {epoch} on; takes a lower train.lr")
        scores = accuracy(predict(model, val_set, settings))
        history.append({"epoch": epoch, "train_loss": mean, **scores})
        bar.set_postfix(loss=f"{mean:.3f}", top1=f"{scores['top1']:.3f}")
        _keep(resume, state, history)
    bar.close()
    model.to("cpu", memory_format=torch.contiguous_format).eval()
    record = {"precision": precision, "device": device.type, "epochs": settings.epochs,
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
        if not torch.isfinite(logits).all():
            raise ValueError("the network's logits are not finite on the validation images; takes a lower train.lr")
        rank = (logits >= logits.gather(1, labels.to(device)[:, None])).sum(1)  # a tie counts against the label
        rows.append(torch.stack([labels, logits.argmax(1).cpu(), rank.cpu()], 1))
    table = pd.DataFrame(torch.cat(rows).numpy(), columns=["label", "predicted", "rank"])
    table.insert(0, "path", [Path(path).name for path in images.paths])
    return table


def accuracy(predictions: pd.DataFrame) -> dict[str, float]:
    """Top-1 and top-5 accuracy, in [0, 1]."""
    return {"top1": float((predictions["rank"] <= 1).mean()), "top5": float((predictions["rank"] <= 5).mean())}


def resume_folder(images: data.Images, precision: str, *settings: object) -> Path:
    """Where a run keeps its checkpoint: named after all that shapes its weights, the pixels and this code included."""
    parts = [torch.__version__, torch.get_num_threads(), torch.cuda.is_available(), resolve(precision), *settings]
    parts += [inspect.getsource(module) for module in (data, geometry, models, sys.modules[__name__])]
    parts += images.labels + [hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in images.paths]
    return paths.root() / ".resume" / hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def finish(resume: Path) -> None:
    """Delete a run's checkpoint, once its weights are written."""
    shutil.rmtree(resume, ignore_errors=True)


def _keep(folder: Path, state: dict, history: list[dict]) -> None:
    """Write the checkpoint whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    saved = {name: _plain(part.state_dict()) for name, part in state.items()}
    partial = folder / "epoch.pt.partial"
    with open(partial, "wb") as file:
        torch.save(saved | {"history": history}, file)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(folder / "epoch.pt")


def _resume(folder: Path, state: dict) -> list[dict]:
    """Load the checkpoint where there is one; return its history."""
    if not (folder / "epoch.pt").is_file():
        return []
    saved = torch.load(folder / "epoch.pt", weights_only=True)
    for name, part in state.items():
        part.load_state_dict(saved[name])
    return saved["history"]


def _plain(state: dict) -> dict:
    """A scheduler's state without the functions some keep, which `weights_only` refuses."""
    return {name: value for name, value in state.items() if not callable(value)}


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
