"""The paper's two datasets: two animals of one class, one above the dead zone's edge and one in the dead zone.

STACK-MIX cuts two photographs together (Eq. 6); STACK-GEN shows one scene. Both hold the same classes.
"""

import itertools
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pandas as pd
import torch
from PIL import Image
from torch import Tensor

from walls import critters, paths, sources
from walls.archives import shown
from walls.data import fit, read_image, stream
from walls.generator import Painter, Sample
from walls.params import Stacks
from walls.progress import track

DATASETS = ("stack-mix", "stack-gen")
COLUMNS = ["dataset", "index", "attempt", "label", "class", "edge", "upper", "lower", "seed", "reject", "path"]
ATTEMPTS = 100  # draws of one stacked image before there seem to be no more
IMAGE_FILES = (".png", ".jpg", ".jpeg", ".webp")


def stack(upper: Tensor, lower: Tensor, edge: int) -> Tensor:
    """ξ = ((ξ₁)[:, :edge, :] over (ξ₂)[:, edge:, :]), Eq. 6: the images' own rows, cut at the dead zone's edge."""
    return torch.cat([upper[:, :edge], lower[:, edge:]], dim=1)


def build(
    settings: Stacks,
    manifest: pd.DataFrame,
    edge: int,
    image_size: int,
    seed: int,
    folder: Path,
    rejects: Path,
    painter: Painter | None = None,
) -> pd.DataFrame:
    """Write both datasets below `folder`, or neither, and return their manifest, one row per image tried.

    `manifest`: the validation images (data.read_manifest). `rejects`: a CSV (dataset, seed, upper, lower, reason) kept by
    a person who looked at the contact sheet: a refused image stays in the manifest with its reason and without a
    path, and the next attempt takes its place. A folder of ready images (`mix_dir`, `gen_dir`) stands for the dataset;
    the manifest may then be empty. The folder `photos` (CLASS/*.jpg) gives STACK-MIX larger photographs than the
    manifest's, of the classes of which it has two; a class goes by its folder's name. `painter`: what draws STACK-GEN for
    the generator diffusers. Raises ValueError for a class with fewer than two images.
    """
    refused = read_rejects(rejects)
    photographs = _photographs(settings.photos, manifest)
    rows: list[dict] = []
    with paths.replaced(folder, *DATASETS, "manifest.csv") as partial:
        for dataset, ready in zip(DATASETS, (settings.mix_dir, settings.gen_dir), strict=True):
            if ready is not None:
                rows += _ready(dataset, Path(ready).expanduser(), manifest, edge, image_size, partial)
                continue
            if dataset == "stack-gen" and settings.generator is None:
                continue
            drawn: set[tuple[str, str]] = set()
            classes = _sample_classes(manifest, settings.images, seed)
            for index, (label, name) in enumerate(track(classes, desc=dataset, unit="image")):
                for attempt in itertools.count():
                    row = _row(dataset, index, attempt, label, name, edge, seed)
                    draw = _draw(row, settings.generator, photographs, image_size, painter)
                    pair = (row["upper"], row["lower"])
                    if attempt == ATTEMPTS:
                        raise ValueError(f"{dataset} {index} ({name}): {ATTEMPTS} draws were refused or repeat an "
                                         "earlier one; takes more data.val_images, fewer stacks.images or fewer "
                                         "rejects")  # fmt: skip
                    if pair in drawn:
                        continue
                    drawn.add(pair)
                    row["reject"] = refused.get((dataset, seed, *pair), "")
                    if not row["reject"]:
                        rows.append(_write(draw(), row, partial))
                        break
                    rows.append(row)
        table = pd.DataFrame(rows, columns=COLUMNS)
        table.to_csv(partial / "manifest.csv", index=False, lineterminator="\n")
    return table


class Pictures(Sequence):
    """Image files, read and fitted to one size when asked for: an index gives (3, H, W), a slice (N, 3, H, W), uint8."""

    def __init__(self, files: Sequence[Path], size: int):
        self.files, self.size = list(files), size

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int | slice) -> Tensor:
        if isinstance(index, slice):
            images = [self[i] for i in range(len(self))[index]]
            return torch.stack(images) if images else torch.empty(0, 3, self.size, self.size, dtype=torch.uint8)
        return fit(read_image(self.files[index]), self.size)


def read(folder: Path, dataset: str, image_size: int) -> tuple[pd.DataFrame, Pictures]:
    """The accepted images of one dataset: their manifest rows and their pictures; there may be none."""
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    table = table[(table["dataset"] == dataset) & (table["path"] != "")].reset_index(drop=True)
    return table, Pictures([folder / path for path in table["path"]], image_size)


def read_rejects(path: Path) -> dict[tuple[str, int, str, str], str]:
    """{(dataset, seed, upper, lower): reason}; ValueError naming the line that isn't one."""
    table = pd.read_csv(path, keep_default_na=False, dtype=str)
    if list(table.columns) != ["dataset", "seed", "upper", "lower", "reason"]:
        raise ValueError(f"{path.name}: got columns {', '.join(table.columns)}; takes dataset, seed, upper, lower, reason")
    found = {}
    for line, (dataset, seed, upper, lower, reason) in enumerate(table.values.tolist(), 2):
        if dataset not in DATASETS or not seed.isdigit() or not reason:
            raise ValueError(f"{path.name}, line {line}: takes {' or '.join(DATASETS)}, a seed, two names and a reason")
        found[dataset, int(seed), upper, lower] = reason
    return found


def outside(validation: pd.DataFrame, folder: Path, image_size: int, count: int, seed: int) -> Pictures:
    """Up to `count` validation images that no stacked image below `folder` is made of: what methods may be tuned on."""
    table = pd.read_csv(folder / "manifest.csv", keep_default_na=False)
    used = {*table["upper"], *table["lower"]}
    free = [path for path in validation["path"] if "/".join(Path(path).parts[-2:]) not in used]
    order = stream(seed, "outside").permutation(len(free))[:count]
    return Pictures([Path(free[i]) for i in order], image_size)


def swap(images: Tensor, others: Tensor, edge: int) -> tuple[Tensor, Tensor]:
    """The images (N, 3, H, W) with the others' lower part, and with the others' upper part."""
    lower = torch.cat([images[:, :, :edge], others[:, :, edge:]], dim=2)
    upper = torch.cat([others[:, :, :edge], images[:, :, edge:]], dim=2)
    return lower, upper


def _sample_classes(manifest: pd.DataFrame, images: int, seed: int) -> list[tuple[int, str]]:
    """The class of every stacked image: all animals in a drawn order, again and again (the paper: 100 of 398, once)."""
    manifest = manifest[manifest["animal"]]
    if manifest.empty:
        raise ValueError("data.classes: none of the classes is an animal; takes data.animals true, or ready images in "
                         "stacks.mix_dir")  # fmt: skip
    names = manifest.groupby("label")["class"].first()
    counts = manifest["label"].value_counts()
    lonely = [names[label] for label in names.index if counts[label] < 2]
    if lonely:
        raise ValueError(f"data.val_images: class {lonely[0]} has one validation image; STACK-MIX takes two")
    order = stream(seed, "stack-classes").permutation(names.index)
    return [(int(order[i % len(order)]), names[order[i % len(order)]]) for i in range(images)]


def _row(dataset: str, index: int, attempt: int, label: int, name: str, edge: int, seed: int) -> dict:
    return dict(zip(COLUMNS, (dataset, index, attempt, label, name, edge, "", "", seed, "", ""), strict=True))


def _draw(row: dict, generator: str | None, photographs: pd.DataFrame, image_size: int, painter: Painter | None) -> Callable:
    """Name what the row's image is made of, in `row`; what makes it."""
    if row["dataset"] == "stack-mix":
        return _mix(row, photographs, image_size)
    return _gen(row, image_size) if generator == "critters" else _paint(row, image_size, painter)


def _gen(row: dict, image_size: int) -> Callable[[], Tensor]:
    """Name a scene with two animals of the row's species, in `row`; what draws it."""
    row["upper"] = row["lower"] = f"scene {row['index']}, attempt {row['attempt']}"
    scene = (row["seed"], row["index"], row["label"], row["edge"], image_size, row["attempt"])
    return lambda: torch.from_numpy(critters.draw_stack(*scene)).permute(2, 0, 1)


def _paint(row: dict, image_size: int, painter: Painter) -> Callable[[], Tensor]:
    """Name a sample of the text-to-image model, of two of the row's animals, in `row`; what draws and crops it."""
    sample = Sample(painter.model, row["class"], row["seed"], row["index"], row["attempt"])
    row["upper"] = row["lower"] = sample.name
    return lambda: painter.draw(sample, image_size)


def _mix(row: dict, manifest: pd.DataFrame, image_size: int) -> Callable[[], Tensor]:
    """Name two different validation images of the row's class, in `row`; what cuts them together at the edge."""
    own = manifest[manifest["label"] == row["label"]]
    random = stream(row["seed"], "stack-mix", row["index"], row["attempt"])
    first, second = own.iloc[random.choice(len(own), 2, replace=False)]["path"]
    row["upper"], row["lower"] = ("/".join(Path(path).parts[-2:]) for path in (first, second))
    return lambda: stack(fit(read_image(first), image_size), fit(read_image(second), image_size), row["edge"])


def _photographs(folder: str | None, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest, with a folder's photographs in the place of the images of every class of which it has two."""
    if folder is None:
        return manifest
    keys = [Path(path).parent.name for path in manifest["path"]]
    first = manifest.assign(key=keys).drop_duplicates("key").set_index("key")
    found = sources.images_by_class(Path(folder).expanduser().absolute())
    found = {key: files for key, files in found.items() if len(files) > 1 and key in first.index}
    if not found:
        raise ValueError(f"stacks.photos: {folder} has two photographs of none of the classes; takes CLASS/*.jpg, its "
                         f"folders named as the images' own, such as {keys[0] if keys else 'n01443537'}")  # fmt: skip
    larger = [first.loc[key].to_dict() | {"path": file} for key, files in sorted(found.items()) for file in files]
    return pd.concat([manifest[[key not in found for key in keys]], pd.DataFrame(larger)], ignore_index=True)


def _ready(dataset: str, source: Path, manifest: pd.DataFrame, edge: int, image_size: int, folder: Path) -> list[dict]:
    """Ready images, by name; the class is the folder they lie in or, right in `source`, the file's name.

    Scaled and cut as the paper does; a STACK-MIX image must have its size, or its halves would meet at another row.
    """
    found = (file for file in source.rglob("*") if file.suffix.lower() in IMAGE_FILES)
    files = sorted(file for file in found if not file.name.startswith("."))  # macOS zips twins of every file: ._1.png
    if odd := [file for file in files if os.fsencode(file) != str(file).encode(errors="replace")]:
        raise ValueError(f"stacks: {shown(odd[0])} is not a name in UTF-8; takes another name")
    if not files:
        kinds = ", ".join(IMAGE_FILES)
        raise ValueError(f"stacks: {source} holds no {kinds} image; takes a folder of {dataset} images, or null")
    labels = dict(zip(manifest["class"], manifest["label"], strict=True))
    rows = []
    for index, file in enumerate(track(files, desc=dataset, unit="image")):
        name = file.stem if file.parent == source else file.parent.name
        row = _row(dataset, index, 0, labels.get(name, -1), name, edge, 0)
        row["upper"] = row["lower"] = file.name
        image = read_image(file)
        if dataset == "stack-mix" and image.shape[1:] != (image_size, image_size):
            got, wanted = f"{image.shape[2]} × {image.shape[1]}", f"{image_size} × {image_size}"
            raise ValueError(f"stacks.mix_dir: {shown(file)} is {got}; takes {wanted}, cut at row {edge}")
        rows.append(_write(fit(image, image_size), row, folder))
    return rows


def _write(image: Tensor, row: dict, folder: Path) -> dict:
    row["path"] = f"{row['dataset']}/{row['index']:03d}-{re.sub(r'[^A-Za-z0-9_]+', '-', row['class'])}.png"
    target = folder / row["path"]
    target.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(target, compress_level=1)
    return row
