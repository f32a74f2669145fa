"""The training loop: SGD with momentum, weight decay and a schedule, random crop and flip."""

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

import pandas as pd
import PIL
import torch
import torchvision
from accelerate import Accelerator
from accelerate.utils import broadcast, broadcast_object_list, gather_object
from torch import Tensor, nn

from walls.base import files, seeds
from walls.base.progress import track
from walls.images import loaders, transforms
from walls.network.classifier import Classifier
from walls.training.settings import Train


def train(
    model: Classifier,
    train_set: loaders.Images,
    val_set: loaders.Images,
    settings: Train,
    resume: Path,
    watch: Callable[[int], None] | None = None,
) -> tuple[pd.DataFrame, dict]:
    """Train `model` in place; return its history and its record.

    History, a row per epoch: epoch, train_loss (mean over the epoch), top1, top5 (on `val_set`, in
    [0, 1]). Record: what `auto` resolved to (precision, device) and the images seen. `resume`: the
    folder of this run's checkpoints. `watch` is told how many steps were taken, before the first
    and after each; it may look at `model` and draw at random, and leaves it in training mode.
    train.batch_size is the batch of all processes together: they and one alone take the same steps
    (but for batch norm, whose statistics are of a process's share, and dropout). Trains in the
    parameters' own type, so a float64 model in float64. Raises ValueError where the loss stops
    being finite, naming the step, in every process alike.
    """
    # Precision is torch's own, not accelerate's, which fixes it for a whole session and refuses
    # float16 on a CPU.
    accelerator = Accelerator(cpu=not torch.cuda.is_available(), mixed_precision="no")
    rank, ranks = accelerator.process_index, accelerator.num_processes
    steps = _steps(len(train_set), settings, ranks)
    step = Step(model, settings, steps, accelerator)
    checkpoint = resume / f"epoch-{_machine(accelerator.device, ranks, step.precision)}.pt"
    history, record = _resume(resume, checkpoint, step.state, accelerator)
    left = range(len(history) + 1, settings.epochs + 1)
    batches = iter(
        loaders.loader(
            train_set,
            settings.batch_size,
            settings.workers,
            left,
            rank=rank,
            ranks=ranks,
            accumulate=settings.accumulate,
        )
    )
    bar = track(
        total=steps * settings.epochs,
        initial=steps * len(history),
        desc="training",
        unit="step",
        hidden=rank > 0,
    )
    if watch and not history:
        _look(watch, 0)
    for epoch in left:
        # Dropout's randomness depends on the epoch and the process alone, so a resumed epoch is the
        # same epoch.
        torch.manual_seed(int(seeds.stream(train_set.seed, "dropout", epoch, rank).integers(2**63)))
        model.train()
        losses: list[Tensor] = []
        for number in range(1, steps + 1):
            losses.append(step(batches))
            bar.update()
            if watch:
                _look(watch, (epoch - 1) * steps + number)
            # Not at every step: a look at the loss waits for the device.
            if number % 50 == 0 or number == steps:
                _require_finite(losses, epoch)
        if ranks > 1:
            # Each process has its own share's statistics; the first one's are kept.
            for buffer in model.buffers():
                broadcast(buffer)
        scores = accuracy(predict(model, val_set, settings, accelerator))
        history.append(
            {"epoch": epoch, "train_loss": float(torch.stack(losses).double().mean()), **scores}
        )
        bar.set_postfix(
            loss=f"{history[-1]['train_loss']:.3f}", top1=f"{scores['top1']:.3f}", refresh=False
        )
        if rank == 0:
            _keep(
                checkpoint,
                {name: _without_functions(part.state_dict()) for name, part in step.state.items()}
                | {"history": history},
            )
    bar.close()
    model.to("cpu", memory_format=torch.contiguous_format).eval()
    if record is None:
        record = {
            "precision": step.precision,
            "device": accelerator.device.type,
            "epochs": settings.epochs,
            "images_seen": steps * settings.batch_size * settings.epochs,
        }
        if rank == 0:
            _keep(
                resume / "finished.pt",
                {"model": model.state_dict(), "history": history, "record": record},
            )
            checkpoint.unlink()
    return pd.DataFrame(history), record


class Step:
    """A step of SGD on one global batch, by all processes together.

    `state` is what a checkpoint holds of it.
    """

    def __init__(self, model: Classifier, settings: Train, steps: int, accelerator: Accelerator):
        self.accelerator, self.accumulate = accelerator, settings.accumulate
        self.device, self.precision = (
            accelerator.device,
            resolve(settings.precision, accelerator.device),
        )
        model.to(self.device)
        # On a CPU, batch norm's backward pass is slow where few channels lie last.
        last = self.device.type == "cuda"
        self.layout = torch.channels_last if last else torch.contiguous_format
        model.features.to(memory_format=self.layout)
        self.dtype = next(model.parameters()).dtype
        self.shared = accelerator.prepare(model)  # of several processes: averages their gradients
        self.forward = torch.compile(self.shared) if settings.compile else self.shared
        self.optimizer = torch.optim.SGD(
            model.parameters(), settings.lr, settings.momentum, weight_decay=settings.weight_decay
        )
        self.scheduler = schedule(self.optimizer, settings, steps)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision == "float16")
        self.state = {
            "model": model,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "scaler": self.scaler,
        }

    def __call__(self, batches: Iterator) -> Tensor:
        """Take the step on the loader's next batch; its mean loss, a scalar.

        With `accumulate`, the batch comes in that many parts.
        """
        self.optimizer.zero_grad()
        losses = [
            self._gradients(*next(batches), last=part == self.accumulate - 1)
            for part in range(self.accumulate)
        ]
        scale = self.scaler.get_scale()
        self.scaler.step(self.optimizer)
        self.scaler.update()
        if self.scaler.get_scale() >= scale:  # else float16 overflowed and this step was left out
            self.scheduler.step()
        return self.accelerator.reduce(torch.stack(losses).sum(), "mean")

    def _gradients(self, images: Tensor, labels: Tensor, flips: Tensor, last: bool) -> Tensor:
        """Add one part's share of the batch's gradient; return its share of the mean loss."""
        images = transforms.on_device(images, flips, self.device, self.dtype, self.layout)
        # The processes' gradients are averaged once a batch, after its last part.
        with nullcontext() if last else self.accelerator.no_sync(self.shared):
            with torch.autocast(
                self.device.type,
                getattr(torch, self.precision),
                enabled=self.precision != "float32",
            ):
                logits = self.forward(images)
            loss = (
                cross_entropy(logits, labels.to(self.device, non_blocking=True)) / self.accumulate
            )
            self.scaler.scale(loss).backward()
        return loss.detach()


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """The mean cross-entropy, in float32 at least."""
    return nn.functional.cross_entropy(
        logits.to(torch.promote_types(logits.dtype, torch.float32)), labels
    )


def resolve(precision: str, device: torch.device) -> str:
    """What `auto` means on a device: bfloat16 where it has that in hardware, else float32."""
    if precision != "auto":
        return precision
    if device.type == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    return "bfloat16" if "avx512_bf16" in _cpu_flags() else "float32"


def schedule(
    optimizer: torch.optim.Optimizer, settings: Train, steps: int
) -> torch.optim.lr_scheduler.LRScheduler:
    """The learning rate per step.

    onecycle, cosine, step (a tenth after every third of the epochs) or constant.
    """
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
def predict(
    model: Classifier,
    images: loaders.Images,
    settings: Train,
    accelerator: Accelerator | None = None,
) -> pd.DataFrame:
    """Every image's label, predicted class and the label's rank, in float32.

    The rank is among the logits; 1 is right.

    With an `accelerator`, each of its processes computes a share, and each gets the whole table.
    Raises ValueError where a logit is not finite.
    """
    rank, ranks = (accelerator.process_index, accelerator.num_processes) if accelerator else (0, 1)
    weight = next(model.parameters())
    model.eval()
    if not len(images):
        return pd.DataFrame(columns=["path", "label", "predicted", "rank"])
    rows = []
    for batch, labels, flips in loaders.loader(
        images,
        -(-2 * settings.batch_size // (ranks * settings.accumulate)),
        settings.workers,
        rank=rank,
        ranks=ranks,
    ):
        logits = model.scores([transforms.on_device(batch, flips, weight.device, weight.dtype)])
        own = logits.gather(1, labels.to(weight.device)[:, None])
        above = (logits >= own).sum(1)  # a tie counts against the label
        finite = torch.isfinite(logits).all(1)
        rows.append(torch.stack([labels, logits.argmax(1).cpu(), above.cpu(), finite.cpu()], 1))
    shares = gather_object([torch.cat(rows)]) if ranks > 1 else [torch.cat(rows)]
    whole = torch.empty(len(images), 4, dtype=torch.long)
    for rank, share in enumerate(shares):
        whole[rank::ranks] = share
    if not whole[:, 3].all():  # after gathering: every process stops
        raise ValueError(
            "the network's logits are not finite on the validation images; takes a lower train.lr"
        )
    table = pd.DataFrame(whole[:, :3].numpy(), columns=["label", "predicted", "rank"])
    table.insert(0, "path", [Path(path).name for path in images.paths])
    return table


def accuracy(predictions: pd.DataFrame) -> dict[str, float | None]:
    """Top-1 and top-5 accuracy, in [0, 1]; None without images."""
    if predictions.empty:
        return {"top1": None, "top5": None}
    return {
        "top1": float((predictions["rank"] <= 1).mean()),
        "top5": float((predictions["rank"] <= 5).mean()),
    }


def _steps(images: int, settings: Train, ranks: int) -> int:
    """Steps per epoch.

    ValueError where the batch can't be shared out or there are too few images for one.
    """
    shares = ranks * settings.accumulate
    if settings.batch_size % shares:
        raise ValueError(
            f"train.batch_size: got {settings.batch_size}; takes a multiple of {shares}, "
            f"the processes times train.accumulate ({ranks} × {settings.accumulate})"
        )
    if images < settings.batch_size:
        raise ValueError(
            f"train.batch_size: got {settings.batch_size}; "
            f"takes up to {images}, the images there are"
        )
    return images // settings.batch_size


def _require_finite(losses: list[Tensor], epoch: int) -> None:
    """ValueError naming the first step whose loss isn't finite."""
    finite = torch.isfinite(torch.stack(losses))
    if not finite.all():
        first = int((~finite).nonzero()[0]) + 1
        raise ValueError(
            f"the loss is not finite from step {first} of epoch {epoch} on; takes a lower train.lr"
        )


def _look(watch: Callable[[int], None], steps: int) -> None:
    """Let it look, whatever it draws: dropout goes on where it was."""
    with torch.random.fork_rng():
        watch(steps)


def _machine(device: torch.device, ranks: int, precision: str) -> str:
    """What must be the same for an epoch to end with the same bytes.

    Half a training goes on only where it does.
    """
    versions = [torch.__version__, torchvision.__version__, PIL.__version__]
    parts = [*versions, torch.get_num_threads(), device.type, ranks, precision]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]


def _keep(file: Path, saved: dict) -> None:
    """Write a checkpoint whole or not at all."""
    with files.whole(file) as partial, open(partial, "wb") as stream:
        torch.save(saved, stream)


def _resume(
    folder: Path, checkpoint: Path, state: dict, accelerator: Accelerator
) -> tuple[list[dict], dict | None]:
    """Load the finished run, or the checkpoint where there is one; its history and record.

    A finished run may have been trained on any machine.
    """
    found = (
        [file for file in (folder / "finished.pt", checkpoint) if file.is_file()]
        if accelerator.is_main_process
        else []
    )
    # From the first process to all: the others' machines may not have the file.
    (saved,) = broadcast_object_list(
        [torch.load(found[0], map_location="cpu", weights_only=True) if found else None]
    )
    if saved is None:
        return [], None
    for name, part in state.items():
        if name in saved:
            part.load_state_dict(saved[name])
    return saved["history"], saved.get("record")


def _without_functions(state: dict) -> dict:
    """A scheduler's state without the functions some keep, which `weights_only` refuses."""
    return {name: value for name, value in state.items() if not callable(value)}


def _cpu_flags() -> str:
    try:
        return Path("/proc/cpuinfo").read_text()
    except OSError:
        return ""
