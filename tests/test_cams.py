"""Saliency maps against pytorch-grad-cam's own calls, on the whole network."""

import contextlib
import io

import numpy as np
import pytest
import torch
from conftest import make_tiny, noise
from pytorch_grad_cam.utils.image import scale_cam_image
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from walls import cams, opticam
from walls.activity import activity
from walls.params import Method


class Whole(nn.Module):
    """head(features(x)) at full height: what a user would hand to the library."""

    def __init__(self, model):
        super().__init__()
        self.features, self.head = model.features, model.head

    def forward(self, images):
        return self.head(self.features(images))


def from_library(name, model, images, targets=None):
    """Upscaled maps by the library's documented call."""
    whole = Whole(model)
    goals = None if targets is None else [ClassifierOutputTarget(int(t)) for t in targets]
    with contextlib.redirect_stderr(io.StringIO()), cams.LIBRARY[name](whole, [whole.features[-1]]) as cam:
        return torch.from_numpy(cam(images, targets=goals))


@pytest.mark.parametrize("name", cams.LIBRARY)
@pytest.mark.parametrize("batch_norm", [True, False])
def test_equal_to_the_librarys_own_call(name, batch_norm):
    model, images = make_tiny(batch_norm), noise(3)
    ours = cams.upscale(cams.saliency_maps(model, images, [name])[name], 224)
    torch.testing.assert_close(ours, from_library(name, model, images), rtol=0, atol=2e-4)


def test_the_target_is_the_predicted_class(tiny):
    images = noise(4)
    predicted = tiny(images).argmax(1)
    other = (predicted + 1) % 5
    default, same, wrong = (cams.saliency_maps(tiny, images, ["GradCAM"], t)["GradCAM"] for t in (None, predicted, other))
    assert torch.equal(default, same) and not torch.allclose(default, wrong)
    torch.testing.assert_close(cams.upscale(wrong, 224), from_library("GradCAM", tiny, images, other), rtol=0, atol=2e-4)


def test_gradcam_is_definition_1(tiny):
    images = noise(2)
    features = tiny.features(images).detach().requires_grad_()
    logits = tiny.head(features)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    expected = (gradient.mean((2, 3), keepdim=True) * features).sum(1).clamp_min(0)
    torch.testing.assert_close(cams.saliency_maps(tiny, images, ["GradCAM"])["GradCAM"], expected.detach())


@pytest.mark.parametrize("name", ["HiResCAM", "LayerCAM"])
def test_exactly_nothing_behind_the_wall(tiny, name):
    raw = cams.saliency_maps(tiny, noise(4), [name])[name]
    assert (raw[:, 5:] == 0).all() and (raw[:, :5] > 0).any()
    values = activity(cams.upscale(raw, 224), 54)
    assert (values[~values.isnan()] == 0).all()


def test_maps_of_a_batch_are_the_single_images_maps(tiny):
    tiny, images = tiny.double(), noise(5).double()
    together = cams.saliency_maps(tiny, images, cams.METHODS, batch_size=5, opticam_steps=4)
    split = cams.saliency_maps(tiny, images, cams.METHODS, batch_size=2, opticam_steps=4)
    for name in cams.METHODS:
        scale = together[name].amax()
        # The library rounds AblationCAM's scores to float32 before it takes their small differences.
        torch.testing.assert_close(
            together[name] / scale, split[name] / scale, rtol=0, atol=1e-3 if name == "AblationCAM" else 1e-6
        )


def test_the_model_comes_back_as_it_was():
    model = make_tiny().train()
    model.features[1].eval()
    cams.saliency_maps(model, noise(2), cams.METHODS, opticam_steps=1)
    assert model.training and not model.features[1].training
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad for p in model.parameters())


def test_upscale_is_the_librarys_scaling():
    maps = torch.rand(5, 14, 14, generator=torch.Generator().manual_seed(0)) + 0.5
    expected = scale_cam_image(np.maximum(scale_cam_image(maps.numpy(), (224, 224)), 0))
    torch.testing.assert_close(cams.upscale(maps, 224), torch.from_numpy(expected), rtol=0, atol=1e-6)


def test_upscale_subtracts_the_minimum():
    maps = torch.rand(2, 14, 14, dtype=torch.float64)
    up = cams.upscale(maps + 3, 224)
    torch.testing.assert_close(up, cams.upscale(maps, 224), rtol=0, atol=1e-6)
    assert up.amin((1, 2)).abs().max() < 1e-12 and up.amax((1, 2)).min() > 1 - 1e-6


def test_upscale_subtracts_both_minima():
    # Without the first subtraction the library's 1e-7 weighs on a shallow map, and it peaks at 0.906.
    shallow = 1 + 1e-6 * torch.rand(2, 14, 14, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert cams.upscale(shallow, 224).amax((1, 2)).min() > 0.999
    # Bilinear upscaling misses the minimum of a map that has it in one corner cell's middle only after the second.
    steep = torch.zeros(1, 2, 2, dtype=torch.float64)
    steep[0, 0, 0] = 1
    assert cams.upscale(steep, (3, 3)).amin() == 0


def test_interpolate_leaves_the_scores():
    torch.testing.assert_close(cams.interpolate(torch.full((1, 3, 3), 2.5), (9, 7)), torch.full((1, 9, 7), 2.5))


def test_empty_maps_stay_empty():
    assert (cams.upscale(torch.zeros(1, 14, 14), 224) == 0).all()


def score(model, images, features, weights, targets):
    maps = (weights[:, :, None, None] * features).sum(1, keepdim=True)
    mask = opticam._unit(nn.functional.interpolate(maps, images.shape[2:], mode="bilinear"))
    return model(images * mask).gather(1, targets[:, None])[:, 0]


def test_opticam_improves_on_its_start(tiny):
    images = noise(4)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)
        uniform = torch.full(features.shape[:2], 1 / features.shape[1])
        start = score(tiny, images, features, uniform, targets)
        # The weights that made the map: least squares, since the map is linear in them.
        maps = opticam.optimise(tiny, images, features, targets, 25, 0.1)
        end = torch.stack([score(tiny, images[i : i + 1], features[i : i + 1],
                                 torch.linalg.lstsq(features[i].flatten(1).T, maps[i].flatten()[:, None]).solution.T,
                                 targets[i : i + 1])[0] for i in range(4)])  # fmt: skip
    assert (end > start + 1e-3).all()


def test_without_a_step_opticam_is_the_mean_feature_map(tiny):
    images = noise(2)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)
    torch.testing.assert_close(opticam.optimise(tiny, images, features, targets, 0, 0.1), features.mean(1))


def test_opticam_keeps_the_best_weights_it_met(tiny):
    images = noise(2)
    with torch.no_grad():
        features, targets = tiny.features(images), tiny(images).argmax(1)
    # A step far too long leaves the good start for a worse corner: the start must come back.
    model = lambda x: -(x - images).square().sum((1, 2, 3))[:, None].repeat(1, 5)  # best where nothing is masked
    values = [opticam.optimise(model, images, features, targets, steps, 1e4) for steps in (0, 3)]
    scores = [
        model(images * opticam._unit(nn.functional.interpolate(v[:, None], (224, 224), mode="bilinear")))[:, 0]
        for v in values
    ]
    assert (scores[1] >= scores[0]).all()


def test_opticam_on_an_empty_feature_map_is_finite(tiny):
    images = noise(1)
    empty = opticam.optimise(tiny, images, torch.zeros(1, 16, 14, 14), torch.tensor([0]), 2, 0.1)
    assert (empty == 0).all()


def test_params_know_every_method():
    assert set(Method.__args__) == set(cams.METHODS)


@pytest.mark.parametrize("poison", ["images", "weights"])
def test_nan_is_named(tiny, poison):
    images = noise(2)
    if poison == "images":
        images[1, 0, 0, 0] = torch.nan
    else:
        tiny.features[0].weight.data[0] = torch.nan
    with pytest.raises(ValueError, match="image 1 of the batch" if poison == "images" else "features: NaN"):
        cams.saliency_maps(tiny, images, ["GradCAM"])


def test_unknown_methods_are_named(tiny):
    with pytest.raises(ValueError, match="got GradCAMM; takes GradCAM,"):
        cams.saliency_maps(tiny, noise(1), ["GradCAMM"])
