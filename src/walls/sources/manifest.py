"""Any source's images behind one manifest."""

from pathlib import Path

import pandas as pd

from walls.base import files, messages
from walls.base.seeds import stream
from walls.sources.kinds import SOURCES, Request
from walls.sources.settings import Data

COLUMNS = ["split", "label", "class", "animal", "path"]


def build(
    settings: Data, seed: int, image_size: int, folder: Path, pairs: bool = True
) -> pd.DataFrame:
    """Write the source's manifest, and the images that it doesn't merely refer to, to `folder`.

    Returns the manifest, with the columns COLUMNS. All of it or nothing: the set that lay in
    `folder` is replaced at the end. Beside it source.json says what a training crop keeps of an
    image, and whether images are turned as their EXIF orientation says. Raises ValueError, naming
    the file or folder, where the source can't give what is asked; with `pairs`, also for a class of
    which STACK-MIX would find no two validation images.
    """
    source = SOURCES[settings.name]
    try:
        with files.replaced(folder, "images", "source.json", "manifest.csv") as partial:
            random = stream(seed, "classes")
            rows = source.rows(Request(settings, seed, image_size, random, partial))
            manifest = pd.DataFrame(list(rows), columns=COLUMNS)
            if pairs:
                _require_pairs(manifest, settings.root)
            files.write_csv(manifest, partial / "manifest.csv")
            about = {
                "name": settings.name,
                "crop_area": source.crop_area,
                "turned": source.turned,
            }
            files.write_json(about, partial / "source.json")
    except ValueError as error:
        # One line, whatever is in a file's name.
        raise ValueError(messages.shown(error)) from error
    return manifest


def _require_pairs(manifest: pd.DataFrame, root: str | None) -> None:
    """ValueError naming a class with one validation image."""
    counts = manifest[manifest["split"] == "val"]["class"].value_counts(sort=False)
    lonely = counts[counts < 2]
    if len(lonely):
        raise ValueError(
            f"data.root: {root or 'null'} gives one validation image of class {lonely.index[0]}; "
            "takes two, for STACK-MIX to pair, or ready images in stacks.mix_dir"
        )
