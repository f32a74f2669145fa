"""`walls.behind` on small networks.

Its values against the network's own calls, what it takes, and what it refuses.
"""

import copy
import warnings

import pytest
import torch
import torchvision
from torch import nn

from walls.network import zoo
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.network.geometry import DeadZone
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps


class Plain(nn.Module):
    """A network with a residual by-pass, a map of 1/4 the size.

    Global pooling and a linear head.
    """

    def __init__(self, channels: int = 3):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(channels, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU())
        self.inner = nn.Conv2d(8, 8, 3, padding=1)
        self.block = nn.Sequential(nn.Conv2d(8, 12, 3, 2, 1), nn.ReLU(inplace=True))
        self.fc = nn.Linear(12, 5)

    def forward(self, x):
        count = x.shape[0]
        x = self.stem(x)
        x = x + self.inner(x)
        return self.fc(self.block(x).mean((2, 3)).view(count, -1))


class Dynamic(Plain):
    """One whose forward depends on the image's values: it can't be traced."""

    def forward(self, x):
        return super().forward(x if x.mean() > 0 else -x)


def seeded(kind=Plain, *args):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(*args).eval()


def noise(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def refused(*args, **kwargs) -> str:
    with pytest.raises(ValueError) as caught:
        behind(*args, **kwargs)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# What it computes.


def test_logits_are_the_networks_own_of_the_seen_part_and_features_those_of_each_part():
    network, images = seeded(), noise(2, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    upper, lower = images[:, :, :32], images[:, :, 32:]
    with torch.no_grad():
        assert torch.equal(model(images), network(upper))
        features = model.features(images)
        each = [network.block(y + network.inner(y)) for y in map(network.stem, (upper, lower))]
        assert torch.equal(features, torch.cat(each, 2))
        assert torch.equal(model.head(features), network(upper))
        assert torch.equal(model.head(features[:, :, :8]), network(upper))
        assert torch.equal(model.seen_features(images), each[0])


def test_within_an_image_the_parts_are_cut_at_the_seen_rows():
    network, images = seeded(), noise(2, 3, 32, 32)
    model = behind(network, 20, layer="block", image_rows=32)
    assert model.zone() == DeadZone((20, 5), (32, 8))
    with torch.no_grad():
        assert torch.equal(model(images), network(images[:, :, :20]))


def test_at_the_top_the_lower_part_is_seen():
    network, images = seeded(), noise(2, 3, 32, 32)
    model = behind(network, 20, layer="block", image_rows=32, side="top")
    with torch.no_grad():
        assert torch.equal(model(images), network(images[:, :, 12:]))
        assert torch.equal(model.logits(*model.cut(images)), network(images[:, :, 12:]))
    assert certify(model, 32).require().dead_rows == 12
    maps = saliency_maps(model, images, ["GradCAM", "HiResCAM"])
    assert not maps["HiResCAM"][:, :3].any() and maps["HiResCAM"][:, 3:].any()
    assert model.zone().measured == slice(0, 10)
    upscaled = upscale(maps["GradCAM"], 32)
    expected = upscaled[:, :10].square().sum((1, 2)).sqrt() / upscaled.square().sum((1, 2)).sqrt()
    torch.testing.assert_close(activity(upscaled, model.zone()).float(), expected)
    assert (activity(upscale(maps["HiResCAM"], 32), model.zone()) == 0).all()


@pytest.mark.parametrize(("seen", "rows"), [(None, 448), (160, 224)])
def test_certified_on_the_weights_in_either_form(seen, rows):
    model = behind(zoo.get("efficientnet-lite0").network, seen)
    certificate = certify(model, rows, noise(2, 3, rows, 224)).require()
    assert certificate.seen_rows == (seen or 224)


def test_the_measured_zone_is_where_a_score_can_only_come_from_hidden_features():
    """By brute force: which rows of an upscaled map change with its seen rows."""
    network = seeded()
    for seen, rows in ((None, 64), (20, 32), (8, 32)):
        zone = behind(network, seen, layer="block", image_rows=rows).zone()
        one = torch.zeros(zone.map_rows, 1, zone.map_rows, 8)
        for row in range(zone.map_rows):
            one[row, 0, row] = 1
        reach = (
            nn.functional.interpolate(one, (rows, 32), mode="bilinear")[: zone.rows[1]].amax(
                (0, 1, 3)
            )
            > 0
        )
        first = max(int(reach.nonzero().max()) + 1, zone.seen_rows)
        assert zone.measured == slice(first, rows) and first > zone.seen_rows


def test_the_zone_of_the_papers_network_is_all_of_its_dead_zone(tiny):
    zone = tiny.zone(224)
    assert zone.measured_rows == zone.dead_rows == 54


def test_a_hooked_layer_shows_features_of_the_whole_image_and_logits_stay():
    network, images = seeded(), noise(2, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    plain, shapes = model(images), []
    handle = model.layer.register_forward_hook(
        lambda module, args, output: shapes.append(tuple(output.shape))
    )
    assert torch.equal(model(images), plain)
    handle.remove()
    handle = model.features.register_forward_hook(
        lambda module, args, output: shapes.append(tuple(output.shape))
    )
    assert torch.equal(model(images), plain)
    handle.remove()
    assert shapes == [(2, 12, 16, 8)] * 2


def test_a_hook_on_the_networks_own_layer_gets_a_word_of_warning():
    network, images = seeded(), noise(1, 3, 64, 32)
    model = behind(network, layer="block", image_rows=64)
    network.block[-1].register_forward_hook(lambda module, args, output: None)
    with pytest.warns(UserWarning, match=r"network\.block\.1 is hooked.*hook model\.layer"):
        model(images)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model(images)


def test_hooks_inside_do_what_they_do_in_the_network():
    network, images = seeded(), noise(2, 3, 64, 32)
    network.inner.register_forward_hook(lambda module, args, output: 2 * output)
    model = behind(network, layer="block", image_rows=64)
    with torch.no_grad():
        assert torch.equal(model.logits(*model.cut(images)), network(images[:, :, :32]))


def test_hooks_that_would_be_passed_by_are_refused():
    network, images = seeded(), noise(1, 3, 64, 32)
    model = behind(network, layer="block.0", image_rows=64)
    handle = network.block.register_forward_hook(lambda module, args, output: 2 * output)
    with pytest.raises(ValueError, match="its block has hooks of its own"):
        model.cut(images)
    handle.remove()
    network.register_forward_hook(lambda module, args, output: 2 * output)
    assert "it has hooks of its own" in refused(network, layer="block", image_rows=64)


# The network stays as it is.


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


# What it refuses.


def test_layers_that_do_not_do_are_named_with_those_that_would():
    network = seeded()
    for layer, why in (
        ("blok", "which the network doesn't have"),
        ("inner", "which is bypassed"),
        ("fc", "got fc"),
        (3, "got 3"),
        ("", "got ''"),
    ):
        said = refused(network, layer=layer, image_rows=64)
        assert (
            why in said and "takes stem, stem.0, stem.1, stem.2, block, block.0, block.1" in said
        ), said
    resnet = torchvision.models.resnet18(num_classes=3)
    said = refused(resnet, layer="layer4.1.relu")
    assert (
        "called 2 times" in said
        and "layer1, layer2, layer3" in said
        and "layer4.1.relu," not in said.split("takes")[1]
    )


def test_a_network_that_can_not_be_traced_is_refused_by_name():
    said = refused(seeded(Dynamic), layer="block", image_rows=64)
    assert (
        "the network around it can't be traced" in said
        and "forward_features and forward_head" in said
    )


def test_seen_parts_that_give_no_whole_rows_are_refused_with_those_that_do():
    network = seeded()
    said = refused(network, 18, layer="block", image_rows=32)
    assert said.endswith("takes 4, 8, 12, 16, 20, 24, 28 of 32, or None (two images)"), said
    alexnet = torchvision.models.alexnet(num_classes=2)
    assert "takes None (two images)" in refused(alexnet, 160, layer="features")
    vit = zoo.get("timm:vit_tiny_patch16_224@none").network
    assert "takes 16, 32, 48" in refused(vit, 150)
    mixer = zoo.get("timm:mixer_s32_224@none").network
    assert "takes None" in refused(mixer, 160)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"seen_rows": 0}, "seen_rows: got 0"),
        ({"seen_rows": 1.5}, "seen_rows: got 1.5"),
        ({"seen_rows": True}, "seen_rows"),
        ({"seen_rows": 64}, "takes 1 to 63"),
        ({"image_rows": 63}, "takes an even number"),
        ({"side": "left"}, "bottom or top"),
        ({"image_rows": "64"}, "image_rows: got"),
    ],
)
def test_sizes_that_are_none(given, said):
    assert said in refused(seeded(), **({"image_rows": 64, "layer": "block"} | given))


def test_a_network_that_takes_no_such_image():
    alexnet = torchvision.models.alexnet(num_classes=2)
    assert "network: fails on an image of 3 × 16 × 16" in refused(
        alexnet, layer="features", image_rows=32
    )


def test_what_is_no_network():
    assert "network: got str" in refused("resnet18")
    scripted = torch.jit.trace(seeded(), noise(1, 3, 32, 32))
    assert "TorchScript" in refused(scripted, layer="block", image_rows=64)


def test_images_of_another_height_are_refused():
    model = behind(seeded(), layer="block", image_rows=64)
    for call in (model, model.features, model.cut):
        with pytest.raises(
            ValueError, match=r"images: got 32 rows; takes 64, of which 32 are seen"
        ):
            call(noise(1, 3, 32, 32))
    with pytest.raises(ValueError, match="images: got 32 rows"):
        model.zone(32)
    with pytest.raises(ValueError, match="features: got"):
        model.head(noise(1, 12, 9, 8))


def test_a_network_whose_logits_are_not_those_of_its_halves_is_refused():
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.fc = nn.Conv2d(3, 8, 3, 2, 1), nn.Linear(8, 4)

        def forward_features(self, x):
            return self.conv(x).relu()

        def forward_head(self, x):
            return self.fc(x.mean((2, 3)))

        def forward(self, x):
            return self.forward_head(self.forward_features(x)) + 1

    assert "its logits differ by 1 from head(backbone(image))" in refused(
        seeded(Other), image_rows=64
    )


# Planted faults, each of which one of the checks above must see.


def planted(network, fault):
    model = behind(network, 20, layer="block", image_rows=32)
    if fault == "the head reads one row more":
        model.head.rows = (6, 8)
    if fault == "the hidden part reaches the backbone's upper pass":
        divide = model.parts.divide
        model.features.parts = copy.copy(model.parts)
        model.features.parts.run = lambda function, part, hidden: model.parts.run(
            function, part, hidden
        )
        model.features.parts.divide = lambda images: (
            divide(images)[0] + 1e-3 * images.mean(),
            divide(images)[1],
        )
    return model


@pytest.mark.parametrize(
    "fault", ["the head reads one row more", "the hidden part reaches the backbone's upper pass"]
)
def test_the_certificate_sees_a_leak(fault):
    assert certify(planted(seeded(), None), 32).holds
    certificate = certify(planted(seeded(), fault), 32)
    assert not certificate.holds and not certificate.equal_noise and certificate.dead_gradient > 0


def test_a_zone_from_the_seam_on_would_show_hirescam_what_upscaling_mixes():
    network, images = seeded(), noise(4, 3, 32, 32)
    model = behind(network, 20, layer="block", image_rows=32)
    maps = upscale(saliency_maps(model, images, ["HiResCAM"])["HiResCAM"], 32)
    assert (activity(maps, model.zone()) == 0).all()
    assert (activity(maps, model.zone().dead_rows) > 0).any()  # the planted fault: the seam
