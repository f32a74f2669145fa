"""What part d trains on and how: the preset tiny-imagenet, at the paper's width."""

from pathlib import Path

import yaml

from benchmarks.gpu import archive, steps
from walls.base import params
from walls.sources import imagenet
from walls.sources.manifest import build

PRESET = Path(__file__).resolve().parents[2] / "presets" / "tiny-imagenet.yaml"
BATCH, LR = 128, 0.02
MODEL = {"width": 1.0, "dense": 4096}
TINY = {"width": 0.0625, "dense": 32}
DRAWN = {
    "name": "critters",
    "root": None,
    "animals": False,
    "classes": 3,
    "train_images": 24,
    "val_images": 12,
}


def settings(images: Path | None, photographs: Path | None, tiny: bool) -> params.Params:
    """The preset, changed; `images`: a zip laid out as the public one, None: drawn ones."""
    content = yaml.safe_load(PRESET.read_text(encoding="utf-8"))
    content["train"]["weight_decay"] = float(
        content["train"]["weight_decay"]
    )  # 5e-4 is text in YAML 1.1
    content["train"] |= (
        {"batch_size": 4, "workers": 1}
        if tiny
        else {"batch_size": BATCH, "workers": steps.readers(BATCH)}
    )
    content["train"]["lr"] = LR
    content["model"] |= TINY if tiny else MODEL
    content["stacks"] |= {
        "images": 6 if tiny else 100,
        "photos": str(photographs) if photographs else None,
    }
    content["cams"] |= {"opticam_steps": 2, "batch_size": 4} if tiny else {}
    if images is None:
        content["data"] = (
            DRAWN if tiny else DRAWN | {"classes": 10, "train_images": 3000, "val_images": 500}
        )
    else:
        animals = [
            key for key in imagenet.tiny_imagenet(images).files["train"] if imagenet.is_animal(key)
        ]
        content["data"] |= {"root": str(images), "classes": len(animals)}
        if tiny:
            content["data"] |= {"train_images": 4 * len(animals), "val_images": 2 * len(animals)}
    return params.check(content)


def prepare(folder: Path, packed: Path | None, photographs: Path | None, tiny: bool) -> str:
    """Make part d's images below `folder`, as notebook 3 does; the folder of their manifest.

    In a process of its own, beside part a. The parameters are kept as params.yaml.
    """
    images = archive.unpack(packed, folder / "archive.zip") if packed else None
    p = settings(images, photographs, tiny)
    build(p.data, p.seed, p.image_size, folder / "set")
    (folder / "params.yaml").write_text(
        yaml.safe_dump(p.model_dump(), sort_keys=False), encoding="utf-8"
    )
    return str(folder / "set")


def told(p: params.Params) -> dict:
    """The parameters without the paths of a machine that is gone."""
    content = p.model_dump()
    content["data"]["root"] = content["stacks"]["photos"] = None
    return content
