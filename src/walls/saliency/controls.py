"""What lies in the part that the network can't see: the object, another one, noise, or nothing.

The same upper part stands above each. What a map has with the same class beyond another class is
the hidden object; what it has with another class beyond grey is any content.
"""

from collections.abc import Collection, Hashable, Sequence

import torch
from torch import Tensor

from walls.base.normalisation import MEAN, STD
from walls.base.seeds import stream
from walls.images.stacked import Replaced
from walls.network.geometry import DeadZone

SAME, ANOTHER, NOISE, GREY = "same class", "another class", "noise", "grey"
CONTROLS = (SAME, ANOTHER, NOISE, GREY)
REDRAWN = "no animal"  # of drawn scenes besides: the same one, without the hidden animal
STACKED = (SAME, REDRAWN, ANOTHER, NOISE, GREY)
WHY_NOT = {
    REDRAWN: "only a scene that is drawn here (STACK-GEN of critters) can leave it out",
    ANOTHER: "all images are of one class",
}


def partners(labels: Sequence[Hashable]) -> tuple[list[int | None], list[int | None]]:
    """For every image another one of its class, and one of another class; None where there is none.

    Both are the next one in the order given, around its end, so that an image is used about as
    often as any other.
    """
    count = len(labels)

    def first(i: int, alike: bool) -> int | None:
        after = ((i + step) % count for step in range(1, count))
        return next((j for j in after if (labels[j] == labels[i]) == alike), None)

    return [first(i, True) for i in range(count)], [first(i, False) for i in range(count)]


def below(images: Tensor, labels: Sequence[int], seed: int = 0) -> dict[str, Tensor]:
    """What lies below each of the images (N, C, H, W), {control: (N, C, H, W)}.

    Same class: another image of the class or, where there is none, the image itself, mirrored.
    Another class: the next image of another one. Noise: standard normal, as large as normalised
    pixels, each image's own. Grey: 0, the mean colour of normalised images.
    Raises ValueError where all images are of one class.
    """
    alike, unlike = partners(labels)
    if None in unlike:
        raise ValueError(
            "labels: got one class; takes images of two classes or more, for the control"
        )
    mirrored = images.flip(3)
    same = [mirrored[i] if j is None else images[j] for i, j in enumerate(alike)]
    draws = (stream(seed, "noise", i).standard_normal(images.shape[1:]) for i in range(len(images)))
    return {
        SAME: torch.stack(same),
        ANOTHER: images[torch.tensor(unlike)],
        NOISE: torch.stack([torch.from_numpy(draw) for draw in draws]).to(images),
        GREY: torch.zeros_like(images),
    }


def put_together(seen: Tensor, hidden: Tensor, zone: DeadZone) -> Tensor:
    """Images (N, C, H, W) whose seen part is of the ones and whose hidden part is of the others.

    Stacked, two whole images one above the other, where the zone's image is twice as high; else the
    images' own rows, cut where the dead zone begins (Eq. 6 of the paper).
    """
    rows, top = seen.shape[2], zone.side == "top"
    if zone.image_rows != 2 * rows:
        if zone.image_rows != rows:
            raise ValueError(f"images: got {rows} rows; takes {zone.image_rows}, or half of them")
        cut = zone.dead_rows if top else zone.seen_rows
        seen = seen[:, :, cut:] if top else seen[:, :, :cut]
        hidden = hidden[:, :, :cut] if top else hidden[:, :, cut:]
    return torch.cat([hidden, seen] if top else [seen, hidden], dim=2)


def of_stacked(
    images: Sequence,
    classes: Sequence[Hashable],
    zone: DeadZone,
    bare: Sequence | None = None,
    seed: int = 0,
) -> dict[str, Sequence]:
    """Finished stacked images, uint8, under each of `STACKED`, made when asked for.

    Same class: as they are. No animal: `bare`, the same without the hidden animal; left out where
    that is None. In the others the dead zone's rows alone are replaced. Another class: by those of
    the next image of another one; left out where all are of one class. Noise and grey: as `below`,
    in whole pixels, so noise ends at black and white.
    """
    size = zone.image_rows
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    unlike = partners(classes)[1]

    def noise(index: int) -> Tensor:
        draw = torch.from_numpy(stream(seed, "noise", index).standard_normal((3, size, size)))
        return _pixels(mean + std * draw)

    hidden = {NOISE: noise, GREY: lambda _: _pixels(mean.expand(3, size, size))}
    if None not in unlike:
        hidden[ANOTHER] = lambda index: images[unlike[index]]
    found: dict[str, Sequence] = {name: Replaced(images, own, zone) for name, own in hidden.items()}
    found |= {SAME: images} | ({} if bare is None else {REDRAWN: bare})
    return {name: found[name] for name in STACKED if name in found}


def left_out(controls: Collection[str]) -> str:
    """Which of `STACKED` these are not, each with the reason, in a line; empty for all and none."""
    missing = [name for name in WHY_NOT if len(controls) and name not in controls]
    return "; ".join(f"{name}: skipped, {WHY_NOT[name]}" for name in missing)


def _pixels(values: Tensor) -> Tensor:
    """Values in [0, 1], and whatever lies beyond, as uint8."""
    return (255 * values).round().clamp(0, 255).to(torch.uint8)
