"""What the site's page of every wall draws from."""

import json
from collections.abc import Sequence

import numpy as np
from torch import Tensor

from walls.figures.embedded import jpeg_text, map_text, rounded
from walls.saliency.activity import uniform_activity
from walls.sweep.heads import Height

SHOWN = 6  # images on the page


def page(
    heights: Sequence[Height],
    images: Tensor,
    names: Sequence[str],
    classes: dict[int, str],
    trained: int,
    skipped: str = "",
) -> str:
    """sweep.json, which the site's page reads.

    It holds the first images, and at every height every method's map and µ of each.

    `names`: the images' classes; `classes`: every label's; `trained`: the height to begin with.
    Maps are raw ones, min-max scaled at (h, w) to a byte (so does activity.upscale begin), row
    after row in base64; `mu`, `mean` and `uniform` are µ×100, null for an empty map.
    """
    shown = min(SHOWN, len(images)) if heights else 0
    content = {
        "skipped": skipped,
        "trained": trained,
        "images": [{"name": names[i], "jpeg": jpeg_text(images[i])} for i in range(shown)],
        "methods": list(heights[0].maps) if heights else [],
        "heights": [_height(height, shown, classes) for height in heights],
    }
    return json.dumps(content, ensure_ascii=False, indent=0) + "\n"


def _height(height: Height, shown: int, classes: dict[int, str]) -> dict:
    zone, table = height.zone, height.measured
    mu = {method: 100 * table[table["method"] == method]["mu"].to_numpy() for method in height.maps}
    predicted = table[table["method"] == next(iter(height.maps))]["predicted"]
    return {
        "wall_rows": zone.wall_rows,
        "map_rows": zone.map_rows,
        "dead_rows": zone.dead_rows,
        "image_rows": zone.image_rows,
        "top1": round(height.accuracy["top1"], 4),
        "uniform": round(100 * uniform_activity(zone.dead_share), 4),
        "predicted": [classes[label] for label in predicted[:shown]],
        "mu": {
            method: [rounded(value) for value in values[:shown]] for method, values in mu.items()
        },
        "mean": {
            method: rounded(np.nanmean(v) if not np.isnan(v).all() else np.nan)
            for method, v in mu.items()
        },
        "maps": {
            method: [map_text(raw) for raw in maps[:shown]] for method, maps in height.maps.items()
        },
    }
