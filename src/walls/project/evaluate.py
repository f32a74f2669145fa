"""An evaluation on several devices: what accelerate's launcher starts in each process."""

from contextlib import nullcontext
from typing import Any

from walls.base import params, paths
from walls.base.messages import shown
from walls.images import stacked
from walls.network import checkpoints, geometry
from walls.pipeline.locks import alone
from walls.saliency import evaluation
from walls.saliency.processes import launched

# What notebook 6 reads, and the stage that makes it.
NEEDED = {
    "runs/wall/masked.json": "wall",
    "models/masked.safetensors": "train@masked",
    "runs/stacks/manifest.csv": "stacks",
}


def whole(which: str) -> None:
    """Every method's maps of one dataset, from params.yaml and what `dvc repro train stacks` made.

    Left in `.resume/`, where notebook 6 takes them. Raises ValueError for another name, and where
    there is nothing to evaluate.
    """
    if which not in stacked.DATASETS:
        raise ValueError(f"evaluate: got {shown(which)}; takes {' or '.join(stacked.DATASETS)}")
    p: Any = params.load()
    root = paths.root()
    for file, stage in NEEDED.items():
        if not (root / file).is_file():
            raise ValueError(f"{file}: not there; takes a `dvc repro {stage}` first")
    zone = geometry.read_zone(root / "runs" / "wall" / "masked.json")
    expected = {"wall_rows": zone.wall_rows, "image_size": p.image_size}
    network = checkpoints.load(root / "models" / "masked.safetensors", **expected)
    _, images = stacked.read(root / "runs" / "stacks", which, p.image_size)
    if not len(images):
        raise ValueError(f"evaluate: got {which}, without images (stacks.generator); takes others")
    resume = root / ".resume" / f"cams-{which}"
    with launched() as processes:
        # The first of them holds the stage's lock: its notebook would delete what they are at.
        with nullcontext() if processes.rank else alone(f"cams@{which}"):
            settings = p.cams.model_copy(update={"costly_images": None})  # as notebook 6 has them
            evaluation.evaluate(network, images, settings, zone, resume, processes)
    if processes.rank == 0:
        count = f"{len(images)} images, {len(p.cams.methods)} methods"
        print(f"{which}: {count}; `dvc repro` takes it from here")
