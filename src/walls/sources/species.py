"""The ten species of the embedded image source: what each is made of, and what its coat looks like.

A species is a table row: a palette, joints that bend a little, and parts (tubes, blobs, ovals) from
back to front. The unit of all coordinates is about a 130th of an animal; x points ahead, y down.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.random import Generator


@dataclass(frozen=True)
class Part:
    """A polygon (n, 2) of one palette colour; x points ahead, y down."""

    colour: str
    shape: np.ndarray
    coat: str = ""  # a pattern of COATS on it
    fuse: bool = False  # one silhouette with the part before it
    joints: tuple[str, ...] = ()  # what moves it, innermost first
    flat: bool = False  # neither outline nor shading: eyes, noses, cheeks
    far: bool = False  # on the other side of the body: darker


def rotation(degrees: float) -> np.ndarray:
    """Turns row vectors clockwise on the screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    return np.array([[c, s], [-s, c]])


def _curve(points: np.ndarray, closed: bool, steps: int = 7) -> np.ndarray:
    """Catmull-Rom spline through points (n, d)."""
    if not closed:
        points = np.concatenate([points[:1], points, points[-1:]])
    a, b, c, d = (np.roll(points, by, 0)[:, None] for by in (1, 0, -1, -2))
    t = np.linspace(0, 1, steps, endpoint=False)[:, None]
    curve = b + 0.5 * t * (c - a + t * (2 * a - 5 * b + 4 * c - d + t * (3 * (b - c) + d - a)))
    # Between a point and its double the spline would loop: that is where the corners are.
    curve = curve[(b != c).any((1, 2))]
    return (
        curve.reshape(-1, points.shape[1]) if closed else np.concatenate([*curve[:-1], points[-1:]])
    )


def _numbers(path: str) -> np.ndarray:
    return np.array([[float(number) for number in point.split(",")] for point in path.split()])


def blob(colour: str, path: str, **more) -> Part:
    """A smooth closed curve through "x,y x,y …"; a point given twice is a corner."""
    return Part(colour, _curve(_numbers(path), closed=True), **more)


def tube(colour: str, path: str, **more) -> Part:
    """A curve through "x,y,radius …" with round ends: legs, necks, trunks, tails."""
    path = _curve(_numbers(path), closed=False)
    along = np.gradient(path[:, :2], axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    side = path[:, 2:] * along @ rotation(90)
    left, right = path[:, :2] + side, path[::-1, :2] - side[::-1]
    caps = [
        [path[i, :2] + arm @ rotation(-turn) for turn in range(20, 180, 20)]
        for i, arm in ((-1, side[-1]), (0, -side[0]))
    ]
    return Part(colour, np.concatenate([left, caps[0], right, caps[1]]), **more)


def oval(colour: str, x: float, y: float, rx: float, ry: float, tilt: float = 0, **more) -> Part:
    """An ellipse, turned clockwise by `tilt` degrees."""
    turn = np.linspace(0, 2 * np.pi, 36, endpoint=False)
    return Part(
        colour,
        np.stack([rx * np.cos(turn), ry * np.sin(turn)], 1) @ rotation(tilt) + (x, y),
        **more,
    )


def on(joint: str, *parts: Part, **more) -> list[Part]:
    """The parts, moved by a joint (too)."""
    return [replace(part, joints=(*part.joints, joint), **more) for part in parts]


def flat(*parts: Part, **more) -> list[Part]:
    return [replace(part, flat=True, **more) for part in parts]


def far(*parts: Part) -> list[Part]:
    return [replace(part, far=True) for part in parts]


def both(axis: float, *parts: Part) -> list[Part]:
    """Each part and its mirror image about x = axis."""
    return [
        p
        for part in parts
        for p in (part, replace(part, shape=part.shape * (-1, 1) + (2 * axis, 0)))
    ]


def eyes(*places: tuple[float, float, float]) -> list[Part]:
    """Dark eyes (x, y, radius) with a glint."""
    return flat(
        *(
            part
            for x, y, r in places
            for part in (
                oval("eye", x, y, r * 0.9, r),
                oval("glint", x + r * 0.3, y - r * 0.35, r * 0.38, r * 0.38),
            )
        )
    )


def leg(colour: str, path: str, shoe: str = "", **more) -> list[Part]:
    """A tube from hip to foot, in a shoe: a paw or a hoof."""
    x, y, r = _numbers(path)[-1]
    return [
        tube(colour, path, **more),
        *([oval(shoe, x + 0.3 * r, y + 0.4 * r, 1.3 * r, 0.85 * r)] if shoe else []),
    ]


def _bars(
    low: np.ndarray, high: np.ndarray, rng: Generator, pitch: float, full: bool
) -> Iterator[np.ndarray]:
    """Stripes across the longer side.

    They go from edge to edge, or taper from one edge and the other in turn.
    """
    across = slice(None, None, -1 if high[1] - low[1] > high[0] - low[0] else 1)
    low, (length, width) = low[across], (high - low)[across]
    for n, x in enumerate(np.arange(rng.uniform(0.2, 0.7) * pitch, length, pitch)):
        shift, lean, r = rng.uniform((-0.12, -0.3, 0.2), (0.12, 0.3, 0.27)) * pitch
        start, tip = (
            (-0.1, 1.1) if full else (1.1, 0.78) if n % 3 == 2 else (-0.1, rng.uniform(0.45, 0.68))
        )
        spine = (
            np.array([(x + shift, start), (x + lean, (start + tip) / 2), (x, tip)]) * (1, width)
            + low
        )
        half = np.array([(r, 0), (r, 0), (r if full else 0.3, 0)])
        yield np.concatenate([spine - half, (spine + half)[::-1]])[:, across]


def _tiles(
    low: np.ndarray, high: np.ndarray, rng: Generator, pitch: float, fill: float
) -> Iterator[np.ndarray]:
    """Irregular hexagons on a honeycomb, each filling a share of its cell."""
    turn = np.radians(np.arange(30, 390, 60))
    corners = np.stack([np.cos(turn), np.sin(turn)], 1) * 0.58 * pitch * fill
    x0, y0 = low - rng.uniform(0, pitch, 2)
    for row, y in enumerate(np.arange(y0, high[1] + pitch, 0.87 * pitch)):
        for x in np.arange(x0 - row % 2 * pitch / 2, high[0] + pitch, pitch):
            yield (
                (x, y)
                + rng.uniform(-0.08, 0.08, 2) * pitch
                + corners * rng.uniform(0.82, 1.12, (6, 1))
            )


COATS = {
    "stripes": partial(_bars, pitch=8.5, full=False),
    "rings": partial(_bars, pitch=10, full=True),
    "bands": partial(_bars, pitch=12, full=True),
    "patches": partial(_tiles, pitch=15, fill=0.84),
    "plates": partial(_tiles, pitch=26, fill=0.84),
    "flecks": partial(_tiles, pitch=11, fill=0.4),
}


@dataclass(frozen=True)
class Species:
    """A drawing: palette, joints (x, y, degrees of play), parts.

    Of several colours to a name, one is drawn.
    """

    name: str
    palette: dict[str, str]
    joints: dict[str, tuple[float, float, float]]
    parts: list[Part]


def walker(x: float, y: float, play: float = 14) -> dict[str, tuple[float, float, float]]:
    """Four hips: hind at -x, fore at x; near and far (2) legs swing on their own."""
    return {
        "hind": (-x, y, play),
        "fore": (x, y, play),
        "hind2": (-x, y, play),
        "fore2": (x, y, play),
    }


# fmt: off
ZOO = (
    Species("tiger", dict(fur="#f39a2b #ee8420 #f6ad45", mark="#33221c", cream="#fff3df", pink="#e98f86"),
            walker(32, 8) | dict(head=(36, -14, 12), tail=(-44, -8, 22)), [
        *on("tail", tube("fur", "-42,-8,5 -60,-6,5 -72,-22,5 -66,-40,5", coat="rings"),
            oval("mark", -65, -43, 5.5, 6.5)),
        *far(*on("hind2", *leg("fur", "-26,8,9 -22,42,7.5", "cream", coat="rings")),
             *on("fore2", *leg("fur", "24,8,9 28,42,7.5", "cream", coat="rings"))),
        blob("fur", "-50,-2 -42,-22 -10,-25 30,-27 46,-8 40,14 0,18 -40,18", coat="stripes"),
        *on("hind", tube("fur", "-36,2,14 -38,20,9 -37,44,8", coat="rings", fuse=True)),
        *on("fore", tube("fur", "32,2,12 34,20,9 36,44,8", coat="rings", fuse=True), oval("cream", 38, 47, 10.5, 6.5)),
        *on("hind", oval("cream", -35, 47, 10.5, 6.5)),
        *on("head", *both(51, oval("fur", 34, -50, 9.5, 9.5), *flat(oval("pink", 34, -49, 5, 5))),
            blob("fur", "51,-58 72,-48 79,-30 72,-16 52,-9 32,-16 24,-30 32,-48"),
            *flat(blob("mark", "48,-58 51,-57 54,-58 52,-45 51,-43 50,-45"),
                  *both(51.5, blob("mark", "40,-54 44,-56 46,-46 46,-46"), blob("mark", "25,-36 24,-31 34,-31 34,-31"),
                        blob("mark", "25,-25 29,-20 35,-25 35,-25")), *both(52, oval("cream", 46, -19, 9.5, 8.5)),
                  blob("mark", "46,-27 52,-28 58,-27 52,-20")), *eyes((41, -33, 4.4), (62, -33, 4.4))),
    ]),
    Species("rabbit", dict(fur="#b98f6b #a9a29c #d8b48a #8d7361", cream="#fff8ee", pink="#f2a9a4", mark="#5b4038"),
            dict(head=(22, -16, 12), ear=(24, -50, 14), ear2=(34, -50, 14), fore=(22, 14, 10), fore2=(22, 14, 10)), [
        oval("cream", -47, 24, 14, 13),
        *far(*on("head", *on("ear2", tube("fur", "38,-46,6 44,-70,9 46,-94,5"))),
             *on("fore2", tube("fur", "20,12,8 30,40,6"))),
        blob("fur", "24,-22 34,0 30,30 12,44 -22,45 -44,34 -46,8 -26,-16 0,-26"),
        *flat(oval("cream", 27, 6, 9, 15, -10)),
        oval("fur", -20, 22, 22, 20, -20), oval("cream", -4, 44, 22, 7),
        *on("fore", *leg("fur", "20,10,8 24,40,6.5", "cream")),
        *on("head",
            *on("ear", tube("fur", "26,-46,6 22,-70,10 15,-98,5"), *flat(tube("pink", "25,-52,2 22,-70,5 17,-90,2"))),
            blob("fur", "30,-54 50,-48 60,-32 54,-16 36,-8 16,-14 8,-30 14,-46"),
            *flat(oval("cream", 47, -20, 11, 9), oval("pink", 24, -20, 6, 4.5),
                  blob("pink", "47,-30 53,-31 58,-29 53,-24"),
                  tube("mark", "53,-25,.8 52,-19,.8 47,-17,.8")), *eyes((36, -34, 5.6))),
    ]),
    Species("tortoise", dict(skin="#9cc25a #86b552 #b5bf58", fur="#c08a4e #a97c42 #c79a55", mark="#7a4a28 #66602c",
                             rim="#e0b86a"),
            walker(34, 22, 10) | dict(head=(48, 14, 14)), [
        tube("skin", "-54,22,5 -68,27,3 -76,25,1"),
        *far(*on("hind2", tube("skin", "-20,20,11 -18,37,9")), *on("fore2", tube("skin", "22,20,11 26,37,9"))),
        *on("head", tube("skin", "40,18,10 56,12,9 66,-2,9"), oval("skin", 74, -10, 19, 16, fuse=True)),
        *on("hind", tube("skin", "-38,20,13 -40,39,11")), *on("fore", tube("skin", "38,20,13 42,39,11")),
        blob("fur", "-62,20 -56,-12 -34,-38 0,-48 32,-38 52,-12 58,20 0,26", coat="plates"),
        tube("rim", "-62,21,6 -30,25,7 0,26,7 30,25,7 58,21,6"),
        *on("head", *flat(tube("eye", "74,0,.9 82,0,.9 89,-4,.9")), *eyes((78, -14, 4.8))),
    ]),
    Species("elephant", dict(skin="#8e9bb0 #9a9aa6 #8297a8", pink="#d9a6ad", cream="#fffbe9", nail="#e8e2dc"),
            walker(34, 14, 9) | dict(head=(30, -22, 8), trunk=(66, -14, 14), ear=(30, -40, 10), tail=(-50, -18, 25)), [
        *on("tail", tube("skin", "-48,-18,3 -60,-8,2.6 -62,12,2.2"), oval("nail", -62, 15, 3.5, 6)),
        *far(*on("hind2", tube("skin", "-26,10,13 -24,46,11")), *on("fore2", tube("skin", "20,10,13 24,46,11"))),
        blob("skin", "-54,2 -50,-30 -22,-48 16,-46 42,-30 46,4 34,24 0,28 -40,24"),
        *on("hind", tube("skin", "-38,8,16 -40,48,13", fuse=True)),
        *on("fore", tube("skin", "32,8,16 33,48,13", fuse=True)),
        *flat(*on("hind", *(oval("nail", x, 57, 3.4, 3) for x in (-47, -40, -33))),
              *on("fore", *(oval("nail", x, 57, 3.4, 3) for x in (26, 33, 40)))),
        *on("head", *on("trunk", tube("skin", "64,-22,14 82,-2,10 86,20,8 98,30,6.5 109,20,6")),
            oval("skin", 54, -32, 28, 27, fuse=True), tube("cream", "70,-8,4 80,8,3.4 92,8,1"),
            *on("ear", blob("skin", "40,-54 22,-66 -4,-58 -10,-34 2,-12 22,-6 36,-20"),
                *flat(blob("pink", "34,-50 20,-58 2,-52 -3,-34 6,-18 20,-14 30,-24"))),
            *flat(oval("pink", 60, -16, 6, 4)), *eyes((64, -34, 5))),
    ]),
    Species("giraffe", dict(fur="#f9d98a #f6cf78 #fbe3a3", mark="#b0692c #9a5526 #c07a35", cream="#fff1d0",
                            pink="#eea28f", hoof="#5a3a28"),
            walker(22, 14, 9) | dict(head=(22, 0, 9), face=(50, -76, 10), tail=(-34, -4, 25)), [
        *on("tail", tube("fur", "-32,-4,2.6 -44,8,2.2 -44,26,2"), oval("hoof", -44, 30, 4, 7)),
        *far(*on("hind2", *leg("fur", "-20,14,7 -16,60,5", "hoof")),
             *on("fore2", *leg("fur", "18,14,7 24,60,5", "hoof"))),
        *on("head", tube("mark", "15,-22,4.5 21,-46,5 34,-82,4")),
        *on("hind", tube("fur", "-28,6,11 -28,34,6.5 -29,62,5.5", coat="patches")),
        *on("fore", tube("fur", "22,4,11 26,34,6.5 26,62,5.5", coat="patches", fuse=True)),
        blob("fur", "-38,4 -32,-14 -4,-20 24,-24 34,-4 26,16 -4,20 -30,20", coat="patches", fuse=True),
        *on("head", tube("fur", "20,-8,13 30,-38,10.5 44,-78,9", coat="patches", fuse=True)),
        *on("hind", oval("hoof", -28, 65, 7.5, 5)), *on("fore", oval("hoof", 27, 65, 7.5, 5)),
        *on("head", *on("face", tube("fur", "40,-94,2.6 36,-108,2.4"), oval("mark", 36, -110, 4.6, 4.6),
            tube("fur", "50,-95,2.6 50,-110,2.4"), oval("mark", 50, -112, 4.6, 4.6),
            blob("fur", "38,-90 30,-96 18,-96 24,-86 36,-82"),
            tube("fur", "48,-85,14 62,-79,12 74,-75,11"),
            *flat(blob("cream", "71,-87 80,-84 85,-75 79,-65 68,-65 66,-76"), oval("hoof", 79, -78, 1.8, 1.5),
                  tube("hoof", "71,-69,.8 76,-69,.8 81,-72,.8"), oval("pink", 56, -76, 5, 3.6)), *eyes((55, -88, 5)))),
    ]),
    Species("zebra", dict(fur="#fbfaf4 #f4efe2 #eef1f4", mark="#1f1d22", muzzle="#4a4448", pink="#e6b0a8"),
            walker(32, 10) | dict(head=(34, -12, 10), face=(58, -56, 10), tail=(-46, -12, 22)), [
        *on("tail", tube("fur", "-44,-14,3.6 -58,-4,3 -62,14,2.4", coat="rings"),
            blob("mark", "-60,8 -56,22 -64,34 -68,20")),
        *far(*on("hind2", *leg("fur", "-26,10,9 -20,48,6", "mark", coat="rings")),
             *on("fore2", *leg("fur", "24,10,8 30,48,6", "mark", coat="rings"))),
        *on("head", blob("mark", "10,-26 14,-38 20,-42 24,-54 32,-58 36,-70 46,-72 54,-80 62,-72 54,-54 36,-28")),
        *on("hind", tube("fur", "-36,0,14 -38,22,8 -37,50,6.5", coat="rings")),
        *on("fore", tube("fur", "31,0,12 34,22,8 36,50,6.5", coat="rings", fuse=True)),
        blob("fur", "-50,-4 -44,-24 -14,-23 22,-27 42,-12 38,14 4,19 -38,18", coat="bands", fuse=True),
        *on("head", tube("fur", "28,-12,17 42,-34,14 56,-58,12", coat="bands", fuse=True)),
        *on("hind", oval("mark", -36, 53, 8.5, 5.5)), *on("fore", oval("mark", 37, 53, 8.5, 5.5)),
        *on("head",
            *on("face", tube("fur", "58,-60,15 74,-48,12 86,-37,10", coat="rings"),
                tube("muzzle", "84,-40,11.5 90,-33,10.5"),
                blob("fur", "50,-66 46,-80 50,-94 50,-94 60,-82 62,-68"),
                *flat(blob("pink", "53,-70 51,-80 57,-80 58,-70"), oval("fur", 69, -57, 8, 8),
                      oval("eye", 93, -37, 2, 1.5)),
                *eyes((70, -57, 5)))),
    ]),
    Species("fox", dict(fur="#e2602a #d9541f #e87436", cream="#fff6ea", sock="#3a2420", pink="#a8483a"),
            walker(26, 10) | dict(head=(30, -10, 12), tail=(-36, 4, 16)), [
        *on("tail", blob("fur", "-32,4 -50,12 -72,6 -88,-18 -88,-44 -80,-62 -80,-62 -66,-48 -56,-26 -44,-12"),
            *flat(blob("cream", "-88,-40 -80,-62 -80,-62 -67,-49 -64,-42 -72,-44 -78,-36 -84,-42"))),
        *far(*on("hind2", *leg("fur", "-20,8,7 -16,43,5", "sock")),
             *on("fore2", *leg("fur", "18,8,7 22,43,5", "sock"))),
        blob("fur", "-42,2 -34,-14 -6,-17 24,-20 38,-6 32,12 0,14 -32,15"),
        *on("hind", tube("fur", "-30,2,11 -32,20,6.5 -30,44,5", fuse=True)),
        *on("fore", tube("fur", "25,0,10 27,20,6.5 29,44,5", fuse=True)),
        *on("hind", tube("sock", "-31,38,5.4 -30,46,5.2 -26,47,5")),
        *on("fore", tube("sock", "28,38,5.4 29,46,5.2 33,47,5")),
        *flat(blob("cream", "20,-14 38,-10 36,6 30,2 26,14 22,4 16,4")),
        *on("head", blob("fur", "18,-40 14,-70 14,-70 40,-52"), blob("fur", "50,-50 73,-70 73,-70 72,-40"),
            *flat(blob("sock", "20,-48 15,-67 15,-67 28,-57"), blob("sock", "61,-58 72,-67 72,-67 70,-48")),
            blob("fur", "44,-54 66,-46 78,-28 86,-20 86,-20 68,-13 48,-2 28,-13 6,-18 6,-18 14,-34 26,-48"),
            *flat(blob("cream", "6,-18 6,-18 22,-28 36,-22 47,-28 62,-24 86,-20 86,-20 68,-13 48,-2 28,-13"),
                  blob("sock", "41,-12 48,-14 55,-12 48,-4")), *eyes((33, -28, 4.6), (61, -29, 4.6))),
    ]),
    Species("flamingo", dict(plume="#f792a8 #f67f97 #fba6a4", wing="#ee5f83 #f06a70", beak="#f7c9a6", mark="#33262b",
                             leg="#e8607c"),
            dict(head=(26, -8, 9), face=(40, -78, 12), stand=(0, 16, 7), knee=(6, 16, 12)), [
        *far(*on("knee", tube("leg", "8,14,3.4 24,36,3"), tube("leg", "24,36,3.2 -2,46,2.8"))),
        *on("stand", tube("leg", "-2,14,3.6 -2,50,3 -4,82,2.8"), tube("leg", "-5,83,3.2 11,85,2.8", fuse=True)),
        *on("head", tube("plume", "22,-2,14 42,-14,9 45,-34,7 31,-52,6.5 29,-70,6.5 42,-82,7")),
        blob("plume", "-52,6 -52,6 -34,-20 -4,-30 26,-22 39,0 24,20 -6,26 -34,18", fuse=True),
        blob("wing", "-60,10 -60,10 -36,-14 -4,-20 18,-8 14,8 -8,14 -12,9 -26,16 -32,9"),
        *on("head", *on("face", oval("plume", 44, -80, 15, 13), blob("beak", "54,-89 69,-85 78,-72 71,-65 56,-71"),
            *flat(blob("mark", "70,-84 79,-73 72,-55 72,-55 63,-69")), *eyes((46, -83, 4.2)))),
    ]),
    Species("panda", dict(fur="#fdfcf6 #f5f0e6 #f3f5f8", black="#2c2a30 #35302f", pink="#f3b3ad"),
            dict(head=(0, -10, 10), arm=(-34, -4, 18), arm2=(34, -4, 18), foot=(-26, 44, 12), foot2=(26, 44, 12)), [
        oval("fur", 0, 22, 45, 42), *flat(oval("black", 0, -12, 39, 12)),
        *on("arm", tube("black", "-34,-6,12 -44,14,12 -34,30,11")),
        *on("arm2", tube("black", "34,-6,12 44,14,12 34,30,11")),
        *on("foot", oval("black", -30, 52, 19, 16, -20), *flat(oval("pink", -32, 53, 8, 7))),
        *on("foot2", oval("black", 30, 52, 19, 16, 20), *flat(oval("pink", 32, 53, 8, 7))),
        *on("head", *both(0, oval("black", 34, -72, 14, 14)),
            blob("fur", "0,-82 32,-72 48,-44 36,-18 0,-8 -36,-18 -48,-44 -32,-72"),
            *flat(*both(1, oval("black", -17, -44, 9.5, 13, 28), oval("fur", -15.5, -45, 5.6, 6),
                        oval("pink", -30, -28, 7, 5)),
                  oval("black", 2, -30, 6, 4.4), tube("black", "-6,-20,.9 -2,-18,.9 2,-22,.9 6,-18,.9 10,-20,.9")),
            *eyes((-14.5, -45, 4.4), (17.5, -45, 4.4))),
    ]),
    Species("owl", dict(fur="#8a5a3a #7b5647 #a06c3e #6d5a5e", belly="#ecd3a8", mark="#a8733f", disc="#f6e7c8",
                        gold="#ffc92e", beak="#f29a2e"),
            dict(head=(0, -24, 10), wing=(-36, -16, 12), wing2=(36, -16, 12)), [
        *(oval("beak", x, 62, 4, 7) for x in (-22, -15, -8, 10, 17, 24)),
        blob("fur", "0,-50 36,-34 44,10 28,50 0,62 -28,50 -44,10 -36,-34"), oval("belly", 2, 20, 28, 38, coat="flecks"),
        *on("wing", blob("fur", "-36,-22 -52,4 -52,34 -40,54 -40,54 -28,26 -28,-6")),
        *on("wing2", blob("fur", "36,-22 52,4 52,34 40,54 40,54 28,26 28,-6")),
        *on("head",
            blob("fur", "-46,-84 -46,-84 -22,-68 0,-66 22,-68 46,-84 46,-84 46,-56 48,-36 26,-14 0,-10 -26,-14 -48,-36 "
                        "-46,-56"),
            *flat(*both(0.5, oval("disc", 20, -42, 22, 21), oval("gold", 18.5, -42, 15, 15))),
            *eyes((-15, -42, 10), (21, -42, 10)),
            blob("beak", "-6,-36 1,-38 8,-36 1,-20 1,-20")),
    ]),
)
# fmt: on
SPECIES = tuple(species.name for species in ZOO)
