"""Vision transformers behind a wall: each way of pooling, to the last bit, in both forms.

Within an image the hidden patches' tokens are dropped behind the position embeddings.
"""

import copy

import pytest
import torch
from helpers.small_networks import noise, refused
from torch import Tensor, nn

from benchmarks import networks
from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.network.certificate import certify
from walls.network.geometry import DeadZone
from walls.network.parts import Parts

SIZE, SEEN = 64, 48  # 4 × 4 patches, of which three rows are seen
SMALL = {"num_classes": 5, "img_size": SIZE, "depth": 3, "embed_dim": 48, "num_heads": 3}
# How each ends: its class token, registers beside it, two tokens, a mean, attention of its own.
POOLED = {
    "class token": ("vit_tiny_patch16_224", {}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 4}),
    "deit": ("deit_tiny_patch16_224", {}),
    "two tokens": ("deit_tiny_distilled_patch16_224", {}),
    "mean": ("vit_base_patch16_siglip_gap_224", {}),
    "mean, registers left out": ("vit_wee_patch16_reg1_gap_256", {}),
    "attention": ("vit_base_patch16_siglip_224", {}),
}
# Positions are kept elsewhere too: in the attention, or in windows.
STACKED_ALONE = {
    "beit": ("beit_base_patch16_224", {}),
    "relative positions": ("vit_relpos_small_patch16_224", {}),
    "cait": ("cait_xxs24_224", {"num_heads": 4}),
    "eva": ("eva02_tiny_patch14_224", {"img_size": 56, "embed_dim": 96}),
    "swin": (
        "swin_tiny_patch4_window7_224",
        {
            "embed_dim": 24,
            "depths": (2, 2),
            "num_heads": (2, 2),
            "depth": None,
            "window_size": 4,
        },
    ),
}
MADE: dict[str, nn.Module] = {}


def made(name: str, dtype: torch.dtype = torch.float32) -> nn.Module:
    """A small one with random weights, in which every patch counts at the end."""
    if name not in MADE:
        model, own = (POOLED | STACKED_ALONE)[name]
        options = {key: value for key, value in (SMALL | own).items() if value is not None}
        network = zoo.get(f"timm:{model}@none", **options).network
        random = torch.Generator().manual_seed(0)
        with torch.no_grad():  # timm's own start at, or close to, zero
            for weights in network.parameters():
                weights.add_(torch.randn(weights.shape, generator=random), alpha=0.1)
        MADE[name] = network
    return MADE[name].to(dtype)


@pytest.fixture(autouse=True)
def as_made():
    yield
    for network in MADE.values():
        network.float()


def walled(name: str, within: bool, dtype: torch.dtype = torch.float32) -> tuple[Behind, Tensor]:
    model = behind(made(name, dtype), SEEN if within else None)
    rows, columns = model.zone().image_rows, model.columns(0)
    return model, noise(2, 3, rows, columns).to(dtype)


def by_hand(network: nn.Module, images: Tensor, keep: slice) -> Tensor:
    """The network's logits of some of an image's patches, from timm's own pieces."""
    tokens = network._pos_embed(network.patch_embed(images))
    first = network.num_prefix_tokens
    tokens = torch.cat([tokens[:, :first], tokens[:, first:][:, keep]], 1)
    return network.forward_head(network.norm(network.blocks(network.norm_pre(tokens))))


@pytest.mark.parametrize("side", ["bottom", "top"])
@pytest.mark.parametrize("name", POOLED)
def test_within_an_image_it_is_the_network_on_the_seen_patches_where_they_are(name, side):
    network, images = made(name), noise(2, 3, SIZE, SIZE)
    model = behind(network, SEEN, side=side)
    assert model.zone() == DeadZone((SEEN, 3), (SIZE, 4), side)
    keep = slice(0, 12) if side == "bottom" else slice(4, 16)
    with torch.no_grad():
        expected = by_hand(network, images, keep)
        assert torch.equal(model(images), expected)
        assert torch.equal(model.logits(*model.cut(images)), expected)
        # Not what it says of the whole image, nor of the seen patches in other places.
        assert not torch.allclose(expected, network(images), atol=1e-3)
        moved = images.roll(16, 2)
        assert not torch.allclose(by_hand(network, moved, keep), expected, atol=1e-3)


@pytest.mark.parametrize("name", [*POOLED, *STACKED_ALONE])
def test_stacked_it_is_the_network_on_the_upper_image(name):
    model, images = walled(name, within=False)
    upper = images[:, :, : model.zone().seen_rows]
    with torch.no_grad():
        expected = model.network(upper)
        assert torch.equal(model(images), expected)
        assert torch.equal(model.logits(*model.cut(images)), expected)
    assert all(networks.prove(model, images).values())
    assert certify(model, model.zone().image_rows, images).holds


@pytest.mark.parametrize("name", POOLED)
def test_the_proof_holds_within_an_image(name):
    model, images = walled(name, within=True)
    assert all(networks.prove(model, images).values())
    assert certify(model, SIZE, images).holds


@pytest.mark.parametrize("name", STACKED_ALONE)
def test_one_whose_positions_stand_elsewhere_too_is_refused_by_name_within_an_image(name):
    network = made(name)
    said = refused(network, 32 if name != "eva" else 28)
    assert said.startswith("seen_rows: got") and "takes None" in said, said
    assert name == "swin" or type(network).__name__ in said, said


def test_one_that_does_not_pool_is_refused():
    network = zoo.get("timm:vit_tiny_patch16_224@none", **SMALL, global_pool="").network
    assert "network: gives (2, 17, 5) for 2 images; takes one that gives logits" in refused(network)


# What bit-identity holds under.


def hidden_parts(model: Behind, images: Tensor) -> list[Tensor]:
    """The images with other things hidden: noise, a large number, what is no number."""
    seen, hidden = model.divide(images)
    others = [noise(*hidden.shape, seed=1), torch.full(hidden.shape, 1e4)]
    others += [torch.full(hidden.shape, float("nan")), torch.full(hidden.shape, float("inf"))]
    return [model.join(seen, other.to(images.dtype)) for other in others]


def fuse(network: nn.Module, fused: bool) -> int:
    """Whether attention goes through scaled_dot_product_attention; how many modules say so."""
    said = [module for module in network.modules() if hasattr(module, "fused_attn")]
    for module in said:
        module.fused_attn = fused
    return len(said)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("within", [True, False])
@pytest.mark.parametrize("name", ["registers", "attention"])
def test_bits_stay_with_attention_fused_or_not_in_each_precision(name, within, fused, dtype):
    model, images = walled(name, within, dtype)
    count = fuse(model.network, fused)
    try:
        assert count == (4 if name == "attention" else 3)
        with torch.no_grad():
            before = model.logits(*model.cut(images))
            assert before.dtype == dtype and torch.equal(model(images), before)
            for changed in hidden_parts(model, images):
                assert torch.equal(model(changed), before)
                assert torch.equal(model.logits(*model.cut(changed)), before)
            assert not torch.equal(model(images.flip(3)), before)
        assert certify(model, images.shape[2], images, dtype=dtype).holds
    finally:
        fuse(model.network, True)


def test_under_autocast_too():
    for within in (True, False):
        model, images = walled("registers", within)
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
            before = model.logits(*model.cut(images))
            assert before.dtype == torch.bfloat16 and torch.equal(model(images), before)
            for changed in hidden_parts(model, images):
                assert torch.equal(model.logits(*model.cut(changed)), before)


@pytest.mark.parametrize("fused", [True, False])
def test_a_mask_of_attention_is_the_same_network_but_lets_what_is_no_number_through(fused):
    """Why tokens are dropped: masked ones have weight 0, and 0 · NaN is no number."""
    model, images = walled("class token", within=True)
    seen = torch.arange(17) < 13
    mask = (seen[None, :] | torch.eye(17, dtype=torch.bool))[None, None]
    fuse(model.network, fused)
    try:
        with torch.no_grad():

            def masked(x: Tensor) -> Tensor:
                tokens = model.network.forward_features(x, attn_mask=mask)
                return model.network.forward_head(tokens)

            noisy, large, nan, _ = hidden_parts(model, images)
            before = masked(images)
            torch.testing.assert_close(before, model(images), rtol=1e-5, atol=1e-5)
            assert torch.equal(masked(noisy), before) and torch.equal(masked(large), before)
            assert masked(nan).isnan().all() and not model(nan).isnan().any()
    finally:
        fuse(model.network, True)


# Planted faults, each of which one of the checks above must see.


class Leaky(Parts):
    """Hidden tokens are dropped behind the last block instead of before the first."""

    def divide(self, images):
        self.whole = images
        return super().divide(images)

    def run(self, function, part, hidden):
        if hidden:
            return super().run(function, part, hidden)
        return function(self.whole)[:, :13]


def test_attention_that_sees_hidden_tokens_is_seen():
    model, images = walled("class token", within=True)
    assert certify(model, SIZE, images).holds
    model.features.parts = copy.copy(model.parts)
    model.features.parts.__class__ = Leaky
    failed = networks.prove(model, images)
    assert not (failed["cut"] or failed["noise"] or failed["gradient"]) and failed["reads"]
    certificate = certify(model, SIZE, images)
    assert not certificate.holds and not certificate.equal_noise and certificate.dead_gradient > 0


def test_position_embeddings_shifted_by_one_are_seen(monkeypatch):
    model, images = walled("class token", within=True)
    with torch.no_grad():
        expected = by_hand(model.network, images, slice(0, 12))
        embeddings = model.network.pos_embed
        before = embeddings.clone()
        embeddings[:, 1:] = before[:, 1:].roll(1, 1)
        shifted = model(images)
        embeddings.copy_(before)
        assert torch.equal(model(images), expected)
    assert not torch.allclose(shifted, expected, atol=1e-3)


def test_a_class_token_dropped_from_the_head_is_seen(monkeypatch):
    model, images = walled("class token", within=True)
    to_map = model.features.layout.to_map
    without = lambda raw: (to_map(raw)[0], torch.zeros_like(to_map(raw)[1]))
    monkeypatch.setattr(model.features.layout, "to_map", without)
    assert not networks.prove(model, images)["cut"]
