"""Methods on attention: against their formulas over whole matrices, torch-cam, and the theory."""

import pytest
import torch
import torchcam.methods
import torchvision
from conftest import make_tiny
from helpers.small_networks import noise
from torch import Tensor, nn

from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.saliency import methods
from walls.saliency.attention import Explicit, both_parts
from walls.saliency.cut import Cut
from walls.saliency.maps import saliency_maps

SMALL = {"num_classes": 5, "img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3}
NETWORKS = {
    "class token": ("vit_tiny_patch16_224", {}),
    "registers": ("vit_tiny_patch16_224", {"reg_tokens": 4}),
    "two tokens": ("deit_tiny_distilled_patch16_224", {}),
    "mean": ("vit_base_patch16_siglip_gap_224", {}),
    "attention": ("vit_base_patch16_siglip_224", {}),
    "beit": ("beit_base_patch16_224", {}),
}
ROLLOUT, EACH, WEIGHTED, LEGRAD = methods.ATTENTION
ZERO = [name for name in methods.ATTENTION if name in methods.ZERO]


def network_of(name: str) -> nn.Module:
    """Random weights, large enough that attention is far from uniform."""
    if name == "torchvision":
        network = torchvision.models.VisionTransformer(64, 16, 3, 3, 48, 96, num_classes=5)
    else:
        model, own = NETWORKS[name]
        network = zoo.get(f"timm:{model}@none", **SMALL | own).network
    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in network.parameters():
            weights.add_(torch.randn(weights.shape, generator=random), alpha=0.15)
    return network.eval().double()


def walled(name: str, seen: int | None = None) -> tuple[Behind, Tensor]:
    model = behind(network_of(name), seen)
    return model, noise(2, 3, model.zone().image_rows, 64).double()


def cut_of(model: Behind, images: Tensor) -> Cut:
    return Cut(model, images, torch.tensor([1, 3]), 2)


FORMS = [(name, None) for name in (*NETWORKS, "torchvision")]
FORMS += [(name, 48) for name in NETWORKS if name != "beit"]


@pytest.mark.parametrize(("name", "seen"), FORMS)
def test_marked_zero_they_are_zero_behind_the_wall_and_each_parts_rollout_is_not(name, seen):
    model, images = walled(name, seen)
    every = saliency_maps(model, images, methods.ATTENTION, torch.tensor([1, 3]))
    rows, height = model.zone().rows[1], model.zone().map_rows
    assert ZERO == [ROLLOUT, WEIGHTED, LEGRAD]
    for maps in every.values():
        assert maps.shape == (2, height, 4) and maps[:, :rows].flatten(1).any(1).all()
    assert not any(every[method][:, rows:].any() for method in ZERO)
    # The seen half is rollout's own; the hidden half has as much, of attention that counts nowhere.
    assert torch.equal(every[EACH][:, :rows], every[ROLLOUT][:, :rows])
    assert (every[EACH][:, rows:] > 0).all()
    noisy = model.join(model.divide(images)[0], noise(*model.divide(images)[1].shape, seed=1))
    other = saliency_maps(model, noisy, methods.ATTENTION, torch.tensor([1, 3]))
    assert all(torch.equal(other[method], every[method]) for method in ZERO)
    assert not torch.equal(other[EACH], every[EACH])


@pytest.mark.parametrize(("name", "seen"), FORMS)
def test_attention_written_out_leaves_logits_as_they_are(name, seen):
    model, images = walled(name, seen)
    for fused in (True, False):
        for module in model.network.modules():
            if hasattr(module, "fused_attn"):
                module.fused_attn = fused
        found, _ = both_parts(cut_of(model, images), "")
        torch.testing.assert_close(found.logits, model(images), rtol=1e-9, atol=1e-9)
        said = {getattr(module, "fused_attn", fused) for module in model.network.modules()}
        assert said == {fused}
        for attention in found.attention:
            torch.testing.assert_close(attention.sum(-1), torch.ones_like(attention[..., 0]))
            assert attention.std() > 0.01


def test_attention_is_that_of_timms_own_unfused_code():
    model, images = walled("class token")
    attention, met = [], model.network.blocks[1].attn
    met.fused_attn = False
    handle = met.attn_drop.register_forward_hook(lambda module, args, out: attention.append(out))
    model(images)
    handle.remove()
    found, _ = both_parts(cut_of(model, images), "")
    torch.testing.assert_close(found.attention[1], attention[0], rtol=1e-9, atol=1e-12)


# Rollout, over the matrix of both parts' tokens together, which has two blocks.


def joint(seen: Tensor, hidden: Tensor) -> Tensor:
    return torch.block_diag(seen, hidden)


@pytest.mark.parametrize("seen", [None, 48])
def test_rollout_is_the_class_tokens_row_of_the_product_over_all_tokens(seen):
    model, images = walled("class token", seen)
    parts = both_parts(cut_of(model, images), "")
    found = saliency_maps(model, images, [ROLLOUT, EACH])
    for i in range(2):
        product = torch.eye(sum(part.attention[0].shape[-1] for part in parts)).double()
        for layer in range(3):
            each = [part.attention[layer][i].detach().mean(0) for part in parts]
            product = (joint(*each) + torch.eye(len(product)).double()) / 2 @ product
        upper = parts[0].attention[0].shape[-1]
        row = torch.cat([product[0, 1:upper], product[0, upper + 1 :]])  # without class tokens
        torch.testing.assert_close(found[ROLLOUT][i].flatten(), row, rtol=1e-9, atol=1e-12)
        hidden = product[upper, upper + 1 :]  # the hidden part's class token's own row
        rows = model.zone().rows[1]
        torch.testing.assert_close(found[EACH][i, rows:].flatten(), hidden, rtol=1e-9, atol=1e-12)
        assert abs(float(product[upper].sum()) - 1) < 1e-9  # as much as the seen part's


def test_each_parts_rollout_of_two_equal_images_is_the_same_twice():
    model, images = walled("class token")
    twice = model.join(images[:, :, :64], images[:, :, :64])
    maps = saliency_maps(model, twice, [EACH])[EACH]
    assert torch.equal(maps[:, :4], maps[:, 4:])


def test_of_a_mean_it_is_the_mean_of_the_patches_rows():
    model, images = walled("mean")
    part, _ = both_parts(cut_of(model, images), "")
    assert part.prefix == 0
    product = torch.eye(16).double().expand(2, 16, 16)
    for attention in part.attention:
        product = (attention.detach().mean(1) + torch.eye(16).double()) / 2 @ product
    found = saliency_maps(model, images, [ROLLOUT])[ROLLOUT][:, :4].flatten(1)
    torch.testing.assert_close(found, product.mean(1), rtol=1e-9, atol=1e-12)


# Gradients, by differences.


class Nudged(Explicit):
    """Attention to which something is added, in one block."""

    def __init__(self, block: int, what: Tensor):
        super().__init__()
        self.block, self.what, self.calls = block, what, 0

    def _attended(self, query, key, value, *args, **kwargs):
        mixed = super()._attended(query, key, value, *args, **kwargs)
        if self.calls == self.block:
            mixed = mixed + self.what @ value
        self.calls += 1
        return mixed


@pytest.mark.slow
def test_gradient_weighted_attention_by_differences():
    """∂y/∂A by a nudge of A, one entry after the other, in the network's own run."""
    model, images = walled("class token")
    images, targets = images[:1], torch.tensor([1])
    part, _ = both_parts(Cut(model, images, targets, 1), "")
    step = 1e-6
    product = torch.eye(17).double()
    for block, attention in enumerate(part.attention):
        gradient = torch.zeros(3 * 17 * 17).double()
        for i in range(len(gradient)):
            scores = []
            for sign in (1, -1):
                what = torch.zeros_like(gradient)
                what[i] = sign * step
                with torch.no_grad(), Nudged(block, what.view(1, 3, 17, 17)):
                    scores.append(float(model.network(images[:, :, :64])[0, 1]))
            gradient[i] = (scores[0] - scores[1]) / (2 * step)
        weighted = gradient.view(3, 17, 17) * attention[0].detach()
        product = product + weighted.clamp_min(0).mean(0) @ product
    found = saliency_maps(model, images, [WEIGHTED], targets)[WEIGHTED]
    torch.testing.assert_close(found[0, :4].flatten(), product[0, 1:], rtol=1e-4, atol=1e-7)


def test_legrad_is_torch_cams_of_torchvisions_network():
    model, images = walled("torchvision")
    network, targets = model.network, [1, 3]
    found = saliency_maps(model, images, [LEGRAD], torch.tensor(targets))[LEGRAD]
    upper = images[:, :, :64].clone()
    with torchcam.methods.LeGrad(network, list(network.encoder.layers)) as cam:
        scores = network(upper)
        theirs = cam(targets, scores, normalized=False, retain_graph=True)
    (fused,) = {one.shape for one in theirs}
    expected = torch.stack(list(theirs)).mean(0) if len(theirs) > 1 else theirs[0]
    assert fused == (2, 4, 4)
    torch.testing.assert_close(found[:, :4], expected.double(), rtol=1e-6, atol=1e-9)


def test_legrads_score_of_a_block_is_of_its_mean_token():
    model, images = walled("registers")
    network = model.network
    part, _ = both_parts(cut_of(model, images), "")
    total = torch.zeros(2, 16).double()
    for tokens, attention in zip(part.tokens, part.attention, strict=True):
        score = network.head(network.fc_norm(network.norm(tokens.mean(1))))
        both = score[0, 1] + score[1, 3]
        (gradient,) = torch.autograd.grad(both, attention, retain_graph=True)
        total += gradient.clamp_min(0).mean((1, 2))[:, 5:] / 3
    found = saliency_maps(model, images, [LEGRAD], torch.tensor([1, 3]))[LEGRAD]
    torch.testing.assert_close(found[:, :4].flatten(1), total, rtol=1e-9, atol=1e-15)


# What they depend on, and what they leave as it was.


@pytest.mark.parametrize("name", ["class token", "attention", "torchvision"])
def test_maps_are_of_their_image_by_itself_and_weights_need_no_gradient(name):
    model, images = walled(name)
    together = saliency_maps(model, images, methods.ATTENTION, torch.tensor([1, 3]))
    model.network.requires_grad_(False)
    for i, target in enumerate((1, 3)):
        one = saliency_maps(model, images[i : i + 1], methods.ATTENTION, torch.tensor([target]))
        for method, maps in one.items():
            torch.testing.assert_close(maps[0], together[method][i], rtol=1e-8, atol=1e-14)
    assert not any(module._forward_hooks for module in model.network.modules())
    assert all(weights.grad is None for weights in model.network.parameters())
    side = behind(model.network, side="top")
    lower = saliency_maps(side, images.roll(64, 2), methods.ATTENTION, torch.tensor([1, 3]))
    for method, maps in lower.items():
        torch.testing.assert_close(maps.roll(4, 1), together[method], rtol=1e-8, atol=1e-14)


@pytest.mark.parametrize("method", methods.ATTENTION)
def test_networks_without_such_attention_are_refused_in_one_line(method):
    swin = zoo.get(
        "timm:swin_tiny_patch4_window7_224@none",
        **{"img_size": 64, "window_size": 4, "embed_dim": 24, "depths": (2, 2)},
        num_heads=(2, 2),
    ).network
    mixer = zoo.get("timm:mixer_s32_224@none", img_size=64, num_classes=5).network
    cait = zoo.get("timm:cait_xxs24_224@none", **SMALL | {"num_heads": 4}).network
    most = zoo.get("timm:vit_tiny_patch16_224@none", **SMALL, global_pool="max").network
    cases = [
        (make_tiny(), noise(1, 3, 224, 224), "got Classifier, without blocks in which"),
        (behind(swin), noise(1, 3, 128, 64), "got SwinTransformer, without blocks in which"),
        (
            behind(mixer, image_rows=128),
            noise(1, 3, 128, 64),
            "got MlpMixer, without blocks in which every",
        ),
        (behind(cait), noise(1, 3, 128, 64), "got Cait, without blocks in which every"),
    ]
    if method != LEGRAD:  # which reads the mean of tokens whatever the head does
        cases.append((behind(most), noise(1, 3, 128, 64), "whose pooling is 'max'"))
    for model, images, why in cases:
        with pytest.raises(ValueError) as caught:
            saliency_maps(model, images, [method])
        said = str(caught.value)
        assert said.startswith(f"{method}: {why}" if why[0] == "g" else f"{method}: got"), said
        assert why in said and "takes" in said and "\n" not in said, said
