"""A training on several devices: what accelerate's launcher starts in each process."""

from typing import Any

import torch

from walls.base import params
from walls.training.job import WHICH, job
from walls.training.loop import train


def whole(which: str) -> None:
    """Train one network from params.yaml and what `dvc repro wall data` made.

    The network is left in `.resume/`.

    Raises ValueError for another name, and where there is nothing to train.
    """
    if which not in WHICH:
        raise ValueError(f"train: got {which}; takes {' or '.join(WHICH)}")
    p: Any = params.load()
    if p.model.checkpoint is not None:
        got = p.model.checkpoint
        raise ValueError(
            f"model.checkpoint: got {got}, weights that are trained; takes null to train"
        )
    work = job(which, p.seed, p.image_size, p.data.classes, p.model, p.train)
    history, record = train(work.network, work.train_set, work.val_set, p.train, work.resume)
    first = True
    if torch.distributed.is_initialized():
        first = torch.distributed.get_rank() == 0
        torch.distributed.destroy_process_group()
    if first:
        print(
            f"{which}: {record['epochs']} epochs in {record['precision']} on {record['device']}, "
            f"top-1 {history['top1'].iloc[-1]:.1%}; `dvc repro` takes it from here"
        )
