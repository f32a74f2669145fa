"""Photographs for a trained network: foolbox's twenty of ImageNet, or a user's folder."""

import importlib.util
import re
from pathlib import Path

import torch
from torch import Tensor

from walls.base.messages import reason, shown
from walls.images.reading import IMAGE_FILES, decode
from walls.network.zoo import Recipe, imagenet_classes

NAME = re.compile(r"imagenet_(\d+)_(\d+)\.jpg")
TAKES = "takes a folder of photographs, or one of folders CLASS/*.jpg"


def photographs(
    images: str, recipe: Recipe, count: int | None = None
) -> tuple[Tensor, list[int] | None, list[str]]:
    """Photographs as a network takes them: (N, 3, H, W), normalised; labels; classes' names.

    `images`: "packaged", foolbox's (512 × 512 pixels, labels as ImageNet's), a folder CLASS/*.jpg,
    whose labels count its sorted classes, or a folder *.jpg, whose classes nobody tells: labels
    None, no names. Scaled and cropped as the recipe says. `count`: the first so many alone.
    Raises ValueError where foolbox isn't installed, the folder holds nothing, or a file no image.
    """
    labels: list[int] | None
    if images == "packaged":
        paths = files()
        labels = [int(NAME.fullmatch(path.name)[2]) for path in paths]
        names = [imagenet_classes()[label] for label in labels]
    else:
        paths, labels, names = _folder(Path(images).expanduser())
    pictures = torch.stack([recipe.image(decode(path)) for path in paths[:count]])
    return recipe.normalise(pictures), None if labels is None else labels[:count], names


def _folder(folder: Path) -> tuple[list[Path], list[int] | None, list[str]]:
    """A folder's photographs, in order: paths, labels, and the name of each one's class."""
    loose = [path for path in _entries(folder) if _is_picture(path)]
    classes = {own: _below(own) for own in _entries(folder) if own.is_dir()}
    full = [own for own, paths in classes.items() if paths]
    if loose and full:
        where = f"{shown(folder)} holds photographs beside the folder {shown(full[0].name)} of them"
        raise ValueError(f"images: {where}; {TAKES}")
    if loose:
        return loose, None, []
    if len(full) < len(classes) or not full:
        empty = next((own for own in classes if full and not classes[own]), folder)
        raise ValueError(f"images: {shown(empty)} holds no photograph; {TAKES}")
    found = [(path, label) for label, own in enumerate(full) for path in classes[own]]
    labels = [label for _, label in found]
    return [path for path, _ in found], labels, [full[label].name for label in labels]


def _below(folder: Path) -> list[Path]:
    """The photographs of a class, in its folder or below, in order."""
    return [
        picture
        for path in _entries(folder)
        for picture in (_below(path) if path.is_dir() else [path] if _is_picture(path) else [])
    ]


def _is_picture(path: Path) -> bool:
    return path.name.lower().endswith(IMAGE_FILES) and not path.is_dir()


def _entries(folder: Path) -> list[Path]:
    """What lies in a folder and isn't hidden, in order."""
    try:
        return sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    except OSError as error:
        raise ValueError(
            f"images: {shown(folder)} can't be read ({reason(error)}); {TAKES}"
        ) from None


def files() -> list[Path]:
    """Their paths, in order; found without running foolbox's code."""
    spec = importlib.util.find_spec("foolbox")
    folder = Path(spec.origin).parent / "data" if spec and spec.origin else None
    there = folder.iterdir() if folder and folder.is_dir() else ()
    found = sorted(path for path in there if NAME.fullmatch(path.name))
    if not found:
        raise ValueError(
            "images: packaged photographs are foolbox's; pip install foolbox, or name a folder"
        )
    return found
