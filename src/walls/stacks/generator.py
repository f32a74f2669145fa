"""STACK-GEN by a text-to-image model: the paper's prompt, one seed per sample.

A person cuts the square out of each.

Needs two packages more than the rest (`pip install diffusers transformers`), and only where a
sample is still to be drawn.
"""

import hashlib
import json
import re
import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tf

from walls.base import files
from walls.base.files import whole
from walls.base.seeds import stream
from walls.images.reading import read_image

PROMPT = "A photo of {animal} stacked on top of {animal}"
STEPS = 50  # of denoising
PACKAGES = ("diffusers", "transformers")
CROPS = ["sample", "top", "left", "size"]
NAME = re.compile(r"\d{3,}-\d+-[A-Za-z0-9_-]+-[0-9a-f]{8}")


@dataclass(frozen=True)
class Sample:
    """One image of the model: all that its pixels follow from, on one machine."""

    model: str
    animal: str
    dataset_seed: int
    index: int
    attempt: int

    @property
    def prompt(self) -> str:
        return PROMPT.format(animal=self.animal)

    @property
    def seed(self) -> int:
        """The sample's own seed: another for every image and every attempt at it."""
        return int(stream(self.dataset_seed, "stack-gen", self.index, self.attempt).integers(2**32))

    @property
    def name(self) -> str:
        """What rejects.csv and crops.csv call it.

        The name is made of its place, its animal, and a digest of (model, prompt, seed, steps).
        """
        key = json.dumps([self.model, self.prompt, self.seed, STEPS])
        animal = re.sub(r"[^A-Za-z0-9_]+", "-", self.animal)
        digest = hashlib.sha256(key.encode()).hexdigest()[:8]
        return f"{self.index:03d}-{self.attempt}-{animal}-{digest}"


@dataclass(frozen=True)
class Crop:
    """The square image[top : top + size, left : left + size].

    `line` is the line of crops.csv that asks for it; 0 where none does.
    """

    top: int
    left: int
    size: int
    line: int = 0


class Painter:
    """Draws samples, each once, and cuts the stacked images out of them.

    `model`: a Hugging Face name or a pipeline's folder. `crops`: the CSV (sample, top, left, size).
    `folder`: takes the uncropped samples that are in use, with `samples.csv` about them. `kept`:
    holds every sample that was ever drawn; it outlives `folder`, which the pipeline empties before
    each run, so that another crop or reject draws nothing again.
    """

    def __init__(self, model: str | None, crops: Path, folder: Path, kept: Path):
        self.model, self.folder, self.kept = model, folder, kept
        self.crops, self.crops_name = read_crops(crops), crops.name
        self.records: list[dict] = []
        self._pipeline = None

    def draw(self, sample: Sample, image_size: int) -> Tensor:
        """The sample's square as (3, image_size, image_size) uint8.

        Raises ValueError where the crop leaves the sample.
        """
        kept = self.kept / f"{sample.name}.png"
        if not kept.is_file():
            self._sample(sample, kept)
        self.folder.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, self.folder / kept.name)
        image = read_image(kept)
        height, width = image.shape[1:]
        crop = self.crops.get(sample.name) or central(height, width)
        if crop.top + crop.size > height or crop.left + crop.size > width:
            raise ValueError(
                f"{self.crops_name}, line {crop.line}: got rows {crop.top} "
                f"to {crop.top + crop.size - 1} and columns {crop.left} to "
                f"{crop.left + crop.size - 1}; takes a square inside "
                f"{sample.name}, which has {height} rows and {width} columns"
            )
        self._record(sample, crop)
        square = tf.crop(image, crop.top, crop.left, crop.size, crop.size)
        return tf.resize(square, [image_size, image_size], antialias=True)

    def _sample(self, sample: Sample, target: Path) -> None:
        """Let the model draw, into `target`: all of the file or nothing."""
        if self._pipeline is None:
            self._pipeline = load_pipeline(self.model)
        random = torch.Generator("cpu").manual_seed(sample.seed)  # the same noise on every device
        image = self._pipeline(sample.prompt, num_inference_steps=STEPS, generator=random).images[0]
        with whole(target) as partial:
            image.convert("RGB").save(partial, "PNG")

    def _record(self, sample: Sample, crop: Crop) -> None:
        """Write down how the sample came about, in `samples.csv`, a row for each in use."""
        self.records.append(
            {
                "sample": sample.name,
                "class": sample.animal,
                "model": sample.model,
                "prompt": sample.prompt,
                "seed": sample.seed,
                "steps": STEPS,
                "top": crop.top,
                "left": crop.left,
                "size": crop.size,
            }
        )
        files.write_csv(pd.DataFrame(self.records), self.folder / "samples.csv")


def central(height: int, width: int) -> Crop:
    """The largest square in the middle."""
    size = min(height, width)
    return Crop((height - size) // 2, (width - size) // 2, size)


def read_crops(path: Path) -> dict[str, Crop]:
    """{sample: its crop}; ValueError naming a line that isn't one, or repeats a sample."""
    found: dict[str, Crop] = {}
    for line, (sample, *numbers) in files.read_rows(path, CROPS):
        if (
            not NAME.fullmatch(sample)
            or not all(re.fullmatch("[0-9]+", n) for n in numbers)
            or max(map(len, numbers)) > 9
            or int(numbers[2]) < 1
        ):
            raise ValueError(
                f"{path.name}, line {line}: takes a sample's name, and whole "
                "numbers of pixels: top and left, 0 or more, and size, 1 or more"
            )
        if sample in found:
            raise ValueError(
                f"{path.name}, line {line}: {sample} stands on line "
                f"{found[sample].line} already; takes one line per sample"
            )
        found[sample] = Crop(*map(int, numbers), line)
    return found


def samples(folder: Path) -> tuple[list[Tensor], list[str], list[tuple[int, int, int]]]:
    """The uncropped samples in use below `folder`, their names, and each one's crop.

    A crop is (top, left, size).
    """
    table = pd.read_csv(folder / "samples.csv", keep_default_na=False)
    images = [read_image(folder / f"{name}.png") for name in table["sample"]]
    return images, list(table["sample"]), list(table[CROPS[1:]].itertuples(index=False, name=None))


def load_pipeline(model: str):
    """A text-to-image pipeline, on the GPU where there is one.

    Raises ValueError naming the missing package or model.
    """
    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ValueError(
            "stacks.generator: diffusers needs "
            f"{' and '.join(missing)}; pip install {' '.join(missing)}"
        )
    from diffusers import AutoPipelineForText2Image

    device, dtype = ("cuda", torch.float16) if torch.cuda.is_available() else ("cpu", torch.float32)
    folder = Path(model).expanduser()
    try:
        # safetensors alone: a pickle may hold code.
        source = folder if folder.is_dir() else model
        pipeline = AutoPipelineForText2Image.from_pretrained(
            source, dtype=dtype, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        reason = (str(error).strip() or type(error).__name__).split("\n")[0]
        raise ValueError(
            f"stacks.model: got {model}, which doesn't load ({reason}); takes the Hugging "
            "Face name or the folder of a text-to-image model, its weights in safetensors"
        ) from None
    pipeline.set_progress_bar_config(disable=True)
    return pipeline.to(device)
