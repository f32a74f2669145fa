"""Image folders, tried in bulk: damaged files, odd ones, and what is no file at all, in every
layout.
"""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.bad_input import UNREADABLE, bulk, refused
from helpers.photographs import ALL, WNIDS, photograph, picture, put, settings
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from walls.images import loaders, reading, transforms
from walls.network.geometry import DeadZone
from walls.sources import manifest
from walls.stacks import build as stacks
from walls.stacks.settings import Stacks

pytestmark = pytest.mark.bulk
FAMILY = "images"
KINDS = {
    "JPEG": "jpg",
    "PNG": "png",
    "BMP": "bmp",
    "GIF": "gif",
    "TIFF": "tif",
    "WEBP": "webp",
    "PPM": "ppm",
}
WHOLE = {kind: photograph(kind=kind) if kind != "GIF" else picture(4, "P", "GIF") for kind in KINDS}


def look(file: Path) -> None:
    """What every image goes through: the source's inspection, then reading it to use it."""
    with open(file, "rb") as opened:
        reading.inspect(opened, str(file))
    pixels = transforms.fit(reading.read_image(file), 64)
    assert pixels.shape == (3, 64, 64) and pixels.dtype == torch.uint8


# --- Damaged files
# --------------------------------------------------------------------------------------------------


@bulk(150)
@given(kind=st.sampled_from(list(KINDS)), draw=st.data())
def test_a_damaged_file(tmp_path, kind, draw):
    raw = WHOLE[kind]
    # Headers are where decoders are led astray: every other time the damage lies there.
    place = draw.draw(st.one_of(st.integers(0, 60), st.integers(0, len(raw) - 1)))
    length = draw.draw(st.integers(0, 20))
    junk = draw.draw(
        st.one_of(
            st.binary(min_size=length, max_size=length),
            st.sampled_from([b"", b"\xff" * 8, b"\0" * 8]),
        )
    )
    cut = draw.draw(st.sampled_from([len(raw), len(raw), place + length, place + 40]))
    content = (raw[:place] + junk + raw[place + length :])[:cut]
    file = put(tmp_path / f"x.{KINDS[kind]}", content)
    refused(FAMILY, content, lambda: look(file), f"^{file}{UNREADABLE}", tmp_path)


@bulk(50)
@given(kind=st.sampled_from(list(KINDS)), share=st.floats(0, 0.9))
def test_a_truncated_file_is_never_taken(tmp_path, kind, share):
    content = WHOLE[kind][: int(share * len(WHOLE[kind]))]
    file = put(tmp_path / "x.jpg", content)
    assert refused(FAMILY, content, lambda: look(file), f"^{file}{UNREADABLE}", tmp_path)


@bulk(40)
@given(
    st.one_of(st.binary(max_size=200), st.text(max_size=50).map(str.encode)),
    st.sampled_from(
        [
            b"",
            b"\xff\xd8\xff\xe0",
            b"\x89PNG\r\n\x1a\n",
            b"GIF89a",
            b"BM",
            b"II*\0",
            b"MM\0*",
            b"RIFF\0\0\0\0WEBP",
            b"P6\n9 9\n255\n",
            b"P5 99999 99999 255 ",
            b"%!PS-Adobe-3.0 EPSF-3.0\n",
            b"<svg>",
            b"\0\0\1\0",
            b"8BPS",
            b"%PDF-1.4",
            b"\0\0\0\x0cjP  \r\n",
        ]
    ),
)
def test_what_is_no_image(tmp_path, content, head):
    file = put(tmp_path / "x.png", head + content)
    assert refused(
        FAMILY,
        head + content,
        lambda: look(file),
        f"^{file}{UNREADABLE}",
        tmp_path,
    )


# --- Odd files
# ------------------------------------------------------------------------------------------------------


def saved(image: Image.Image, kind: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG that says how large it is, and holds next to nothing."""
    chunks = (
        (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" * 99)),
        (b"IEND", b""),
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def frames(kind: str) -> bytes:
    stills = [Image.new("RGB", (40, 30), (60 * i, 0, 0)) for i in range(3)]
    return saved(stills[0], kind, save_all=True, append_images=stills[1:])


GREY16 = Image.fromarray((np.arange(4096, dtype=np.uint16) * 16).reshape(64, 64))
PALETTE = Image.new("RGB", (40, 40), (9, 9, 9)).quantize(4)
HUGE = 10**5
TAKEN = {
    "JPEG 2000": picture(kind="JPEG2000"),
    "AVIF": picture(kind="AVIF"),
    "LAB": picture((1, 2, 3), "LAB", "TIFF"),
    "CMYK": picture((1, 2, 3, 4), "CMYK"),
    "CMYK TIFF": picture((1, 2, 3, 4), "CMYK", "TIFF"),
    "1 bit": picture(1, "1", "PNG"),
    "1 bit BMP": picture(1, "1", "BMP"),
    "1 bit TIFF": picture(1, "1", "TIFF"),
    "16 bits": saved(GREY16, "PNG"),
    "16 bits TIFF": saved(GREY16, "TIFF"),
    "16 bits PPM": saved(GREY16, "PPM"),
    "grey and alpha": picture((9, 9), "LA", "PNG"),
    "alpha": picture((1, 2, 3, 0), "RGBA", "PNG"),
    "alpha WEBP": picture((1, 2, 3, 0), "RGBA", "WEBP"),
    "palette with transparency": saved(PALETTE, "PNG", transparency=0),
    "one clear colour": saved(Image.new("RGB", (40, 40), (9, 9, 9)), "PNG", transparency=(9, 9, 9)),
    "grey, one clear": saved(Image.new("L", (40, 40), 9), "PNG", transparency=9),
    "clear GIF": saved(PALETTE, "GIF", transparency=0),
    "animated GIF": frames("GIF"),
    "animated PNG": frames("PNG"),
    "animated WEBP": frames("WEBP"),
    "pages": frames("TIFF"),
    "MPO": frames("MPO"),
    "YCbCr": picture((9, 9, 9), "YCbCr"),
    "one pixel": picture(size=(1, 1)),
    "a strip": picture(size=(100, 1)),
    "turned": saved(
        Image.new("RGB", (40, 30)),
        "JPEG",
        exif=b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0",
    ),
    "progressive": saved(Image.new("RGB", (40, 30)), "JPEG", progressive=True),
    "a comment after the end": WHOLE["JPEG"] + b"x" * 500,
    "a PNG's name on a GIF": WHOLE["GIF"],
}
REFUSED = {
    "a bomb": png(HUGE, HUGE),
    "a bomb of bits": png(HUGE, HUGE, 1, 0),
    "a slim bomb": png(HUGE, 1),
    "a tall bomb": png(1, HUGE),
    "no pixels": png(0, 0),
    "nearly 2³²": png(2**31 - 1, 2**31 - 1),
    "empty inside": png(300, 300),
    "a slim JPEG": picture(size=(60000, 2)),
    "a slim GIF": picture(4, "P", "GIF", (60000, 1)),
    "floats": picture(0.5, "F", "TIFF"),
    "32 bits": saved(Image.fromarray(np.full((9, 9), 2**20, np.int32)), "TIFF"),
    "below zero": saved(Image.fromarray(np.full((9, 9), -5, np.int32)), "TIFF"),
    "an icon": picture(kind="ICO"),
    "zero bytes": b"",
    "text": b"<html>404</html>",
    "EPS": picture(kind="EPS"),
    "PDF": picture(kind="PDF"),
    "a pickle": b"\x80\x04.",
    "TGA": picture(kind="TGA"),
    "a link's text": b"../../etc/passwd",
}


@pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("name", [*TAKEN, *REFUSED])
def test_an_odd_file(tmp_path, name, suffix):
    file = put(tmp_path / f"x.{suffix}", (TAKEN | REFUSED)[name])
    names = f"^{file}{UNREADABLE}"
    assert bool(refused(FAMILY, (name, suffix), lambda: look(file), names, tmp_path)) == (
        name in REFUSED
    )


# --- What lies in a folder
# ------------------------------------------------------------------------------------------


def layout(root: Path, name: str) -> tuple[Path, object]:
    """A good little folder of that layout: where its second class's images lie, and the settings
    for it.
    """
    content = {key: picture((40 * i, 0, 0)) for i, key in enumerate(WNIDS[:3])}
    for key in content:
        for j in range(3):
            if name == "folder":
                put(root / key / f"{j}.jpg", content[key])
            elif name == "imagenet":
                put(root / "train" / key / f"{j}.JPEG", content[key])
                put(root / "val" / key / f"{j}.JPEG", content[key])
            else:
                put(root / "train" / key / "images" / f"{key}_{j}.JPEG", content[key])
                put(root / "val" / "images" / f"{key}_{j}.JPEG", content[key])
    put(root / "words.txt", "".join(f"{key}\tthing\n" for key in content).encode())
    lines = (f"{key}_{j}.JPEG\t{key}\t0\t0\t9\t9\n" for key in content for j in range(3))
    if name == "tiny-imagenet":
        put(root / "val" / "val_annotations.txt", "".join(lines).encode())
    place = {
        "folder": root / WNIDS[1],
        "imagenet": root / "train" / WNIDS[1],
        "tiny-imagenet": root / "train" / WNIDS[1] / "images",
    }
    return place[name], settings(name, root, **ALL)


def link(target):
    return lambda file: file.symlink_to(target)


ODD = os.fsdecode(b"\xff\xfe.jpg")
PLACED = {
    "a folder": ("x.jpg", lambda file: file.mkdir()),
    "a pipe": ("x.jpg", lambda file: os.mkfifo(file)),
    "a link to itself": ("x.jpg", link("x.jpg")),
    "a link to nothing": ("x.jpg", link("gone.jpg")),
    "a link to its folder": ("x.jpg", link(".")),
    "a link to a device": ("x.jpg", link("/dev/zero")),
    "a link to a pipe": (
        "x.jpg",
        lambda file: (os.mkfifo(file.parent.parent / "p"), file.symlink_to("../p")),
    ),
    "a loop of folders": ("loop", link("..")),
    "two links": (
        "x.jpg",
        lambda file: (file.symlink_to("y.jpg"), file.with_name("y.jpg").symlink_to("x.jpg")),
    ),
    "a name of no text": (ODD, lambda file: file.write_bytes(picture())),
    "an image of no name": (ODD, lambda file: file.write_bytes(b"")),
    "a name of lines": ("a\nb\r\x1b[31m.jpg", lambda file: put(file, b"x")),
    "a good name of lines": ('a\nb\rc\t,".jpg', lambda file: put(file, picture())),
    "a name of 255 bytes": ("x" * 251 + ".jpg", lambda file: put(file, b"")),
    "nothing": ("x.jpg", lambda file: put(file, b"")),
    "a name of spaces": ("  .jpg", lambda file: put(file, b"")),
    "upper case": ("X.JPG", lambda file: put(file, b"\xff\xd8")),
    "a text": ("x.jpg", lambda file: put(file, b"hello")),
    "a whole one": ("x.jpg", lambda file: put(file, picture())),
    "a bomb": ("x.png", lambda file: put(file, png(HUGE, HUGE))),
    "hidden": (".x.jpg", lambda file: put(file, b"")),
    "a dash": ("-rf.jpg", lambda file: put(file, b"")),
    "another script": ("ü日本\u202e.jpg", lambda file: put(file, b"")),
    "a class of no text": ("../" + os.fsdecode(b"\xff"), lambda file: file.mkdir()),
    "a class of lines": ("../a\nb", lambda file: file.mkdir()),
    "an empty class": ("../n00000007", lambda file: file.mkdir()),
    "a class in a class": ("n00000009/x.jpg", lambda file: put(file, picture())),
    "a socket": ("x.jpg", lambda file: os.mknod(file, 0o140600)),
    "a table": ("manifest.csv", lambda file: put(file, b"")),
}
HANDLED = {
    "a whole one",
    "hidden",
    "a class in a class",
    "a loop of folders",
    "a good name of lines",
    "a table",
}


@pytest.mark.parametrize("name", ["folder", "imagenet", "tiny-imagenet"])
@pytest.mark.parametrize("what", PLACED)
def test_what_lies_in_a_folder(tmp_path, name, what):
    place, wanted = layout(tmp_path / "in", name)
    (tmp_path / "out").mkdir()
    file, make = PLACED[what]
    make(place / file)
    build = lambda: manifest.build(wanted, 0, 64, tmp_path / "out" / "set")
    message = refused(
        FAMILY, (name, what), build, rf"data\.root: .*{tmp_path}/in|^'?{tmp_path}/in.*: ", tmp_path
    )
    if message is None:
        table = loaders.read_manifest(tmp_path / "out" / "set")
        assert len(table) >= 9 and all(
            reading.read_image(path).shape == (3, 64, 64) for path in table["path"]
        )
    if what in HANDLED and name == "folder":
        assert message is None
    elif (
        what not in ("a folder", "a pipe", "a socket")
        and not what.startswith(("a class", "an empty"))
        and name == "folder"
    ):
        assert message


@pytest.mark.parametrize("name", ["folder", "imagenet", "tiny-imagenet"])
@pytest.mark.parametrize(
    "change",
    [
        "empty",
        "a file",
        "a pipe",
        "no classes",
        "one class",
        "words a folder",
        "words a pipe",
        "words broken",
        "annotations broken",
        "train a file",
        "val a link to itself",
    ],
)
def test_a_folder_of_another_layout(tmp_path, name, change):
    root = tmp_path / "in"
    _, wanted = layout(root, name)
    (tmp_path / "out").mkdir()
    words, val, train = root / "words.txt", root / "val", root / "train"
    if change in ("empty", "a file", "a pipe", "no classes", "one class"):
        root.rename(tmp_path / "away")
    if change == "a file":
        root.write_bytes(b"")
    elif change == "a pipe":
        os.mkfifo(root)
    elif change in ("empty", "no classes", "one class"):
        root.mkdir()
        if change != "empty":
            put(root / ("words.txt" if change == "no classes" else "a/b.jpg"), picture())
    elif change.startswith("words"):
        words.unlink()
        {
            "folder": words.mkdir,
            "pipe": lambda: os.mkfifo(words),
            "broken": lambda: put(words, b"\xff\0n\t\n"),
        }[change.split()[-1]]()
    elif change == "annotations broken" and name == "tiny-imagenet":
        put(val / "val_annotations.txt", b"\xff\xfe\t\t\n../../x\tn1\n" + bytes(99))
    elif change == "train a file" and train.exists():
        train.rename(tmp_path / "away")
        train.write_bytes(b"")
    elif val.exists():
        val.rename(tmp_path / "away")
        val.symlink_to("val")
    build = lambda: manifest.build(wanted, 0, 64, tmp_path / "out" / "set")
    refused(FAMILY, (name, change), build, r"^data\.(root|classes): ", tmp_path)


@pytest.mark.parametrize(
    "what",
    [
        what
        for what in PLACED
        if what not in HANDLED and not what.startswith(("a class", "an empty"))
    ],
)
@pytest.mark.parametrize("field", ["mix_dir", "gen_dir"])
def test_what_lies_among_ready_images(tmp_path, field, what):
    place = put(tmp_path / "in" / "cat" / "a.png", picture(kind="PNG")).parent
    good = put(tmp_path / "good" / "cat" / "a.png", picture(kind="PNG")).parent.parent
    file, make = PLACED[what]
    make(place / file)
    kept = Stacks(
        images=2,
        generator="folder",
        **{"mix_dir": str(good), "gen_dir": str(good), field: str(tmp_path / "in")},
    )
    put(tmp_path / "rejects.csv", b"dataset,seed,upper,lower,reason\n")
    none = pd.DataFrame(columns=["split", "label", "class", "animal", "path"])
    (tmp_path / "out").mkdir()
    zone = DeadZone((40, 2), (64, 4))
    build = lambda: stacks.build(kept, none, zone, 0, tmp_path / "out", tmp_path / "rejects.csv")
    refused(FAMILY, (field, what), build, rf"(^|: ){tmp_path}/in/cat.*(: | is )", tmp_path / "in")
