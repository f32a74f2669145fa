"""The split network: the wall, the cropped computation, the certificate, checkpoints."""

import copy
import re

import pytest
import torch
import torchvision
from conftest import make_tiny, noise
from safetensors.torch import save_file
from torch import nn

from walls.network import architecture, checkpoints, classifier
from walls.network.certificate import certify
from walls.theory import cnn


def test_the_papers_network():
    model = architecture.vgg(1, 4096, 1000, False, 9)
    convolutions = [m for m in model.features if isinstance(m, nn.Conv2d)]
    channels = {64: 2, 128: 2, 256: 3, 512: 5}  # so many convolutions have as many
    expected = [c for c, times in channels.items() for _ in range(times)]
    assert [c.out_channels for c in convolutions] == [*expected, 256]
    assert sum(isinstance(m, nn.MaxPool2d) for m in model.features) == 4
    assert isinstance(model.features[-1], nn.ReLU)
    assert model.head[0].weight.shape == (4096, 256, 5, 14)
    assert model.head[0].full_weight().shape == (4096, 256, 14, 14)
    seen = sum(p.numel() for p in model.parameters())
    assert seen == 13_534_784 + 4096 * (256 * 5 * 14 + 1) + 4096 * 4097 + 1000 * 4097


def test_the_walls_weight_is_the_papers_with_zeros(tiny):
    features = torch.rand(3, 16, 14, 14, dtype=torch.float64)
    first = copy.deepcopy(tiny.head[0]).double()
    W = first.full_weight()
    assert W[:, :, -9:].abs().sum() == 0 and W[:, :, :5].abs().min() > 0
    torch.testing.assert_close(
        first(features), features.flatten(1) @ W.flatten(1).T + first.bias, rtol=1e-12, atol=1e-14
    )


def test_a_masked_head_starts_on_the_full_layers_scale():
    masked, baseline = (classifier.WallLinear(16, 14, 14, 400, rows).weight for rows in (9, 0))
    assert masked.std().item() == pytest.approx(baseline.std().item(), rel=0.02)


@pytest.mark.parametrize("batch_norm", [True, False])
def test_cropping_is_exact(batch_norm):
    # In float64: the same mathematics, but the library may sum a smaller map in another order.
    model, images = make_tiny(batch_norm).double(), noise(4).double()
    with torch.no_grad():
        torch.testing.assert_close(
            model.seen_features(images), model.features(images)[:, :, :5], rtol=1e-11, atol=1e-13
        )
        torch.testing.assert_close(
            model.scores([images]), model.head(model.features(images)), rtol=1e-11, atol=1e-13
        )


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(3, 4, 3, 2, 1),
        nn.Conv2d(3, 4, 5, 1, 2),
        nn.Conv2d(3, 4, 3, 1, 4, dilation=2),
        nn.Conv2d(3, 4, 3, padding="same"),
        nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        nn.MaxPool2d(3, 2, 1),
        nn.AvgPool2d(2, ceil_mode=True),
    ],
    ids=str,
)
@pytest.mark.parametrize("wall_rows", range(1, 12))
def test_cropping_is_exact_for_any_window(layer, wall_rows):
    channels = getattr(layer, "out_channels", 3)
    features = nn.Sequential(
        nn.Conv2d(3, 3, 3, padding=1),
        nn.ReLU(),
        layer,
        nn.Conv2d(channels, 2, 3, padding=1),
        nn.ReLU(),
    ).double()
    images = torch.randn(2, 3, 31, 31, dtype=torch.float64)
    full = features(images)
    try:
        cropped = classifier.Classifier(features, nn.Identity(), wall_rows).seen_features(images)
    except ValueError:
        pytest.skip("no dead zone behind this wall")
    torch.testing.assert_close(
        cropped, full[:, :, : full.shape[2] - wall_rows], rtol=1e-11, atol=1e-13
    )


def test_cropped_training_is_the_full_training():
    model = make_tiny(batch_norm=False).double().train()
    images, labels = noise(4).double(), torch.tensor([0, 1, 2, 3])
    gradients = []
    for forward in (model, lambda x: model.head(model.features(x))):
        torch.manual_seed(0)
        loss = nn.functional.cross_entropy(forward(images), labels)
        gradients.append(torch.autograd.grad(loss, list(model.parameters())))
    for cropped, full in zip(*gradients, strict=True):
        torch.testing.assert_close(cropped, full, rtol=1e-9, atol=1e-14)


def test_batch_statistics_never_read_the_dead_zone():
    states = []
    for fill in (0.0, 100.0):
        model, images = make_tiny().train(), noise(4)
        images[:, :, 170:] = fill
        torch.manual_seed(0)
        model(images)
        states.append(torch.cat([b.flatten().double() for b in model.buffers()]))
    assert torch.equal(*states)


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("wall_rows", [6, 9, 13])
def test_the_certificate_holds(batch_norm, wall_rows):
    certificate = certify(make_tiny(batch_norm, wall_rows), 224)
    assert certificate.holds and certificate.dead_gradient == 0 and certificate.edge_gradient > 0
    assert certificate.dead_rows == 134 - 16 * (14 - wall_rows)


def test_the_certificate_on_given_images_and_one_alone(tiny):
    assert certify(tiny, 224, noise(1)).holds


def test_a_leak_is_found(tiny):
    leaky = copy.deepcopy(tiny)
    first = classifier.WallLinear(16, 14, 14, 24, 8)  # reads one row too many
    leaky.head[0] = first
    certificate = certify(leaky, 224)
    assert not certificate.holds and not certificate.equal_noise and certificate.dead_gradient > 0
    with pytest.raises(ValueError, match="54 rows is not certified"):
        certificate.require()


def test_a_layer_that_keeps_its_output_is_certified(tiny):
    """As a user's hook leaves it: a tensor that hangs in a graph can't be copied as it is."""
    model = copy.deepcopy(tiny)
    model.features[0].register_forward_hook(lambda layer, given, out: setattr(layer, "kept", out))
    model(noise(1))
    assert not model.features[0].kept.is_leaf and certify(model, 224).holds


def test_a_zone_claimed_too_large_is_found(tiny):
    blind = copy.deepcopy(tiny)
    blind.head[0] = classifier.WallLinear(16, 14, 14, 24, 10)  # one row less: row 169 is unread
    certificate = certify(blind, 224)
    assert certificate.dead_gradient == certificate.edge_gradient == 0 and not certificate.holds


def test_a_baseline_is_not_certified():
    assert not certify(make_tiny(wall_rows=0), 224).holds


def kept_rows(model, images, call):
    """Heights of every layer's output while `call(images)` runs."""
    heights = []
    hooks = [
        layer.register_forward_hook(lambda layer, given, out: heights.append(out.shape[2]))
        for layer in model.features
    ]
    with torch.no_grad():
        call(images)
    for hook in hooks:
        hook.remove()
    return heights


def test_a_hooked_layer_shows_its_full_height(tiny):
    # Only training and scores are cropped: another library's hooks would stretch 5 of 14 rows.
    images = noise(1)
    whole = kept_rows(tiny, images, tiny.features)
    assert whole[-1] == 14 and kept_rows(tiny, images, tiny) == whole
    cropped = kept_rows(tiny, images, lambda x: tiny.scores([x]))
    assert cropped[-1] == 5
    training = copy.deepcopy(tiny).train()
    assert kept_rows(training, images, training) == cropped


def test_a_head_whose_wall_is_another_is_refused(tiny):
    with pytest.raises(ValueError, match="wall_rows: got 8, and the head's WallLinear has 9"):
        classifier.Classifier(tiny.features, tiny.head, 8)


def test_the_papers_own_form_is_taken(tiny):
    """A full dense layer whose weights behind the wall are zero, in scores and logits."""
    first = tiny.head[0]
    full = nn.Linear(first.full_weight()[0].numel(), len(first.bias))
    with torch.no_grad():
        full.weight.copy_(first.full_weight().flatten(1))
        full.bias.copy_(first.bias)
    paper = classifier.Classifier(
        tiny.features, nn.Sequential(nn.Flatten(), full, *tiny.head[1:]), 9
    ).eval()
    images = noise(2)
    with torch.no_grad():
        expected = tiny(images)
        for logits in (paper(images), paper.scores([images])):
            torch.testing.assert_close(logits, expected, rtol=1e-4, atol=1e-5)
    assert certify(paper, 224).holds
    with torch.no_grad():
        full.weight.fill_(0.01)
    assert not certify(paper, 224).holds
    with pytest.raises(ValueError, match="54 rows is not certified"):
        certify(paper, 224).require()


def test_a_head_that_mixes_rows_before_the_wall_is_found(tiny):
    """A convolution between **B** and the wall reads hidden rows: scores are then uncropped."""
    mixing = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), *tiny.head)
    leaking = classifier.Classifier(tiny.features, mixing, 9).eval()
    images = noise(2)
    with torch.no_grad():
        assert torch.equal(leaking.scores([images]), leaking(images))
    assert not certify(leaking, 224).holds


def test_layers_in_place_leave_what_they_are_given_alone(tiny):
    model = copy.deepcopy(tiny)
    model.features.insert(0, nn.ReLU(inplace=True))
    model.head.insert(0, nn.ReLU(inplace=True))
    mine = noise(2)
    before = mine.clone()
    with torch.no_grad():
        model(mine)
        model.scores([mine])
    assert torch.equal(mine, before)
    features, context = model.cut(mine)
    kept = features.detach().clone().requires_grad_()
    model.logits(kept, context).sum().backward()
    assert torch.equal(kept, features) and kept.grad.any()


def test_checkpoints_come_back_equal(tiny, tmp_path):
    checkpoints.save(tiny, tmp_path / "m.safetensors", precision="float32")
    back = checkpoints.load(tmp_path / "m.safetensors", wall_rows=9, width=0.0625)
    assert all(
        torch.equal(a, b)
        for a, b in zip(tiny.state_dict().values(), back.state_dict().values(), strict=True)
    )
    checkpoints.save(back, tmp_path / "again.safetensors", precision="float32")
    first, second = (tmp_path / f"{name}.safetensors" for name in ("m", "again"))
    assert first.read_bytes() == second.read_bytes()
    assert not back.training and sorted(tmp_path.iterdir()) == [second, first]


def test_checkpoints_of_another_configuration_are_refused_by_name(tiny, tmp_path):
    checkpoints.save(tiny, tmp_path / "m.safetensors")
    with pytest.raises(ValueError, match=r"m\.safetensors: .* wall_rows is 9, not 7"):
        checkpoints.load(tmp_path / "m.safetensors", wall_rows=7)


@pytest.mark.parametrize("content", [b"", b"not a checkpoint at all, only bytes", None])
def test_what_is_no_checkpoint_is_refused_by_name(tmp_path, content):
    file = tmp_path / "broken.safetensors"
    if content is None:
        save_file({"weight": torch.zeros(1)}, file)
    else:
        file.write_bytes(content)
    with pytest.raises(ValueError, match=r"broken\.safetensors"):
        checkpoints.load(file)


def test_seeds_decide_the_weights():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    weights = [make_tiny(seed=seed).head[0].weight for seed in (0, 0, 1)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"image_size": (8, 8), "pool": 1}, "h' = 7 has no lower half; takes 0 to 6"),
        ({"image_size": (8, 8), "pool": 2}, "pool: got 2; takes a divisor of h = 7 and w = 7"),
    ],
)
def test_a_cnn_that_cannot_be_is_refused(kwargs, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cnn.CNN(filters=3, kernel=2, **kwargs)


def test_any_network_can_be_split_without_a_wall():
    """No wall, no cropping: residual blocks and adaptive pooling are fine."""
    whole = torchvision.models.resnet18(num_classes=4).eval()
    *features, pool, fc = whole.children()
    model = classifier.Classifier(
        nn.Sequential(*features), nn.Sequential(pool, nn.Flatten(), fc), 0
    )
    images = noise(2)
    assert torch.equal(model(images), whole(images))
