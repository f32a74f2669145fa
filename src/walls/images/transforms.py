"""From pixels to what the network takes: crop, scale, flip, normalise."""

import math

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as tf

from walls.base.normalisation import MEAN, STD

CROP_ASPECT = (0.8, 1.25)


def fit(image: Tensor, size: int) -> Tensor:
    """(3, H, W) uint8 as (3, size, size).

    Unchanged where it fits. Else as the authors' loader does it, by torchvision's Resize and
    CenterCrop of a Pillow image: the shorter side becomes 256/224 of `size`, then the middle is cut
    out. (Resize of a tensor rounds otherwise.)
    """
    if image.shape[1:] == (size, size):
        return image
    shorter = round(size * 256 / 224)
    picture = tf.resize(tf.to_pil_image(image), [shorter])
    return tf.pil_to_tensor(tf.center_crop(picture, [size, size]))


def normalise(images: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    """uint8 or [0, 1] images as the network takes them: ImageNet's mean and standard deviation."""
    return tf.normalize(tf.to_dtype(images, dtype, scale=True), MEAN, STD)


def crop_box(
    random: np.random.Generator, height: int, width: int, area: tuple[float, float]
) -> tuple[int, int, int, int]:
    """(top, left, height, width) of a random crop of a height × width image.

    Drawn as torchvision's RandomResizedCrop does: its share of the image uniform in `area`, the
    logarithm of its aspect uniform in CROP_ASPECT; after ten that don't fit, the middle, as much of
    it as the aspect allows.
    """
    narrow, wide = CROP_ASPECT
    for _ in range(10):
        pixels = height * width * random.uniform(*area)
        aspect = math.exp(random.uniform(math.log(narrow), math.log(wide)))
        h, w = round(math.sqrt(pixels / aspect)), round(math.sqrt(pixels * aspect))
        if 0 < h <= height and 0 < w <= width:
            return int(random.integers(height - h + 1)), int(random.integers(width - w + 1)), h, w
    h, w = min(height, round(width / narrow)), min(width, round(height * wide))
    return (height - h) // 2, (width - w) // 2, h, w


def on_device(
    images: Tensor,
    flips: Tensor,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> Tensor:
    """A loader's (N, 3, H, W) uint8 as the network takes it, on `device`.

    Images are flipped where that was drawn, normalised, and laid out as `layout` says.
    """
    images, flips = images.to(device, non_blocking=True), flips.to(device, non_blocking=True)
    images = torch.where(flips[:, None, None, None], images.flip(3), images)
    return normalise(images, dtype).contiguous(memory_format=layout)
