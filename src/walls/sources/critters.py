"""The drawn images: ten species of cartoon animals before blurred meadows, by Pillow.

What a species is made of stands in species.py. Every image is a pure function of its arguments:
background, light and animal have random streams of their own, and the background's and the light's
never hear of the species, so that only the animal tells the class.
"""

import colorsys
import math
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from zlib import crc32

import numpy as np
from numpy.random import Generator, Philox, SeedSequence
from PIL import Image, ImageColor, ImageDraw, ImageFilter, ImageOps

from walls.base.progress import track
from walls.sources.species import COATS, SPECIES, ZOO, Part, Species, rotation

SUPERSAMPLE = 3
# Width of the outlines, in the units of the drawings below (an animal is about 130 of them long).
PEN = 1.7
# Shadow and gleam begin where the shifted silhouette is thinner than this, of 255.
CRESCENT = 190
# Single animals keep most of themselves above this share of the height: the paper's networks read
# 170 of 224 rows.
READ = 170 / 224
BACKGROUND, LIGHT, ANIMAL, LOWER = range(4)


def _palette(species: Species, rng: Generator) -> dict[str, np.ndarray]:
    """The species' colours, (3,) in 0 … 255.

    All are shifted alike in hue, saturation and brightness.
    """
    hue, saturation, value = rng.uniform((-0.018, 0.8, 0.84), (0.018, 1.12, 1.06))
    colours = {}
    for name, choices in ({"eye": "#241a1c", "glint": "#ffffff"} | species.palette).items():
        h, s, v = colorsys.rgb_to_hsv(
            *(c / 255 for c in ImageColor.getrgb(str(rng.choice(choices.split()))))
        )
        colours[name] = 255 * np.array(
            colorsys.hsv_to_rgb((h + hue) % 1, min(1, s * saturation), min(1, v * value))
        )
    return colours


def _sprite(
    species: Species,
    rng: Generator,
    light: np.ndarray,
    extent: float,
    width: float,
    height: float,
    tilt: float = 15,
) -> Image.Image:
    """One animal in a pose of its own, cut out (RGBA).

    √(its width · height) is `extent`, or less to fit.
    """
    colours = _palette(species, rng)
    bend = {
        name: (np.array([x, y]), rotation(rng.uniform(-play, play)) * rng.uniform(0.94, 1.06))
        for name, (x, y, play) in species.joints.items()
    }
    stance = np.diag([rng.choice([-1, 1]) * rng.uniform(0.92, 1.08), 1]) @ rotation(
        rng.uniform(-tilt, tilt)
    )

    def moved(points: np.ndarray, part: Part) -> np.ndarray:
        for pivot, turn in (bend[joint] for joint in part.joints):
            points = (points - pivot) @ turn + pivot
        return points @ stance

    shapes = [moved(part.shape, part) for part in species.parts]
    low, high = (end(np.concatenate(shapes), axis=0) for end in (np.min, np.max))
    low, span = low - PEN, high - low + 2 * PEN
    scale = min(extent / math.sqrt(span[0] * span[1]), width / span[0], height / span[1])
    canvas = Image.new("RGBA", tuple(SUPERSAMPLE * max(1, int(side)) for side in span * scale))
    scale *= SUPERSAMPLE
    groups = []
    for part, shape in zip(species.parts, shapes, strict=True):
        marks = COATS[part.coat](part.shape.min(0), part.shape.max(0), rng) if part.coat else ()
        drawn = (part, (shape - low) * scale, [(moved(mark, part) - low) * scale for mark in marks])
        groups = [*groups[:-1], [*groups[-1], drawn]] if part.fuse else [*groups, [drawn]]
    for group in groups:
        _paint(canvas, group, colours, light, max(1, round(PEN * scale)))
    return canvas.reduce(SUPERSAMPLE)


def _paint(
    canvas: Image.Image, group: list, colours: dict[str, np.ndarray], light: np.ndarray, pen: int
) -> None:
    """Fused parts as one silhouette: outline, coat, shadow and gleam.

    The shadow is on the far side of the light, the gleam on the near one.
    """
    first = group[0][0]
    ink = {name: colour * (0.8 if first.far else 1) for name, colour in colours.items()}
    fill = ink[first.colour]
    if first.flat:
        ImageDraw.Draw(canvas).polygon(_coordinates(group[0][1]), fill=_rgb(fill))
        return
    points = np.concatenate([shape for _, shape, _ in group])
    corner = np.floor(points.min(0)).astype(int) - pen
    size = tuple(int(side) for side in np.ceil(points.max(0)).astype(int) + pen + 1 - corner)
    mask, rim, coat = Image.new("L", size), Image.new("L", size), Image.new("RGB", size, _rgb(fill))
    for _, shape, marks in group:
        shape = shape - corner
        (x, y), (x2, y2) = shape.T, np.roll(shape, 1, 0).T
        turn = np.sign(np.sum(x2 * y - x * y2))
        ImageDraw.Draw(mask).polygon(_coordinates(shape), fill=255)
        # A line has notches where it bends; what the polygon, grown by its width, covers has none.
        normal = (np.roll(shape, 1, 0) - np.roll(shape, -1, 0)) @ [[0, 1], [-1, 0]]
        normal *= pen / np.maximum(np.hypot(*normal.T), 1e-6)[:, None] * turn
        ImageDraw.Draw(rim).line(
            _coordinates(np.concatenate([shape, shape[:2]])), fill=255, width=2 * pen
        )
        ImageDraw.Draw(rim).polygon(_coordinates(shape + normal), fill=255)
        if marks:
            own, cover = Image.new("RGB", size, _rgb(fill)), Image.new("L", size)
            ImageDraw.Draw(cover).polygon(_coordinates(shape), fill=255)
            for mark in marks:
                ImageDraw.Draw(own).polygon(_coordinates(mark - corner), fill=_rgb(ink["mark"]))
            coat.paste(own, mask=cover)
    # The silhouette, blurred and shifted to and fro, leaves soft crescents of itself uncovered.
    small = mask.reduce(4)
    depth = 0.22 * min(small.size)
    pad = round(3 * depth)
    soft = ImageOps.expand(small, pad).filter(ImageFilter.GaussianBlur(depth))
    for tone, strength, side in (
        (fill * (0.35, 0.3, 0.45), 0.7, -1),
        (np.array((255, 250, 235)), 0.4, 1),
    ):
        x, y = (round(pad + shift) for shift in (side * depth * light).tolist())
        thin = CRESCENT - np.minimum(CRESCENT, soft.crop((x, y, x + small.width, y + small.height)))
        bare = Image.fromarray((thin * np.float32(strength)).astype(np.uint8))
        coat.paste(_rgb(tone), mask=bare.resize(size, Image.Resampling.BILINEAR))
    canvas.paste(_rgb(fill * (0.32, 0.26, 0.28)), tuple(corner.tolist()), rim)
    canvas.paste(coat, tuple(corner.tolist()), mask)


def _coordinates(points: np.ndarray) -> list[float]:
    return points.ravel().tolist()


def _rgb(colour: np.ndarray) -> tuple[int, ...]:
    return tuple(int(c) for c in np.rint(colour))


def _noise(rng: Generator, side: int) -> Image.Image:
    """Five octaves of smooth noise, (side, side) in 0 … 255.

    Computed in whole numbers, so that it is the same on every machine.
    """
    noise = Image.new("L", (side, side), 128)
    for cells, weight in ((3, 0.9), (5, 0.45), (9, 0.28), (17, 0.14), (33, 0.08)):
        octave = Image.fromarray(rng.integers(0, 256, (cells, cells), np.uint8))
        noise = Image.blend(noise, octave.resize((side, side), Image.Resampling.BICUBIC), weight)
    return noise.point([min(255, max(0, 2 * v - 128)) for v in range(256)])


def _background(rng: Generator, size: int) -> Image.Image:
    """A blurred background: noise in the hues of sky, leaves and earth and in any other.

    Discs of stray light lie on it.
    """

    def colour(wild: float) -> tuple[int, ...]:
        hue = (
            rng.uniform()
            if rng.uniform() < wild
            else rng.choice([0.56, 0.3, 0.22, 0.1]) + rng.uniform(-0.05, 0.05)
        )
        return _rgb(
            255 * np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.15, 0.7), rng.uniform(0.3, 1)))
        )

    side = 64
    image = Image.new("RGB", (side, side), colour(0.4))
    for wild in (0.3, 0.6, 0.5, 1):
        image.paste(colour(wild), mask=_noise(rng, side))
    for _ in range(rng.integers(0, 14)):
        (x, y), r = rng.uniform(0, side, 2), rng.uniform(1.5, 6)
        disc = Image.new("L", (side, side))
        ImageDraw.Draw(disc).ellipse((x - r, y - r, x + r, y + r), fill=int(rng.integers(40, 130)))
        image.paste(colour(0.6), mask=disc)
    return image.filter(ImageFilter.BoxBlur(0.6)).resize((size, size), Image.Resampling.BICUBIC)


@dataclass(frozen=True)
class Light:
    """One light for a whole scene.

    Where it comes from (2,), how much of it falls where (size, size, 3), contrast.
    """

    source: np.ndarray
    gain: np.ndarray
    contrast: float

    def on(self, image: Image.Image) -> np.ndarray:
        """The lit scene, (size, size, 3) uint8; pixel by pixel."""
        values = (np.asarray(image, np.float32) - 128) * self.contrast + 128
        return np.rint(np.clip(values * self.gain, 0, 255)).astype(np.uint8)


def _light(rng: Generator, size: int) -> Light:
    source = np.array([0, -1]) @ rotation(rng.uniform(-60, 60))
    ramp = np.linspace(-1, 1, size, dtype=np.float32)
    slope = rng.uniform(0, 0.18) * (ramp[None] * source[0] + ramp[:, None] * source[1])
    gain = rng.uniform(0.86, 1.14) * (1 + slope[:, :, None]) * rng.uniform(0.94, 1.06, 3)
    return Light(source, gain.astype(np.float32), np.float32(rng.uniform(0.82, 1.12)))


def _streams(seed: int, split: str, index: int, attempt: int = 0) -> list[Generator]:
    """Independent generators for background, light, animal and lower animal."""
    for name, value in {"seed": seed, "index": index, "attempt": attempt}.items():
        if value < 0:
            raise ValueError(f"{name}: got {value}; takes 0 or more")
    key = [seed, crc32(split.encode()), index, attempt]
    return [
        Generator(Philox(SeedSequence([*key, stream])))
        for stream in (BACKGROUND, LIGHT, ANIMAL, LOWER)
    ]


def _check(species: int, size: int) -> None:
    if not 0 <= species < len(ZOO):
        raise ValueError(f"species: got {species}; takes 0 to {len(ZOO) - 1}")
    if size < 32:
        raise ValueError(f"size: got {size}; takes 32 or more")


def draw(seed: int, split: str, index: int, species: int, size: int = 224) -> np.ndarray:
    """One animal before a background: a pure function of its arguments.

    (size, size, 3) uint8. The animal's head and most of its body lie above row 170 of 224; `split`
    is any name. Raises ValueError for a species outside 0 … 9, a size below 32, a negative seed or
    index.
    """
    return _single(seed, split, index, species, size)


def _single(
    seed: int, split: str, index: int, species: int, size: int, animal: bool = True
) -> np.ndarray:
    """`draw`, or its empty scene: what the tests take differences of."""
    _check(species, size)
    streams = _streams(seed, split, index)
    rng, light = streams[ANIMAL], _light(streams[LIGHT], size)
    image = _background(streams[BACKGROUND], size)
    if animal:
        sprite = _sprite(
            ZOO[species], rng, light.source, size * rng.uniform(0.5, 0.72), 0.9 * size, 0.8 * size
        )
        left = rng.uniform(0.01, 0.99) * (size - sprite.width)
        lowest = min(0.99 * size - sprite.height, READ * size - 0.6 * sprite.height)
        # Most stand low, so that STACK-MIX finds legs and bellies in the dead zone.
        top = lowest - (lowest - 0.01 * size) * rng.random() ** 2
        image.paste(sprite, (round(left), round(top)), sprite)
    return light.on(image)


def draw_stack(
    seed: int,
    index: int,
    species: int,
    edge: int,
    size: int = 224,
    attempt: int = 0,
    lower: bool = True,
) -> np.ndarray:
    """Two animals of a species in one scene.

    One lies wholly in rows 0 … edge-1, one wholly in rows edge … size-1.

    (size, size, 3) uint8. The lower one is as high as its rows allow; another `attempt` is another
    scene. Without `lower` it is the very same scene, pixel by pixel, but for that animal. Raises
    ValueError as `draw` does, and for an edge that leaves no row above it or fewer than 4 below.
    """
    return _stack(seed, index, species, edge, size, attempt, lower=lower)


def _stack(
    seed: int,
    index: int,
    species: int,
    edge: int,
    size: int,
    attempt: int,
    upper: bool = True,
    lower: bool = True,
) -> np.ndarray:
    """`draw_stack`, with either animal left out on request."""
    _check(species, size)
    if not 1 <= edge <= size - 4:
        raise ValueError(
            f"edge: got {edge}; takes 1 to {size - 4}, "
            f"which leaves a row above and 4 below of {size}"
        )
    streams = _streams(seed, "stack", index, attempt)
    light = _light(streams[LIGHT], size)
    image = _background(streams[BACKGROUND], size)
    for wanted, rng, top, bottom in (
        (upper, streams[ANIMAL], 0, edge),
        (lower, streams[LOWER], edge, size),
    ):
        extent = size * rng.uniform(0.46, 0.6) if top == 0 else size
        sprite = _sprite(
            ZOO[species],
            rng,
            light.source,
            extent,
            0.9 * size,
            bottom - top,
            tilt=15 if top == 0 else 8,
        )
        left, down = rng.uniform(0.01, 0.99, 2) * (
            size - sprite.width,
            bottom - top - sprite.height,
        )
        if wanted:
            image.paste(sprite, (round(left), top + round(down)), sprite)
    return light.on(image)


def _write(task: tuple[Path, str, int, int, int, int]) -> tuple[str, str]:
    folder, split, index, seed, classes, size = task
    name = SPECIES[index % classes]
    path = f"{split}/{name}/{index:05d}.png"
    Image.fromarray(draw(seed, split, index, index % classes, size)).save(
        folder / path, compress_level=1
    )
    return path, name


def write(
    folder: Path,
    split: str,
    count: int,
    seed: int,
    classes: int = 10,
    size: int = 224,
    workers: int | None = None,
    progress: bool = True,
) -> list[tuple[str, str]]:
    """Draws images 0 … count-1 of a split, of species index % classes.

    They are written to `folder/split/<species>/<index:05d>.png`.

    Lossless PNGs, drawn in `workers` processes (default: one per core), whose number changes no
    byte of them; a larger count leaves the images already there as they are. Returns (path below
    `folder`, with forward slashes; species), by index. Raises ValueError for classes outside 2 …
    10, a negative count, fewer than one worker, and as `draw` does.
    """
    if not 2 <= classes <= len(ZOO):
        raise ValueError(f"classes: got {classes}; takes 2 to {len(ZOO)}")
    if count < 0:
        raise ValueError(f"count: got {count}; takes 0 or more")
    workers = os.cpu_count() or 1 if workers is None else workers
    if workers < 1:
        raise ValueError(f"workers: got {workers}; takes 1 or more")
    _check(0, size)
    _streams(seed, split, 0)
    folder = Path(folder)
    for name in SPECIES[:classes]:
        (folder / split / name).mkdir(parents=True, exist_ok=True)
    tasks = [(folder, split, index, seed, classes, size) for index in range(count)]
    bar = partial(track, total=count, desc=f"drawing {split}", unit="image", hidden=not progress)
    if workers == 1 or count < 2:
        return list(bar(map(_write, tasks)))
    # Spawned, not forked: the caller may hold threads (torch, Jupyter).
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        return list(bar(pool.map(_write, tasks, chunksize=16)))
