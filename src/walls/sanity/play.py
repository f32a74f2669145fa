"""What the site's page "Try it" shows of a real network: computed here, and only drawn there.

A few photographs behind several walls, with each of the controls in the hidden part: the maps, µ,
and the logits, which stay the same.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from walls.base import files
from walls.figures.embedded import jpeg_text, map_text, rounded
from walls.network.behind import Behind, behind
from walls.network.classifier import Normalised
from walls.network.zoo import Named, Recipe
from walls.saliency.activity import measured, uniform_activity
from walls.saliency.controls import ANOTHER, GREY, NOISE, SAME, below, partners, put_together
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import COSTLY, PIXELS
from walls.sanity.report import Report
from walls.sanity.sides import SHARES

SHOWN = 5  # photographs: the first
LARGEST = 5  # logits of each
QUALITY = 60  # of its JPEGs: noise takes many bytes


def play(
    named: Named, images: Tensor, report: Report, names: Sequence[str] = (), seed: int = 0
) -> dict[str, Any]:
    """play.json: maps, µ and the largest logits of the first photographs, at every place and below.

    µ = ‖Λ in the hidden part‖₂ / ‖Λ‖₂ (Eq. 7 of the paper) of the predicted class's map, ×100; null
    for an empty one. `images` (N, C, H, W), normalised: all those that `report` is of, since what
    lies below the first comes from all of them; `report`: whose methods are shown, but for those
    that are costly or score pixels; `names`: what each image shows. The wall's places: two images
    stacked, then within one, as high as `sides.SHARES` where the network takes it. Maps are as of
    `embedded.map_text`; `moved` is the largest change of any logit over what lies below. Raises
    ValueError for other images than the report's, for no method to show, where no wall fits, and
    where a logit moves.
    """
    methods = [name for name in report.methods if name not in (*COSTLY, *PIXELS)]
    if not methods:
        got = ", ".join(report.methods)
        raise ValueError(f"methods: got {got}; takes one that is neither costly nor of pixels")
    classes = report.classes
    if len(images) != len(classes):
        raise ValueError(f"images: got {len(images)}; takes the {len(classes)} of the report")
    hidden = {name: part[:SHOWN] for name, part in below(images, classes, seed).items()}
    places = [
        _place(model, images[:SHOWN], hidden, methods, named.classes)
        for model in _walls(named.network, images.shape[2], named.recipe.normalised)
    ]
    pictures: list[str] = []
    shown = _photographs(images, classes, hidden, names, named.recipe, pictures)
    return {
        "network": named.name,
        "methods": methods,
        "controls": list(hidden),
        "photographs": shown,
        "pictures": pictures,
        "places": places,
    }


def write(file: Path, *given: Any, **options: Any) -> None:
    """What `play` finds of the same arguments, as JSON. Raises ValueError as `play` does."""
    files.write_json(play(*given, **options), file)


def _walls(network: nn.Module, rows: int, normalised: Normalised | None) -> list[Behind]:
    """The network behind every wall that fits: stacked, then within an image, the highest first."""
    heights = [rows - round(share * rows) for share in sorted(SHARES, reverse=True)]
    found, refused = [], None
    for seen in (None, *heights):
        whole = 2 * rows if seen is None else rows
        try:
            model = behind(network, seen, image_rows=whole, normalised=normalised)
        except ValueError as error:
            refused = error
            continue
        if model.zone().measured_rows:
            found.append(model)
    if not found and refused is not None:
        raise refused
    return found


def _place(
    model: Behind,
    seen: Tensor,
    hidden: Mapping[str, Tensor],
    methods: Sequence[str],
    classes: Sequence[str] | None,
) -> dict[str, Any]:
    """One wall: its rows, and what is found of every image there."""
    zone = model.zone()
    stacks = {control: put_together(seen, part, zone) for control, part in hidden.items()}
    logits, moved = _logits(model, stacks)
    size = int(next(iter(stacks.values())).shape[2]), int(seen.shape[3])
    targets = logits.argmax(1)
    maps: dict[tuple[str, str], Tensor] = {}
    mu: dict[tuple[str, str], Tensor] = {}
    for control, stack in stacks.items():
        found = saliency_maps(model, stack, methods, targets, progress=lambda count: None)
        for method, raw in found.items():
            maps[control, method] = raw
            mu[control, method] = 100 * measured(raw, size, zone)[0]
    raw = next(iter(maps.values()))
    return {
        "stacked": zone.image_rows != seen.shape[2],
        "image_rows": zone.image_rows,
        "image_columns": size[1],
        "map_rows": int(raw.shape[1]),
        "map_columns": int(raw.shape[2]),
        "dead_rows": zone.dead_rows,
        "measured_rows": zone.measured_rows,
        "uniform": rounded(100 * uniform_activity(zone.measured_rows / zone.image_rows)),
        "classes": logits.shape[1],
        "photographs": [
            {
                "logits": _largest(logits[image], classes),
                "moved": float(moved[image]),
                "mu": _nested(mu, image, lambda value: rounded(float(value))),
                "maps": _nested(maps, image, map_text),
            }
            for image in range(len(seen))
        ],
    }


def _nested(
    found: Mapping[tuple[str, str], Tensor], image: int, of: Callable[[Tensor], Any]
) -> dict[str, dict[str, Any]]:
    """What `of` makes of one image's, {control: {method: …}}."""
    nested: dict[str, dict[str, Any]] = {}
    for (control, method), values in found.items():
        nested.setdefault(control, {})[method] = of(values[image])
    return nested


def _logits(model: Behind, stacks: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Logits (N, classes) through **B** at full height, and how far any moves by what is hidden.

    Raises ValueError where one does.
    """
    with torch.no_grad():
        parameter = next(model.parameters())
        found = [model.logits(*model.cut(stack.to(parameter))) for stack in stacks.values()]
    moved = torch.stack([(other - found[0]).abs().amax(1) for other in found]).amax(0)
    if not all(torch.equal(other, found[0]) for other in found):
        raise ValueError(
            f"logits: moved by up to {float(moved.max()):.3g} with what the network can't see; "
            "takes a network whose logits stay the same"
        )
    return found[0], moved


def _largest(logits: Tensor, classes: Sequence[str] | None) -> list[tuple[str, float]]:
    """The largest logits of one image, each with its class, from the top."""
    values, places = logits.topk(min(LARGEST, len(logits)))
    names = [classes[place] if classes else f"class {place}" for place in places.tolist()]
    return [(name, round(value, 4)) for name, value in zip(names, values.tolist(), strict=True)]


def _photographs(
    images: Tensor,
    classes: Sequence[int],
    hidden: Mapping[str, Tensor],
    names: Sequence[str],
    recipe: Recipe,
    pictures: list[str],
) -> list[dict[str, Any]]:
    """Of each photograph its name, its picture's place among `pictures`, and what lies below it."""

    def picture(image: Tensor) -> int:
        mean, std = (image.new_tensor(values)[:, None, None] for values in recipe.normalised)
        pixels = (255 * (image * std + mean)).round().clamp(0, 255).to(torch.uint8)
        text = jpeg_text(pixels.expand(3, -1, -1), QUALITY)
        if text not in pictures:
            pictures.append(text)
        return pictures.index(text)

    def name(image: int) -> str:
        return names[image] if image < len(names) else f"photograph {image + 1}"

    found = []
    alike, unlike = partners(classes)
    for image in range(min(SHOWN, len(images))):
        same, other = alike[image], unlike[image]
        said = {
            SAME: "the photograph itself, mirrored (it is alone of its class)"
            if same is None
            else f"another of the class: {name(same)}",
            ANOTHER: "" if other is None else name(other),
            NOISE: "noise",
            GREY: "grey: the mean colour",
        }
        own = {
            control: {"picture": picture(part[image]), "name": said[control]}
            for control, part in hidden.items()
        }
        found.append({"name": name(image), "picture": picture(images[image]), "below": own})
    return found
