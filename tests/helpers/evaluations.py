"""Images and settings of a small evaluation."""

import torch
from conftest import noise

from walls.network.geometry import DeadZone
from walls.saliency.settings import Cams

ZONE = DeadZone((170, 5), (224, 14))  # of the paper's wall: 54 dead rows


def settings(**changes) -> Cams:
    usual = {
        "methods": ["GradCAM", "HiResCAM"],
        "batch_size": 4,
        "precision": "float32",
        "opticam_steps": 3,
        "opticam_lr": 0.1,
    }
    return Cams(**usual | changes)


def pictures(n: int) -> torch.Tensor:
    return (noise(n).clamp(0, 1) * 255).to(torch.uint8)
