"""Photographs for a trained network: foolbox's twenty of ImageNet, or a user's folder."""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor
from torchvision.datasets import ImageFolder

from walls.images.reading import decode
from walls.network.zoo import Recipe, imagenet_classes

NAME = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")


def photographs(images: str, recipe: Recipe) -> tuple[Tensor, list[int], list[str]]:
    """Photographs as a network takes them: (N, 3, H, W), normalised; labels; classes' names.

    `images`: "packaged", foolbox's (512 × 512 pixels, labels as ImageNet's), or a folder
    CLASS/*.jpg, whose labels count its sorted classes. Scaled and cropped as the recipe says.
    Raises ValueError where foolbox isn't installed, the folder holds nothing, or a file no image.
    """
    if images == "packaged":
        paths = files()
        labels = [int(NAME.fullmatch(path.name)[2]) for path in paths]
        names = [imagenet_classes()[label] for label in labels]
    else:
        paths, labels, names = _folder(images)
    pictures = torch.stack([recipe.image(decode(path)) for path in paths])
    return recipe.normalise(pictures), labels, names


def _folder(images: str) -> tuple[list[Path], list[int], list[str]]:
    """A folder's photographs as torchvision finds them: paths, labels, the classes' names."""
    try:
        found = ImageFolder(Path(images).expanduser())
    except OSError as error:
        reason = str(error).split("\n")[0][:200]
        raise ValueError(f"networks.images: {reason}; takes a folder CLASS/*.jpg") from None
    paths, labels = ([sample[part] for sample in found.samples] for part in (0, 1))
    return [Path(path) for path in paths], labels, [found.classes[label] for label in labels]


def files() -> list[Path]:
    """Their paths, in order; found without running foolbox's code."""
    spec = importlib.util.find_spec("foolbox")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    found = (
        sorted(path for path in folder.iterdir() if NAME.fullmatch(path.name))
        if folder and folder.is_dir()
        else []
    )
    if not found:
        raise ValueError(
            "networks.images: packaged photographs are "
            "foolbox's; pip install foolbox, or name a folder"
        )
    return found
