"""`walls.behind` on small networks: its values against the network's own calls, and planted faults."""

import copy
import warnings

import pytest
import torch
from helpers.small_networks import noise, refused, seeded
from torch import nn

from walls.network import zoo
from walls.network.behind import behind
from walls.network.certificate import certify
from walls.network.geometry import DeadZone
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps

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
