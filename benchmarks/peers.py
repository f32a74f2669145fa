"""The libraries that benchmarks.cams compares with, each by its documented call."""

import contextlib
import io
from collections.abc import Sequence

import numpy as np
import pytorch_grad_cam as grad_cam
import torchcam.methods as torch_cam
from torch import Tensor, nn

from walls.network.classifier import Classifier

PEERS = {
    "GradCAM": grad_cam.GradCAM,
    "GradCAM++": grad_cam.GradCAMPlusPlus,
    "XGradCAM": grad_cam.XGradCAM,
    "HiResCAM": grad_cam.HiResCAM,
    "LayerCAM": grad_cam.LayerCAM,
    "EigenCAM": grad_cam.EigenCAM,
    "AblationCAM": grad_cam.AblationCAM,
    "ScoreCAM": grad_cam.ScoreCAM,
}
TORCH_CAM = {"GradCAM": torch_cam.GradCAM, "ScoreCAM": torch_cam.ScoreCAM}
GRADIENT = ["GradCAM", "GradCAM++", "XGradCAM", "HiResCAM", "LayerCAM"]
LIBRARY, BLOCK, OTHER = "pytorch-grad-cam", "pytorch-grad-cam, in a block", "torch-cam"


class Whole(nn.Module):
    """The network as a user hands it to the library: head(features(x)), full height.

    `normalised`: (mean, std) by which pixels became its images, None where that isn't known.
    """

    def __init__(self, model: Classifier):
        super().__init__()
        self.features, self.head = model.features, model.head
        self.normalised = model.normalised

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.features(images))


def by_grad_cam(
    names: Sequence[str], network: nn.Module, layer: nn.Module, images: Tensor
) -> dict[str, np.ndarray]:
    """Each method by pytorch-grad-cam: maps (N, H, W), upscaled and scaled to [0, 1]."""
    found = {}
    for name in names:
        with contextlib.redirect_stderr(io.StringIO()), PEERS[name](network, [layer]) as cam:
            found[name] = cam(images, targets=None)
        network.zero_grad(set_to_none=True)
    return found


def by_torch_cam(
    names: Sequence[str], network: nn.Module, layer: nn.Module, images: Tensor
) -> dict[str, Tensor]:
    """Each method by torch-cam: maps (N, h, w), scaled to [0, 1]."""
    found = {}
    for name in names:
        with TORCH_CAM[name](network, target_layer=layer) as cam:
            scores = network(images)
            found[name] = cam(scores.argmax(1).tolist(), scores)[0].detach()
        network.zero_grad(set_to_none=True)
    return found
