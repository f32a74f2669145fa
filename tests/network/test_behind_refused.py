"""What `walls.behind` refuses: layers, sizes, and networks that don't do."""

import pytest
import torch
import torchvision
from helpers.small_networks import Dynamic, noise, refused, seeded
from torch import nn

from walls.network import zoo
from walls.network.behind import behind


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
