"""Image files, read with care: a ValueError of one line names the file that is wrong."""

import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor
from torchvision.io import decode_image

from walls.base.messages import reason, shown

# By content. Not all of Pillow's: its EPS would run Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF")
# By name: every ending that Pillow knows of these formats, .jpg, .jfif, .jp2, .avif, …
IMAGE_FILES = tuple(
    sorted(end for end, kind in Image.registered_extensions().items() if kind in FORMATS)
)
ORIENTATION = 0x0112  # EXIF's tag: how the camera was held; 1: as stored
# How a whole file of a format ends, where that can't stand within the pixels.
ENDS = {"JPEG": b"\xff\xd9", "PNG": b"\0\0\0\0IEND\xaeB`\x82"}
# Times its shorter side that an image's longer one may be: scaling it to 256 pixels scales both.
SLIM = 100

# Up to twice its own limit Pillow only warns; what is larger yet is refused.
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)


def decode(
    source: str | Path | BinaryIO, name: str | None = None, *, turn: bool = True
) -> Image.Image:
    """An image file as 8-bit RGB, upright.

    Turned as its EXIF orientation says, unless `turn` is false. Grey, CMYK and palettes are
    converted, 16 bits scaled, transparency dropped.

    Raises ValueError with the file's name where it is no image, breaks off or is larger than Pillow
    allows.
    """
    try:
        # A pipe would be waited for.
        if isinstance(source, str | Path) and not os.path.isfile(source):
            raise ValueError("no file")
        with Image.open(source, formats=FORMATS) as image:
            return _rgb(_upright(_compact(image)) if turn else _compact(image))
    except UnidentifiedImageError:
        why = "none of " + ", ".join(FORMATS)
    except Exception as error:  # a damaged file makes Pillow's decoders raise nearly anything
        why = reason(error)
    raise ValueError(f"{shown(name or source)}: not a readable image ({why})")


def is_plain(path: str | Path) -> bool:
    """Whether a file calls itself an RGB JPEG that is stored upright.

    A damaged PNG ends torchvision's decoder, and the process, by a signal.
    """
    try:
        if not os.path.isfile(path):
            return False
        with Image.open(path, formats=FORMATS) as image:
            if image.format != "JPEG" or image.mode != "RGB":
                return False  # before its EXIF, for which Pillow decodes the whole of a PNG
            return _compact(image).getexif().get(ORIENTATION, 1) == 1
    except Exception:  # `decode` says what is wrong with it
        return False


def inspect(file: BinaryIO, name: str) -> None:
    """ValueError naming a file that is no image or breaks off.

    Its pixels are decoded only where its end is in doubt.

    The header tells the format, and a file of that format that was written to its end has that
    format's end: a tenth of a millisecond for a photograph of any size. Damage in the middle shows
    where the image is first used.
    """
    try:
        end = ENDS.get(_compact(Image.open(file, formats=FORMATS)).format or "")
        file.seek(-len(end or b""), os.SEEK_END)
        whole = end is not None and file.read() == end
    except Exception:
        end, whole = None, False
    if whole:
        return
    file.seek(0)
    decode(file, name)
    file.seek(0)
    # Pillow reads the zeros of a half-written JPEG as pixels; what a camera appends comes after the
    # end.
    if end == ENDS["JPEG"] and end not in file.read():
        raise ValueError(f"{shown(name)}: not a readable image (it breaks off)")


def _compact(image: Image.Image) -> Image.Image:
    """Itself; ValueError for one that no square can be cut out of in reasonable memory."""
    if max(image.size) > SLIM * min(image.size):
        raise ValueError(
            f"{image.width} × {image.height} pixels; takes "
            f"up to {SLIM} times as many one way as the other"
        )
    return image


def _upright(image: Image.Image) -> Image.Image:
    """Turned as its EXIF orientation says; itself where that is damaged or says nothing."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged pixels are found, and named, by what follows
        return image


def _rgb(image: Image.Image) -> Image.Image:
    """Pillow's own conversion clips 16-bit grey at 255, so that it is scaled here."""
    if image.mode == "F":
        raise ValueError("floating-point pixels, whose scale nobody knows")
    if image.mode.startswith("I"):
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixels of more than 16 bits")
        image = Image.fromarray(((values + 128) // 257).astype(np.uint8))
    return image.convert("RGB")


def read_image(path: str | Path, *, turn: bool = True) -> Tensor:
    """An image file as (3, H, W) uint8, upright, turned to RGB, 16 bits scaled.

    `turn`: as of `decode`. Raises ValueError naming an unreadable file.
    """
    if is_plain(path):
        # torchvision's decoders: the same pixels, a JPEG's in half the time. What they refuse is
        # left to Pillow.
        with suppress(RuntimeError):
            pixels = decode_image(str(path))
            if pixels.dtype == torch.uint8:
                return pixels
    return torch.from_numpy(np.array(decode(path, turn=turn))).permute(2, 0, 1)
