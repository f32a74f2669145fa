"""The paper's two datasets: two animals of a class, the lower one in the dead zone.

STACK-MIX cuts two photographs together (Eq. 6); STACK-GEN shows one scene. Both hold the same
classes.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from walls.base import files
from walls.base.messages import shown
from walls.base.progress import track
from walls.base.seeds import stream
from walls.images.reading import IMAGE_FILES, read_image
from walls.images.stacked import DATASETS, WITHOUT
from walls.images.transforms import fit
from walls.network.geometry import DeadZone
from walls.sources import critters, folders
from walls.stacks.generator import Painter, Sample
from walls.stacks.settings import Stacks

COLUMNS = [
    "dataset",
    "index",
    "attempt",
    "label",
    "class",
    "edge",
    "upper",
    "lower",
    "seed",
    "reject",
    "path",
    "without",
]
ATTEMPTS = 100  # draws of one stacked image before there seem to be no more


REJECTS = ["dataset", "seed", "upper", "lower", "reason"]


@dataclass(frozen=True)
class Place:
    """Which stacked image of a dataset it is, and of which class."""

    index: int
    label: int
    name: str  # the class's


@dataclass(frozen=True)
class Draw:
    """One attempt at a stacked image: what it is made of, by name, and what makes it."""

    upper: str
    lower: str
    make: Callable[[], Tensor]  # (3, H, W) uint8
    # The very same image, but for the animal in the dead zone; None where that can't be made.
    without: Callable[[], Tensor] | None = None


Maker = Callable[[Place, int], Draw]  # of a place and the number of the attempt


def stack(upper: Tensor, lower: Tensor, zone: DeadZone) -> Tensor:
    """ξ = ((ξ₁)[:, :e, :] over (ξ₂)[:, e:, :]), Eq. 6.

    Each image keeps its own rows; the cut is the dead zone's edge e.
    """
    return torch.cat([upper[:, : zone.seen_rows], lower[:, zone.seen_rows :]], dim=1)


def build(
    settings: Stacks,
    manifest: pd.DataFrame,
    zone: DeadZone,
    seed: int,
    folder: Path,
    rejects: Path,
    painter: Painter | None = None,
) -> pd.DataFrame:
    """Write both datasets below `folder`, or neither.

    Returns their manifest, a row per image tried. Its column `without` has the path of the same
    image without the hidden animal, of drawn scenes alone: the control of notebook 6.

    `manifest`: the validation images (loaders.read_manifest). `rejects`: a CSV (dataset, seed,
    upper, lower, reason) kept by a person who looked at the contact sheet: a refused image stays in
    the manifest with its reason and without a path, and the next attempt takes its place. A folder
    of ready images (`mix_dir`, `gen_dir`) stands for the dataset; the manifest may then be empty.
    The folder `photos` (CLASS/*.jpg) gives STACK-MIX larger photographs than the manifest's, of the
    classes of which it has two; a class goes by its folder's name. `painter`: what draws STACK-GEN
    for the generator diffusers. Raises ValueError for a class with fewer than two images.
    """
    refused = read_rejects(rejects)
    makers = {
        "stack-mix": mixing(_photographs(settings.photos, manifest), zone, seed),
        "stack-gen": generating(settings.generator, zone, seed, painter),
    }
    ready = {"stack-mix": settings.mix_dir, "stack-gen": settings.gen_dir}
    rows: list[dict] = []
    with files.replaced(folder, *DATASETS, WITHOUT, "manifest.csv") as staged:
        for dataset in DATASETS:
            if ready[dataset] is not None:
                rows += _ready(dataset, Path(ready[dataset]).expanduser(), manifest, zone, staged)
            elif makers[dataset] is not None:
                places = _places(manifest, settings.images, seed)
                rows += _built(dataset, makers[dataset], places, zone, seed, refused, staged)
        table = pd.DataFrame(rows, columns=COLUMNS)
        files.write_csv(table, staged / "manifest.csv")
    return table


def _built(
    dataset: str,
    maker: Maker,
    places: list[Place],
    zone: DeadZone,
    seed: int,
    refused: dict[tuple[str, int, str, str], str],
    folder: Path,
) -> Iterator[dict]:
    """A dataset's rows, a refused attempt's before the accepted one's; the accepted are written."""
    used: set[tuple[str, str]] = set()
    for place in track(places, desc=dataset, unit="image"):
        for attempt, draw in _new_draws(dataset, maker, place, used):
            row = _row(dataset, place, attempt, draw, zone, seed)
            row["reject"] = refused.get((dataset, seed, draw.upper, draw.lower), "")
            if not row["reject"]:
                row["path"] = _write(draw.make(), dataset, place, folder)
                if draw.without:
                    row["without"] = _write(draw.without(), WITHOUT, place, folder)
            yield row
            if row["path"]:
                break


def _new_draws(
    dataset: str, maker: Maker, place: Place, used: set[tuple[str, str]]
) -> Iterator[tuple[int, Draw]]:
    """Attempts at a place, numbered, without those whose two parts are in `used`.

    Each attempt's parts are added to `used`.
    """
    for attempt in range(ATTEMPTS):
        draw = maker(place, attempt)
        if (draw.upper, draw.lower) not in used:
            used.add((draw.upper, draw.lower))
            yield attempt, draw
    raise ValueError(
        f"{dataset} {place.index} ({place.name}): {ATTEMPTS} draws were refused or repeat "
        "an earlier one; takes more data.val_images, fewer stacks.images or fewer rejects"
    )


def read_rejects(path: Path) -> dict[tuple[str, int, str, str], str]:
    """{(dataset, seed, upper, lower): reason}; ValueError naming the line that isn't one."""
    found = {}
    for line, (dataset, seed, upper, lower, reason) in files.read_rows(path, REJECTS):
        if dataset not in DATASETS or not re.fullmatch("[0-9]{1,18}", seed) or not reason:
            raise ValueError(
                f"{path.name}, line {line}: takes "
                f"{' or '.join(DATASETS)}, a seed, two names and a reason"
            )
        found[dataset, int(seed), upper, lower] = reason
    return found


def _places(manifest: pd.DataFrame, images: int, seed: int) -> list[Place]:
    """The class of every stacked image: all animals in a drawn order, again and again.

    The paper takes 100 of 398, once each.
    """
    manifest = manifest[manifest["animal"]]
    if manifest.empty:
        raise ValueError(
            "data.classes: none of the classes is an animal; takes "
            "data.animals true, or ready images in stacks.mix_dir"
        )
    names = manifest.groupby("label")["class"].first()
    counts = manifest["label"].value_counts()
    lonely = [names[label] for label in names.index if counts[label] < 2]
    if lonely:
        raise ValueError(
            f"data.val_images: class {lonely[0]} has one validation image; STACK-MIX takes two"
        )
    order = stream(seed, "stack-classes").permutation(names.index)
    labels = [int(order[index % len(order)]) for index in range(images)]
    return [Place(index, label, names[label]) for index, label in enumerate(labels)]


def _row(
    dataset: str, place: Place, attempt: int, draw: Draw, zone: DeadZone, seed: int
) -> dict[str, object]:
    """A row of the manifest, neither refused nor written so far."""
    return {
        "dataset": dataset,
        "index": place.index,
        "attempt": attempt,
        "label": place.label,
        "class": place.name,
        "edge": zone.seen_rows,
        "upper": draw.upper,
        "lower": draw.lower,
        "seed": seed,
        "reject": "",
        "path": "",
        "without": "",
    }


def mixing(photographs: pd.DataFrame, zone: DeadZone, seed: int) -> Maker:
    """STACK-MIX: two different validation images of a class, cut together where the zone begins."""

    def maker(place: Place, attempt: int) -> Draw:
        own = photographs[photographs["label"] == place.label]
        turned = own.get("turned", pd.Series(True, own.index))
        random = stream(seed, "stack-mix", place.index, attempt)
        pair = random.choice(len(own), 2, replace=False)
        paths = own["path"].iloc[pair]
        upper, lower = ("/".join(Path(path).parts[-2:]) for path in paths)

        def make() -> Tensor:
            first, second = (
                fit(read_image(path, turn=bool(turn)), zone.image_rows)
                for path, turn in zip(paths, turned.iloc[pair], strict=True)
            )
            return stack(first, second, zone)

        return Draw(upper, lower, make)

    return maker


def generating(
    generator: str | None, zone: DeadZone, seed: int, painter: Painter | None
) -> Maker | None:
    """STACK-GEN: one scene with two animals of a class; None where there is no generator."""

    def drawn(place: Place, attempt: int) -> Draw:
        name = f"scene {place.index}, attempt {attempt}"
        scene = (seed, place.index, place.label, zone.seen_rows, zone.image_rows, attempt)

        def make(lower: bool = True) -> Tensor:
            return torch.from_numpy(critters.draw_stack(*scene, lower=lower)).permute(2, 0, 1)

        return Draw(name, name, make, partial(make, lower=False))

    def painted(place: Place, attempt: int) -> Draw:
        sample = Sample(painter.model, place.name, seed, place.index, attempt)
        return Draw(sample.name, sample.name, lambda: painter.draw(sample, zone.image_rows))

    return {"critters": drawn, "diffusers": painted}.get(generator or "")


def _photographs(folder: str | None, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest, with a folder's photographs where a class has two of them.

    They stand in the place of that class's images.
    """
    if folder is None:
        return manifest
    keys = [Path(path).parent.name for path in manifest["path"]]
    first = manifest.assign(key=keys).drop_duplicates("key").set_index("key")
    found = folders.images_by_class(Path(folder).expanduser().absolute())
    found = {key: files for key, files in found.items() if len(files) > 1 and key in first.index}
    if not found:
        raise ValueError(
            f"stacks.photos: {folder} has two photographs of none of "
            "the classes; takes CLASS/*.jpg, its folders named as the "
            f"images' own, such as {keys[0] if keys else 'n01443537'}"
        )
    larger = [
        first.loc[key].to_dict() | {"path": file, "turned": True}
        for key, files in sorted(found.items())
        for file in files
    ]
    return pd.concat(
        [manifest[[key not in found for key in keys]], pd.DataFrame(larger)], ignore_index=True
    )


def _ready(
    dataset: str, source: Path, manifest: pd.DataFrame, zone: DeadZone, folder: Path
) -> Iterator[dict]:
    """Ready images, by name.

    Their class is the folder they lie in or, right in `source`, the file's name.

    Scaled and cut as the paper does; a STACK-MIX image must have its size, or its halves would meet
    at another row.
    """
    size = zone.image_rows
    labels = dict(zip(manifest["class"], manifest["label"], strict=True))
    found = _ready_files(dataset, source)
    for index, file in enumerate(track(found, desc=dataset, unit="image")):
        name = file.stem if file.parent == source else file.parent.name
        image = read_image(file)
        if dataset == "stack-mix" and image.shape[1:] != (size, size):
            got = f"{image.shape[2]} × {image.shape[1]}"
            raise ValueError(
                f"stacks.mix_dir: {shown(file)} is {got}; takes "
                f"{size} × {size}, cut at row {zone.seen_rows}"
            )
        place = Place(index, labels.get(name, -1), name)
        row = _row(
            dataset, place, 0, Draw(file.name, file.name, partial(read_image, file)), zone, 0
        )
        yield row | {"path": _write(fit(image, size), dataset, place, folder)}


def _ready_files(dataset: str, source: Path) -> list[Path]:
    """The images below a folder, by name.

    Raises ValueError where there is none, or a name can't be kept.
    """
    # macOS zips twins of every file: ._1.png
    found = sorted(file for file in source.rglob("*") if not file.name.startswith("."))
    images = [file for file in found if file.suffix.lower() in IMAGE_FILES]
    folders.tell_left_out(str(source), [file for file in found if file.is_file()])
    odd = [file for file in images if os.fsencode(file) != str(file).encode(errors="replace")]
    if odd:
        raise ValueError(f"stacks: {shown(odd[0])} is not a name in UTF-8; takes another name")
    if not images:
        raise ValueError(
            f"stacks: {source} holds no image that can be read; "
            f"takes a folder of {dataset} images, or null"
        )
    return images


def _write(image: Tensor, dataset: str, place: Place, folder: Path) -> str:
    """Write a stacked image, or one of WITHOUT; its path below `folder`."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", place.name)
    path = f"{dataset}/{place.index:03d}-{name}.png"
    target = folder / path
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(target, compress_level=1)
    return path
