"""`walls.behind` leaves the network, its images and its callers' global state as they are."""

import copy

import pytest
import torch
from helpers.small_networks import Plain, noise, seeded
from torch import nn

from walls.network import zoo
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.saliency.maps import saliency_maps


def test_neither_the_network_nor_the_images_change():
    network, images = seeded().train(), noise(2, 3, 64, 32)
    before, pixels = copy.deepcopy(network.state_dict()), images.clone()
    network.stem[1].eval()
    modes = [module.training for module in network.modules()]
    model = behind(network, layer="block", image_rows=64)
    model(images), model.features(images)
    saliency_maps(model, images, ["GradCAM", "ScoreCAM", "AblationCAM"])
    certify(model, 64)
    assert [module.training for module in network.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert torch.equal(images, pixels)
    assert not any(
        module._forward_hooks or module._forward_pre_hooks for module in network.modules()
    )
    assert all(parameter.grad is None for parameter in network.parameters())
    assert model.network is network and {id(p) for p in model.parameters()} == {
        id(p) for p in network.parameters()
    }


def test_in_training_mode_it_computes_as_in_evaluation():
    network, images = seeded(), noise(2, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    expected = network(images[:, :, :32])
    network.train()
    assert torch.equal(model(images), expected) and torch.equal(
        model.logits(*model.cut(images)), expected
    )
    assert network.training and torch.equal(
        behind(network, layer="block", image_rows=64)(images), expected
    )


def test_weights_loaded_afterwards_are_the_ones_used():
    network, images = seeded(), noise(1, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    network.fc = nn.Linear(12, 4)
    assert model.logits(*model.cut(images)).shape == (1, 4)


def test_a_first_layer_in_place_changes_no_ones_tensors():
    class InPlace(Plain):
        def forward(self, x):
            x = nn.functional.relu(x, inplace=True)
            x = self.stem(x)
            return self.fc(nn.functional.relu(x, inplace=True).mean((2, 3)).repeat(1, 2)[:, :12])

    network, images = seeded(InPlace), noise(1, 3, 64, 32)
    pixels = images.clone()
    model = behind(network, layer="stem", image_rows=64)
    features = model.features(images).detach().requires_grad_()
    kept = features.detach().clone()
    model.head(features).sum().backward()
    assert (
        torch.equal(images, pixels) and torch.equal(features.detach(), kept) and features.grad.any()
    )


@pytest.mark.parametrize("context", [torch.no_grad, torch.inference_mode])
def test_it_can_be_made_whatever_the_callers_global_state_is(context):
    network, images = (
        zoo.get("timm:vit_tiny_patch16_224@none", num_classes=3).network,
        noise(1, 3, 448, 224),
    )
    expected = saliency_maps(behind(network), images, ["GradCAM"])["GradCAM"]

    def reshape(tokens):
        return tokens[:, 1:].reshape(len(tokens), 14, 14, -1).permute(0, 3, 1, 2)

    with context():
        model = behind(network, layer="blocks.10", reshape=reshape)
    assert torch.equal(saliency_maps(model, images, ["GradCAM"])["GradCAM"], expected)


def test_a_default_dtype_of_64_bits_changes_nothing():
    network, images = seeded(), noise(1, 3, 64, 32)
    torch.set_default_dtype(torch.float64)
    try:
        model = behind(network, layer="block", image_rows=64)
        assert model.head.by_channel
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(model(images), network(images[:, :, :32]))


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_precisions(dtype):
    network, images = seeded().to(dtype), noise(1, 3, 64, 32).to(dtype)
    model = behind(network, layer="block", image_rows=64)
    with torch.no_grad():
        assert torch.equal(model.logits(*model.cut(images)), network(images[:, :, :32]))
    assert saliency_maps(model, images, ["GradCAM"])["GradCAM"].dtype == dtype
    assert certify(model, 64).holds


def test_compiled_and_parallel_networks_are_the_one_inside():
    network, images = seeded(), noise(1, 3, 64, 32)
    for wrapped in (
        nn.DataParallel(network),
        torch.compile(network),
        torch.compile(nn.DataParallel(network)),
    ):
        model = behind(wrapped, layer="block", image_rows=64)
        assert model.network is network
        assert torch.equal(model(images), network(images[:, :, :32]))


def test_a_copy_is_a_network_of_its_own():
    network, images = seeded(), noise(1, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    twin = copy.deepcopy(model)
    with torch.no_grad():
        network.fc.weight.zero_()
    assert twin.network is not network and not torch.equal(twin(images), model(images))
    assert torch.equal(twin.logits(*twin.cut(images)), twin(images))
