"""Three other libraries, unmodified, on a network behind a wall.

Their GradCAM is ours, hidden part and all.
"""

import captum.attr
import pytest
import pytorch_grad_cam
import torch
import torchcam.methods
import torchvision
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import Tensor, nn

from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.saliency.activity import upscale
from walls.saliency.maps import saliency_maps
from walls.sources import packaged

PLACES = {
    "lite0-stacked": ("efficientnet-lite0", None),
    "lite0-within": ("efficientnet-lite0", 160),
    "resnet18": ("torchvision:resnet18@none", None),
    "swin": ("timm:swin_tiny_patch4_window7_224@none", None),
    "vit": ("timm:vit_tiny_patch16_224@none", None),
    "vit-within": ("timm:vit_tiny_patch16_224@none", 160),
}


def many_in_bulk(places, quick=("lite0-stacked", "lite0-within")):
    """A place each, all but two marked."""
    return [
        pytest.param(name, marks=pytest.mark.bulk if name not in quick else ()) for name in places
    ]


@pytest.fixture(scope="module", params=many_in_bulk(PLACES))
def case(request) -> tuple[Behind, Tensor, Tensor, Tensor]:
    """A network behind a wall (float64), two images, their targets, and our upscaled GradCAM."""
    name, seen = PLACES[request.param]
    model = behind(zoo.get(name).network.double(), seen)
    named = zoo.get("efficientnet-lite0")
    photographs = packaged.photographs("packaged", named.recipe)[0][:2].double()
    images = torch.cat([photographs, photographs.flip(3)], 2) if seen is None else photographs
    targets = model(images).argmax(1)
    raw = saliency_maps(model, images, ["GradCAM"], targets)["GradCAM"]
    assert (
        raw.shape[1] == model.zone().map_rows
        and raw[:, model.zone().rows[1] :].flatten(1).any(1).all()
    )
    return model, images, targets, raw


@pytest.mark.slow
def test_pytorch_grad_cam(case):
    model, images, targets, raw = case
    with pytorch_grad_cam.GradCAM(model, [model.layer]) as cam:
        theirs = torch.from_numpy(
            cam(images, targets=[ClassifierOutputTarget(int(t)) for t in targets])
        )
    torch.testing.assert_close(
        theirs.double(), upscale(raw, tuple(images.shape[2:])), rtol=0, atol=1e-5
    )


def test_captum(case):
    model, images, targets, raw = case
    theirs = captum.attr.LayerGradCam(model, model.layer).attribute(images, target=targets)
    torch.testing.assert_close(
        theirs[:, 0].detach().clamp_min(0), raw, rtol=1e-5, atol=1e-5 * float(raw.max())
    )


@pytest.mark.parametrize("by_name", [False, True])
@pytest.mark.slow
def test_torch_cam(case, by_name):
    model, images, targets, raw = case
    with torchcam.methods.GradCAM(
        model, target_layer="features.layer" if by_name else model.layer
    ) as cam:
        scores = model(images)
        theirs = cam(targets.tolist(), scores, normalized=False, retain_graph=True)[0]
        scaled = cam(targets.tolist(), scores)[0]
    torch.testing.assert_close(theirs, raw, rtol=1e-5, atol=1e-5 * float(raw.max()))
    low, high = raw.amin((1, 2), keepdim=True), raw.amax((1, 2), keepdim=True)
    torch.testing.assert_close(
        scaled, (raw - low) / (high - low + 1e-8), rtol=0, atol=1e-5
    )  # 1e-8: its guard


def test_a_library_that_replaces_the_layer():
    """AblationCAM of pytorch-grad-cam puts a layer of its own in `model.layer`'s place."""
    torch.manual_seed(0)
    backbone = [nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    model = behind(nn.Sequential(*backbone, *head).double().eval(), layer="3", image_rows=64)
    images = torch.randn(1, 3, 64, 32).double()
    before, ours = model(images), saliency_maps(model, images, ["AblationCAM"])["AblationCAM"]
    with pytorch_grad_cam.AblationCAM(model, [model.layer]) as cam:
        theirs = torch.from_numpy(cam(images, targets=None)).double()
    assert torch.equal(model(images), before) and float(theirs.std()) > 0.1
    torch.testing.assert_close(theirs, upscale(ours, (64, 32)), rtol=0, atol=1e-5)


def test_a_hook_on_the_networks_own_layer_would_show_the_seen_part_alone():
    """Why `model.layer` is the one to hook.

    The network's own gives half a map, stretched over the image.
    """
    network = torchvision.models.resnet18(num_classes=4).eval()
    model, images = behind(network, layer="layer4"), torch.randn(1, 3, 448, 224)
    shapes = []
    network.layer4.register_forward_hook(
        lambda module, args, output: shapes.append(output.shape[2])
    )
    with (
        pytorch_grad_cam.GradCAM(model, [network.layer4]) as cam,
        pytest.warns(UserWarning, match="hook model.layer"),
    ):
        cam(images, targets=[ClassifierOutputTarget(0)])
    assert shapes == [7]
