"""Photographs in a Python package: foolbox's twenty of ImageNet's classes, 512 × 512."""

import importlib.util
import re
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from walls.network.zoo import Recipe, imagenet_classes

NAME = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")


def photographs(recipe: Recipe, normalised: bool = False) -> tuple[Tensor, Tensor, list[str]]:
    """The photographs as a network's recipe makes them.

    Images (N, 3, H, W), labels (N,) and the classes' names.

    In [0, 1], or as the network takes them. Raises ValueError where foolbox isn't installed.
    """
    paths = files()
    images = []
    for path in paths:
        with Image.open(path) as picture:
            images.append(recipe.image(picture))
    stacked = torch.stack(images)
    labels = torch.tensor([int(NAME.fullmatch(path.name)[2]) for path in paths])
    words = imagenet_classes()
    return (
        recipe.normalise(stacked) if normalised else stacked,
        labels,
        [words[label] for label in labels],
    )


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
            "networks.images: packaged photographs are foolbox's; pip install foolbox, or name a "
            "folder"
        )
    return found
