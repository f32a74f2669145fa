"""Methods and layouts behind a wall: channels of zeros, class tokens, a user's reshape."""

import pytest
import torch
from helpers.small_networks import Plain, noise, refused, seeded
from torch import nn

from walls.network import zoo
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.network.geometry import DeadZone
from walls.saliency.maps import saliency_maps

# Methods.


def test_ablation_by_one_product_is_ablation_channel_by_channel():
    network, images = seeded().double(), noise(3, 3, 64, 32).double()
    model = behind(network, layer="block", image_rows=64)
    assert model.head.by_channel
    quick = saliency_maps(model, images, ["AblationCAM"])["AblationCAM"]
    model.head.__dict__["_last"] = None
    slow = saliency_maps(model, images, ["AblationCAM"])["AblationCAM"]
    torch.testing.assert_close(quick, slow, rtol=1e-12, atol=1e-12)


def test_a_head_that_mixes_channels_is_not_taken_for_one_that_does_not():
    class Mixing(Plain):
        def __init__(self):
            super().__init__()
            self.norm = nn.LayerNorm(12)

        def forward(self, x):
            x = self.stem(x)
            return self.fc(self.norm(self.block(x + self.inner(x)).mean((2, 3))))

    assert not behind(seeded(Mixing), layer="block", image_rows=64).head.by_channel


def test_class_tokens_belong_to_their_image_in_every_method():
    """Maps of a batch are the single images' maps.

    Where the head reads a class token beside **B**.
    """
    small = {"num_classes": 3, "depth": 4, "embed_dim": 48}
    network = zoo.get("timm:vit_tiny_patch16_224@none", **small).network.double()
    model, images = behind(network), noise(2, 3, 448, 224).double()
    assert model.config["layer"] == "blocks.2" and model.cut(images)[1].shape == (2, 1, 48)
    names = ["GradCAM", "AblationCAM", "HiResCAM"]
    assert not model.head.by_channel
    together = saliency_maps(model, images, names, torch.tensor([0, 1]), batch_size=64)
    for name in names:
        for n in (0, 1):
            one = saliency_maps(model, images[n : n + 1], [name], torch.tensor([n]))[name][0]
            torch.testing.assert_close(together[name][n], one, rtol=1e-9, atol=1e-12)
    assert not torch.allclose(together["AblationCAM"][0], together["AblationCAM"][1])


def test_channels_are_what_the_network_takes():
    network = seeded(Plain, 1)
    model = behind(network, layer="block", image_rows=64)
    assert saliency_maps(model, noise(1, 1, 64, 32), ["GradCAM"])["GradCAM"].shape == (
        1,
        16,
        8,
    )
    assert certify(model, 64).holds


# Layouts.


@pytest.mark.slow
def test_a_users_reshape_gives_the_map_that_is_found_by_itself():
    swin = zoo.get("timm:swin_tiny_patch4_window7_224@none", num_classes=3).network
    images = noise(1, 3, 448, 224)
    own, given = behind(swin), behind(swin, reshape=lambda x: x.transpose(2, 3).transpose(1, 2))
    with torch.no_grad():
        assert torch.equal(own.features(images), given.features(images))
        assert own.features(images).shape == (1, 768, 14, 7)
        assert torch.equal(own.logits(*own.cut(images)), swin(images[:, :, :224]))
        assert torch.equal(given.logits(*given.cut(images)), swin(images[:, :, :224]))


def test_a_reshape_that_changes_values_is_refused():
    network = seeded()
    assert "reshape: changes the features' values" in refused(
        network, layer="block", image_rows=64, reshape=lambda x: x * 2
    )
    assert "reshape: makes (1, 12)" in refused(
        network, layer="block", image_rows=64, reshape=lambda x: x.mean((2, 3))
    )
    assert "reshape: fails" in refused(
        network, layer="block", image_rows=64, reshape=lambda x: x[:, :, 99]
    )


def test_a_transformer_within_an_image_is_one_that_attends_to_the_seen_patches_alone():
    """timm's own attention mask leaves the hidden patches out in another way: the same logits."""
    network = zoo.get("timm:vit_tiny_patch16_224@none", num_classes=5).network.double()
    images = noise(2, 3, 224, 224).double()
    model = behind(network, 160)
    tokens = torch.arange(197)
    seen = (tokens == 0) | (tokens - 1 < 140)
    mask = (seen[None, :] | torch.eye(197, dtype=torch.bool))[None, None]
    with torch.no_grad():
        masked = network.forward_head(network.forward_features(images, attn_mask=mask))
        torch.testing.assert_close(model(images), masked, rtol=1e-9, atol=1e-10)
        torch.testing.assert_close(model.logits(*model.cut(images)), masked, rtol=1e-9, atol=1e-10)
    assert model.zone() == DeadZone((160, 10), (224, 14))
    assert certify(model, 224, images).holds


def test_a_layer_of_which_logits_read_the_class_token_alone_is_refused():
    network = zoo.get("timm:vit_tiny_patch16_224@none", num_classes=3).network
    said = refused(network, layer="blocks")
    assert (
        "logits read the class token alone" in said
        and "blocks.9, blocks.10" in said
        and "blocks.11" not in said
    ), said
