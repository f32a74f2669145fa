"""A training on several devices: what accelerate's launcher starts in each process."""

from typing import Any

import torch

from walls.base import params, paths
from walls.training.job import job
from walls.training.loop import train


def whole(which: str) -> None:
    """Train one network from params.yaml and what `dvc repro wall data` made.

    `which`: masked, baseline, or one of train.again as masked-1. The network is left in `.resume/`.

    Raises ValueError for another name, and where there is nothing to train.
    """
    p: Any = params.load()
    kinds = [*(("masked", number) for number in (0, *p.train.again)), ("baseline", 0)]
    known = {paths.weights(*kind).stem: kind for kind in kinds}
    if which not in known:
        *others, last = known
        raise ValueError(f"train: got {which}; takes {', '.join(others)} or {last}")
    kind, number = known[which]
    if p.model.checkpoint is not None:
        got = p.model.checkpoint
        raise ValueError(
            f"model.checkpoint: got {got}, weights that are trained; takes null to train"
        )
    work = job(kind, p.seed, p.image_size, p.data.classes, p.model, p.train, number)
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
