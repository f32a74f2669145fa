"""pictures.zip, the pictures and long tables that a run brings home, written as they come."""

import json
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load, save
from torch import Tensor, from_numpy, stack

SHOWN = 10  # images whose pictures come home; of the maps, all


class Pictures:
    """A zip that is complete after every call, since the machine may be gone after any."""

    def __init__(self, path: Path):
        self.path = path
        path.unlink(missing_ok=True)

    def add(self, name: str, content: str | bytes) -> None:
        """One more file."""
        with zipfile.ZipFile(self.path, "a", zipfile.ZIP_DEFLATED) as file:
            file.writestr(name, content)

    def show(self, kind: str, images: Tensor, maps: dict[str, Tensor], classes: list[str]) -> None:
        """The first images (N, 3, H, W), uint8, their classes, and all images' maps (N, h, w)."""
        for number, image in enumerate(images[:SHOWN]):
            picture = BytesIO()
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(picture, "PNG")
            self.add(f"{slug(kind)}/{number:02d}.png", picture.getvalue())
        self.add(f"{slug(kind)}/classes.json", json.dumps(classes, ensure_ascii=False))
        self.add(
            f"{slug(kind)}/maps.safetensors",
            save({name: raw.float().contiguous() for name, raw in maps.items()}),
        )


def shown(path: Path, kind: str) -> tuple[Tensor, dict[str, Tensor], list[str]]:
    """What `Pictures.show` kept of one kind: images, maps of all, classes of all."""
    with zipfile.ZipFile(path) as file:
        names = sorted(
            name
            for name in file.namelist()
            if name.startswith(f"{slug(kind)}/") and name.endswith(".png")
        )
        images = [
            from_numpy(np.array(Image.open(BytesIO(file.read(name))))).permute(2, 0, 1)
            for name in names
        ]
        maps = load(file.read(f"{slug(kind)}/maps.safetensors"))
        return stack(images), maps, json.loads(file.read(f"{slug(kind)}/classes.json"))


def slug(kind: str) -> str:
    """A kind as part of a file's name."""
    return kind.replace(" ", "-")
