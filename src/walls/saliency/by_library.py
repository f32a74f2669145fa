"""CAM methods that pytorch-grad-cam computes, from **B** and its gradient as they are here.

Two of the library's (1.5.7) are not among them, since they put several layers together and a wall
has one, **B**. RefineCAM multiplies the layers' maps: of **B** alone it is GradCAM++, to the bit.
FullGrad takes no layer; it adds the image's map and one of every bias before **B**, and of **B**
and f alone no such bias is left.
"""

import numpy as np
import torch
from torch import Tensor, nn

from walls.saliency.cut import Cut
from walls.saliency.registry import BY_CONSTRUCTION, method
from walls.saliency.tensors import numpy_seeded


@method("GradCAMElementWise", by="pytorch-grad-cam", guarantee=BY_CONSTRUCTION)
def gradcam_elementwise(cut: Cut) -> Tensor:
    """Σ_v max(g^(v) ⊙ **B**^(v), 0): LayerCAM itself, since **B** is rectified."""
    return _by_library("GradCAMElementWise", cut)


@method("EigenGradCAM", by="pytorch-grad-cam")
def eigengradcam(cut: Cut) -> Tensor:
    """EigenCAM of g ⊙ **B**, by pytorch-grad-cam, sign as its SVD returns it."""
    return _by_library("EigenGradCAM", cut)


@method("SegEigenCAM", by="Chung and Ying, 2025")
def segeigencam(cut: Cut) -> Tensor:
    """EigenCAM of |g| ⊙ **B**, largest score positive (Chung and Ying, 2025), by the library."""
    return _by_library("SegEigenCAM", cut)


@method("KPCA-CAM", by="Karmani et al., 2024")
def kpca_cam(cut: Cut) -> Tensor:
    """**B**'s first kernel principal component (sigmoid; Karmani et al., 2024), by the library."""
    return _by_library("KPCA_CAM", cut)


@method("FEM", by="Fuad et al., 2020")
def fem(cut: Cut) -> Tensor:
    """α_v = the share of positions where **B**^(v) is 2σ above its mean (Fuad et al., 2020)."""
    return _by_library("FEM", cut)


class _Head(nn.Module):
    """f as a network whose target layer is its input: the library then runs no backbone."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.layer = nn.Identity()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        return self.head(self.layer(features))


def _by_library(name: str, cut: Cut) -> Tensor:
    """One pytorch-grad-cam method's maps before its ReLU and scaling, from **B** and g as they are.

    Image by image, each with the same start of the solvers that draw one from NumPy's global state.
    """
    # Imported here: it takes seconds, and who checks params.yaml asks for names alone.
    import pytorch_grad_cam as library
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    network = _Head(cut.model.head)
    cam = getattr(library, name)(network, [network.layer])
    cam.activations_and_grads.release()  # its hooks would keep every activation
    maps = []
    for features, gradient, target in zip(
        cut.features.split(1), cut.gradient.split(1), cut.targets, strict=True
    ):
        goals, arrays = [ClassifierOutputTarget(int(target))], map(_array, (features, gradient))
        with numpy_seeded(0):
            maps.append(
                cam.get_cam_image(features, network.layer, goals, *arrays, eigen_smooth=False)
            )
    # Of an image without features there is no component to project on.
    empty = ~cut.features.flatten(1).any(1).cpu()
    return torch.as_tensor(np.concatenate(maps)).masked_fill(empty[:, None, None], 0)


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.cpu().numpy()
