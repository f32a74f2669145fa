"""Maps, images and numbers as text, for pages that are one file."""

import base64
import io
import math

from PIL import Image
from torch import Tensor


def map_text(raw: Tensor) -> str:
    """A raw map's scores (h, w), min-max scaled to a byte, row after row in base64.

    So does activity.upscale begin. All 0 where they are all alike.
    """
    raw = (raw - raw.min()).double().cpu()
    scaled = 255 * raw / raw.max() if raw.max() > 0 else raw
    return _base64(scaled.round().byte().numpy().tobytes())


def jpeg_text(image: Tensor, quality: int = 85) -> str:
    """An image (3, H, W), uint8, as a JPEG in base64."""
    stream = io.BytesIO()
    picture = Image.fromarray(image.permute(1, 2, 0).cpu().numpy())
    picture.save(stream, "JPEG", quality=quality)
    return _base64(stream.getvalue())


def rounded(value: float) -> float | None:
    """A number of four digits behind the point; None for NaN, which JSON doesn't have."""
    return None if math.isnan(value) else round(float(value), 4)


def _base64(content: bytes) -> str:
    return base64.b64encode(content).decode()
