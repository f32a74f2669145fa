"""Saliency maps against pytorch-grad-cam's own calls, on the whole network."""

import contextlib
import inspect
import io
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import pytorch_grad_cam as library
import torch
from conftest import ROOT, make_tiny, noise
from pytorch_grad_cam.base_cam import BaseCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget
from torch import nn

from benchmarks.cams import Whole
from walls.base import params
from walls.network import architecture
from walls.saliency import methods, registry
from walls.saliency.activity import activity, upscale
from walls.saliency.maps import saliency_maps

PEERS = {
    "GradCAM": library.GradCAM,
    "GradCAM++": library.GradCAMPlusPlus,
    "XGradCAM": library.XGradCAM,
    "ScoreCAM": library.ScoreCAM,
    "AblationCAM": library.AblationCAM,
    "EigenCAM": library.EigenCAM,
    "HiResCAM": library.HiResCAM,
    "LayerCAM": library.LayerCAM,
    "FinerCAM": library.FinerCAM,
    "ShapleyCAM": library.ShapleyCAM,
    "GradCAMElementWise": library.GradCAMElementWise,
    "EigenGradCAM": library.EigenGradCAM,
    "SegEigenCAM": library.SegEigenCAM,
    "KPCA-CAM": library.KPCA_CAM,
    "FEM": library.FEM,
}
ARBITRARY_SIGN = {"EigenCAM", "EigenGradCAM", "KPCA-CAM"}
# Beyond the library's.
OURS = {"Opti-CAM", "EigenCAM (sign fixed)", "EigenCAM (other sign)", "GradCAM (seen cells)"}
UNSEEDED = {"RandomCAM"}  # the library's draws can't be seeded


LIBRARYS = {"ScoreCAM": {"hidden": "mean"}}  # the library's ways, where they aren't the default


def steps(count):
    """Opti-CAM's own setting, as `saliency_maps` takes it."""
    return {"Opti-CAM": {"steps": count}}


def raw_from_library(name, model, images, targets=None):
    """Maps at (h, w) by the library's documented call, before its scaling, rectified."""
    whole = Whole(model)
    goals = None if targets is None else [ClassifierOutputTarget(int(t)) for t in targets]
    raw = []
    with contextlib.redirect_stderr(io.StringIO()), PEERS[name](whole, [whole.features[-1]]) as cam:
        base = getattr(cam, "base_cam", cam)
        get = base.get_cam_image
        base.get_cam_image = lambda *args, **kwargs: raw.append(get(*args, **kwargs)) or raw[-1]
        final = torch.from_numpy(cam(images, targets=goals))
    return torch.from_numpy(raw[0]), final


def trained(batch_norm):
    """A tiny network after some steps on three textures, in evaluation mode."""
    model = architecture.seeded(
        1, width=0.0625, dense=24, classes=3, batch_norm=batch_norm, wall_rows=9, dropout=0.0
    ).train()
    labels = torch.arange(12) % 3
    stripes = torch.stack([torch.sin(torch.arange(224) / (2 + 5 * label)) for label in labels])
    images = 0.3 * noise(12, seed=5) + stripes[:, None, None]
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(12):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
    assert loss < 1.0
    return model.eval(), images[:3]


def cases():
    for batch_norm in (True, False):
        yield make_tiny(batch_norm), noise(3)
        yield trained(batch_norm)


def slow_ones_in_bulk(names, slow=("ScoreCAM", "AblationCAM", "Opti-CAM")):
    """The names as a test's cases, those that take many passes of the network marked."""
    return [pytest.param(name, marks=pytest.mark.bulk if name in slow else ()) for name in names]


@pytest.fixture(
    scope="module",
    params=[torch.float64, pytest.param(torch.float32, marks=pytest.mark.bulk)],
    ids=["float64", "float32"],
)
def networks(request):
    """Random and trained networks, with and without batch norm, and images whose predicted logit is
    positive.
    """
    found = []
    for model, images in cases():
        model, images = model.to(request.param), images.to(request.param)
        with torch.no_grad():
            # Below 0 AblationCAM's library formula flips its sign: a test of its own.
            model.head[-1].bias += 3
        found.append((model, images))
    return found, 1e-5 if request.param == torch.float64 else 1e-4


@pytest.mark.xdist_group("peers")
@pytest.mark.parametrize("name", slow_ones_in_bulk(PEERS))
def test_equal_to_the_librarys_own_call(networks, name, monkeypatch):
    found, tolerance = networks
    if tolerance == 1e-5:
        # The library rounds AblationCAM's scores to float32, then takes their small differences.
        unrounded = SimpleNamespace(**{**vars(np), "float32": np.float64})
        monkeypatch.setattr(sys.modules["pytorch_grad_cam.ablation_cam"], "np", unrounded)
    for model, images in found:
        raw, expected = raw_from_library(name, model, images)
        own = {name: LIBRARYS.get(name, {})}
        ours = upscale(saliency_maps(model, images, [name], options=own)[name], 224)
        distance = (ours - expected).abs().amax((1, 2))
        if name in ARBITRARY_SIGN:  # either half of the map may be the one that is kept
            other = upscale(-raw.to(ours).clamp_max(0), 224)
            distance = distance.minimum((ours - other).abs().amax((1, 2)))
        assert distance.max() < tolerance


@pytest.mark.bulk
def test_together_as_alone(tiny):
    """All the methods by one call, which share what they can."""
    images, names = noise(2), list(methods.CAMS)
    together = saliency_maps(tiny, images, names, options=steps(2))
    assert list(together) == names
    for name, maps in together.items():
        alone = saliency_maps(tiny, images, [name], options=steps(2))[name]
        assert torch.equal(maps, alone), name


def test_every_single_layer_method_of_the_library_is_there():
    exported = [
        kind
        for _, kind in inspect.getmembers(library, inspect.isclass)
        if issubclass(kind, BaseCAM)
    ]
    several_layers = {library.FullGrad}
    missing = set(exported) - several_layers - set(PEERS.values()) - {library.RandomCAM}
    assert not missing and set(PEERS) | OURS | UNSEEDED <= set(methods.METHODS)


def test_refinecam_of_one_layer_is_gradcam_plus_plus(tiny):
    """Why it has no row of its own: it multiplies the maps of several layers."""
    whole, images = Whole(tiny), noise(2)
    layers = [whole.features[-1]]
    refined = library.RefineCAM(whole, layers)(images)
    with library.GradCAMPlusPlus(whole, layers) as cam:
        own = cam(images, targets=None)
    assert refined.max() > 0.9 and np.array_equal(refined, own)
    two = library.RefineCAM(whole, [whole.features[-4], *layers])(images)
    assert abs(two - own).max() > 0.1


def test_fullgrad_takes_no_layer_and_needs_the_biases_before_it(tiny, capsys):
    """Why it has no row of its own. Of f alone, |g ⊙ **B**| is left, each channel scaled."""
    whole, images = Whole(tiny), noise(1)
    with library.FullGrad(whole, []) as cam:
        every, biased = cam(images, targets=None), len(cam.target_layers)
    with library.FullGrad(whole, [whole.features[-1]]) as cam:
        assert np.array_equal(cam(images, targets=None), every)
    assert "target_layers is ignored" in capsys.readouterr().out
    assert biased == 26 and every[:, :170].max() > 0.9 and not every[:, 170:].any()
    features = tiny.features(images).detach()
    with library.FullGrad(tiny.head, []) as cam:
        assert not cam.target_layers
        left = torch.from_numpy(cam(features, targets=None))
    leaf = features.clone().requires_grad_()
    tiny.head(leaf).amax(1).sum().backward()
    product = (leaf.grad * features).abs()
    peaks = product.amax((2, 3), keepdim=True)
    torch.testing.assert_close(
        left, upscale((product / (1e-7 + peaks)).sum(1), 14), atol=1e-4, rtol=0
    )


@pytest.fixture
def added(monkeypatch):
    """A method of somebody's own, with a setting of its own, for as long as a test takes."""
    monkeypatch.setitem(registry.METHODS, "PowerCAM", None)
    monkeypatch.setattr(registry, "CAMS", list(registry.CAMS))

    @methods.method("PowerCAM")
    def powercam(cut, power: float = 1.0):
        return cut.features.pow(power).sum(1)

    return "PowerCAM"


def test_a_method_is_added_in_one_place(added, tiny):
    """Its map, its own setting, and a params.yaml that names it."""
    images = noise(2)
    features = tiny.features(images).detach()
    plain = saliency_maps(tiny, images, [added])[added]
    squares = saliency_maps(tiny, images, [added], options={added: {"power": 2.0}})[added]
    torch.testing.assert_close(plain, features.sum(1), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(squares, features.square().sum(1), rtol=1e-5, atol=1e-5)
    content = params.read(ROOT / "params.yaml")
    content["cams"]["methods"] = [added, "GradCAM"]
    assert params.check(content).cams.methods == [added, "GradCAM"]


def test_the_target_is_the_predicted_class(tiny):
    images = noise(4)
    predicted = tiny(images).argmax(1)
    other = (predicted + 1) % 5
    default, same, wrong = (
        saliency_maps(tiny, images, ["GradCAM"], t)["GradCAM"] for t in (None, predicted, other)
    )
    assert torch.equal(default, same) and not torch.allclose(default, wrong)
    expected = raw_from_library("GradCAM", tiny, images, other)[1]
    torch.testing.assert_close(upscale(wrong, 224), expected, rtol=0, atol=1e-4)


def test_gradcam_is_definition_1(tiny):
    images = noise(2)
    features = tiny.features(images).detach().requires_grad_()
    logits = tiny.head(features)
    (gradient,) = torch.autograd.grad(logits.max(1).values.sum(), features)
    expected = (gradient.mean((2, 3), keepdim=True) * features).sum(1).clamp_min(0)
    torch.testing.assert_close(
        saliency_maps(tiny, images, ["GradCAM"])["GradCAM"], expected.detach()
    )


@pytest.mark.parametrize("name", ["HiResCAM", "LayerCAM"])
def test_exactly_nothing_behind_the_wall(tiny, name):
    raw = saliency_maps(tiny, noise(4), [name])[name]
    assert (raw[:, 5:] == 0).all() and (raw[:, :5] > 0).any()
    values = activity(upscale(raw, 224), 54)
    assert (values[~values.isnan()] == 0).all()


@pytest.mark.parametrize("name", slow_ones_in_bulk(methods.CAMS))
@pytest.mark.slow
def test_maps_of_a_batch_are_the_single_images_maps(name):
    model, images = make_tiny().double(), noise(5).double()
    together = saliency_maps(model, images, [name], batch_size=5, options=steps(10))[name]
    parts = saliency_maps(model, images, [name], batch_size=2, options=steps(10))[name]
    alone = torch.cat(
        [saliency_maps(model, x, [name], options=steps(10))[name] for x in images.split(1)]
    )
    for other in (parts, alone):
        torch.testing.assert_close(upscale(together, 224), upscale(other, 224), rtol=0, atol=1e-5)


def test_the_model_comes_back_as_it_was():
    model = make_tiny().train()
    model.features[1].eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    saliency_maps(model, noise(2), list(methods.CAMS), options=steps(1))
    assert model.training and not model.features[1].training
    assert not any(m._forward_hooks or m._backward_hooks for m in model.modules())
    assert all(p.grad is None and p.requires_grad and p.is_contiguous() for p in model.parameters())
    assert all(
        torch.equal(before[name], tensor) and before[name].dtype == tensor.dtype
        for name, tensor in model.state_dict().items()
    )


def test_the_model_comes_back_after_an_error():
    model = make_tiny().train()
    images = noise(2)
    images[0] = torch.inf
    with pytest.raises(ValueError):
        saliency_maps(model, images, ["GradCAM"])
    assert all(m.training for m in model.modules())


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_weights_and_inference_mode_change_nothing(tiny, frozen):
    images, names = noise(2), ["GradCAM", "ShapleyCAM", "FinerCAM", "Opti-CAM"]
    expected = saliency_maps(tiny, images, names, options=steps(2))
    tiny.requires_grad_(not frozen)
    with torch.no_grad():
        found = saliency_maps(tiny, images, names, options=steps(2))
    assert all(torch.equal(expected[name], found[name]) for name in names)


# Where we deviate from the library on purpose.


def test_ablationcam_counts_a_drop_as_a_drop_below_zero(tiny):
    images = noise(2)
    with torch.no_grad():
        tiny.head[-1].bias -= 10  # every logit is negative now
    features = tiny.features(images)
    targets = tiny.head(features).argmax(1)
    y = tiny.head(features)[torch.arange(2), targets]
    assert (y < 0).all()
    drops = []
    for channel in range(16):
        kept = (torch.arange(16) != channel).float()[:, None, None]
        drops.append(y - tiny.head(features * kept)[torch.arange(2), targets])
    drops = torch.stack(drops, 1)
    expected = torch.einsum("nc,nchw->nhw", drops / -y[:, None], features).clamp_min(0).detach()
    ours = saliency_maps(tiny, images, ["AblationCAM"])["AblationCAM"]
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-6)
    theirs = raw_from_library("AblationCAM", tiny, images)[0]
    alike = torch.nn.functional.cosine_similarity(theirs.flatten(), expected.flatten(), 0)
    assert alike < 0  # all signs turned


@pytest.mark.parametrize("wrap", [False, True])
def test_ablationcam_of_any_head(tiny, wrap):
    """One product where the head begins with the wall's layer, copies of the features elsewhere:
    the same maps.
    """
    images = noise(2).double()
    model = tiny.double()
    fast = saliency_maps(model, images, ["AblationCAM"])["AblationCAM"]
    model.head = nn.Sequential(nn.Identity(), *model.head) if wrap else model.head
    torch.testing.assert_close(
        saliency_maps(model, images, ["AblationCAM"], batch_size=3)["AblationCAM"], fast
    )


def test_ablationcam_at_a_logit_of_zero_is_the_plain_drop(tiny):
    images = noise(1)
    nn.init.zeros_(tiny.head[-1].weight)
    nn.init.zeros_(tiny.head[-1].bias)
    assert (saliency_maps(tiny, images, ["AblationCAM"])["AblationCAM"] == 0).all()


def test_scorecam_scores_dead_channels_once(tiny):
    images = noise(2)
    with torch.no_grad():
        tiny.features[-2].bias[:12] = -1e3  # batch norm: twelve of sixteen channels are dead
    seen = []
    tiny.head.register_forward_pre_hook(lambda module, inputs: seen.append(len(inputs[0])))
    ours = saliency_maps(tiny, images, ["ScoreCAM"], options=LIBRARYS)["ScoreCAM"]
    tiny.head._forward_pre_hooks.clear()
    live = int(tiny.features(images).flatten(2).any(2).sum())
    assert sum(seen) == len(images) + live + 1 < len(images) + 2 * 16
    torch.testing.assert_close(
        upscale(ours, 224), raw_from_library("ScoreCAM", tiny, images)[1], rtol=0, atol=1e-4
    )


class Normalising(nn.Module):
    """A network that takes pixels in [0, 1], and normalises them itself."""

    def __init__(self, model):
        super().__init__()
        self.features, self.head = model.features, model.head
        mean, std = (torch.tensor(values)[:, None, None] for values in model.normalised)
        self.mean, self.std = mean.double(), std.double()

    def forward(self, pixels):
        return self.head(self.features((pixels - self.mean) / self.std))


@pytest.mark.parametrize("recipe", [None, ((0.5, 0.4, 0.1), (0.2, 0.5, 1.0))])
@pytest.mark.slow
def test_scorecam_masks_pixels_as_the_definition_has_it(tiny, recipe):
    """The library's own call on a network that normalises inside: there it masks ξ in [0, 1]."""
    model = tiny.double()
    model.normalised = recipe or model.normalised
    pixels = torch.rand(2, 3, 224, 224, generator=torch.Generator().manual_seed(0)).double()
    network = Normalising(model)
    with contextlib.redirect_stderr(io.StringIO()):
        with library.ScoreCAM(network, [network.features[-1]]) as cam:
            expected = torch.from_numpy(cam(pixels, targets=None)).double()
    images = (pixels - network.mean) / network.std
    found = [
        upscale(saliency_maps(model, images, ["ScoreCAM"], options=own)["ScoreCAM"], 224)
        for own in ({}, LIBRARYS)
    ]
    torch.testing.assert_close(found[0], expected, rtol=0, atol=1e-6)
    assert (found[1] - expected).abs().max() > 1e-4  # the library's way is another
    model.normalised = None  # not known: the images are masked as they are
    unknown = upscale(saliency_maps(model, images, ["ScoreCAM"])["ScoreCAM"], 224)
    assert torch.equal(unknown, found[1])


@pytest.mark.parametrize("name", ["ScoreCAM", "Opti-CAM"])
def test_what_is_hidden_is_named(tiny, name):
    told = r"^hidden: got 'grey'; takes black or mean$"
    with pytest.raises(ValueError, match=told):
        saliency_maps(tiny, noise(1), [name], options={name: {"hidden": "grey"}})


def test_eigencams_two_signs_are_the_two_halves(tiny):
    images = noise(4)
    fixed, other, either = saliency_maps(
        tiny, images, ["EigenCAM (sign fixed)", "EigenCAM (other sign)", "EigenCAM"]
    ).values()
    total = tiny.features(images).sum(1).detach()
    assert ((fixed - other) * total).sum((1, 2)).min() > 0 and (fixed * other == 0).all()
    halves = torch.stack([(either - half).abs().amax((1, 2)) for half in (fixed, other)])
    assert halves.amin(0).max() < 1e-5 * float(total.max())


def test_shapleycam_is_gradcam_on_a_piecewise_linear_head_and_not_on_a_curved_one(tiny):
    images = noise(2)
    linear = saliency_maps(tiny, images, ["GradCAM", "ShapleyCAM"])
    torch.testing.assert_close(linear["GradCAM"], linear["ShapleyCAM"])
    tiny.head[1] = nn.Tanh()
    curved = saliency_maps(tiny, images, ["GradCAM", "ShapleyCAM"])
    assert not torch.allclose(curved["GradCAM"], curved["ShapleyCAM"], rtol=1e-2)
    theirs = raw_from_library("ShapleyCAM", tiny, images)[1]
    torch.testing.assert_close(upscale(curved["ShapleyCAM"], 224), theirs, rtol=0, atol=1e-4)


def test_randomcam_depends_on_the_image_alone(tiny):
    images = noise(3)
    first = saliency_maps(tiny, images, ["RandomCAM"])["RandomCAM"]
    again = saliency_maps(tiny, images.flip(0), ["RandomCAM"], batch_size=1)["RandomCAM"].flip(0)
    torch.testing.assert_close(first, again)
    assert not torch.allclose(first[0] / first[0].max(), first[1] / first[1].max(), atol=1e-2)


def test_images_without_features_have_empty_maps(tiny):
    with torch.no_grad():
        tiny.features[-2].bias[:] = -1e3
    found = saliency_maps(tiny, noise(2), list(methods.CAMS), options=steps(2))
    # The score of a position alone is that of no features, everywhere.
    alike = found.pop("ReciproCAM").flatten(1)
    torch.testing.assert_close(alike, alike[:, :1].expand_as(alike))
    for name, maps in found.items():
        assert (maps == 0).all(), name


@pytest.mark.bulk
def test_bfloat16_changes_the_maps_little(tiny):
    images, names = noise(3), ["GradCAM", "ScoreCAM", "AblationCAM", "Opti-CAM"]
    exact = saliency_maps(tiny, images, names, options=steps(2))
    with torch.autocast("cpu", torch.bfloat16):
        rough = saliency_maps(tiny, images, names, options=steps(2))
    for name in names:
        assert rough[name].dtype == torch.float32
        ours, theirs = (activity(upscale(maps[name], 224), 54) for maps in (rough, exact))
        assert 0 < (ours - theirs).abs().max() < 0.05


def test_all_gradient_methods_share_one_pass(tiny):
    calls = {"features": 0, "head": 0}
    for part in calls:
        getattr(tiny, part).register_forward_hook(
            lambda *_, part=part: calls.update({part: calls[part] + 1})
        )
    saliency_maps(
        tiny, noise(2), ["GradCAM", "GradCAM++", "XGradCAM", "HiResCAM", "LayerCAM", "EigenCAM"]
    )
    assert calls == {"features": 1, "head": 1}
    saliency_maps(tiny, noise(2), ["EigenCAM"])
    assert calls == {"features": 2, "head": 1}  # what needs no gradient asks the head nothing


def seen_by_hand(weight, seen):
    """A head that weighs the seen rows' mean by channel: α_v of these rows is w_v / their cells."""

    class Head(nn.Module):
        def forward(self, features):
            pooled = features[:, :, :seen].mean((2, 3))
            return torch.stack([pooled @ weight, -(pooled @ weight)], dim=1)

    return Head()


def test_gradcam_of_the_seen_cells_by_hand():
    """Two of four rows reach the logit: w_v / 6 a cell, the map Σ w_v B_v / 6 there and 0 below."""
    torch.manual_seed(2)
    features, weight = torch.rand(2, 5, 4, 3), torch.randn(5)
    weight[3] = 0  # a channel without gradient anywhere hides no cell
    head = seen_by_hand(weight, 2)
    cut = SimpleNamespace(features=features, gradient=_gradient(head, features))
    found = methods.METHODS["GradCAM (seen cells)"](cut)
    expected = torch.einsum("v,nvhw->nhw", weight, features) / 6
    torch.testing.assert_close(found[:, :2], expected[:, :2])
    assert found[:, :2].abs().min() > 0 and not found[:, 2:].any()
    plain = methods.METHODS["GradCAM"](cut)
    torch.testing.assert_close(plain, expected / 2)  # 12 cells, 6 of them without gradient
    whole = SimpleNamespace(
        features=features, gradient=_gradient(seen_by_hand(weight, 4), features)
    )
    found, plain = (methods.METHODS[name](whole) for name in ("GradCAM (seen cells)", "GradCAM"))
    torch.testing.assert_close(found, plain)
    blind = SimpleNamespace(features=features, gradient=torch.zeros_like(features))
    assert not methods.METHODS["GradCAM (seen cells)"](blind).any()


def _gradient(head, features):
    leaf = features.clone().requires_grad_()
    head(leaf)[:, 0].sum().backward()
    return leaf.grad


def test_gradcam_of_the_seen_cells_is_zero_behind_the_wall(tiny):
    images = noise(3)
    found = saliency_maps(tiny, images, ["GradCAM (seen cells)", "GradCAM"])
    up = {name: upscale(maps, 224) for name, maps in found.items()}
    zone = tiny.zone(224)
    assert (activity(up["GradCAM (seen cells)"], zone) == 0).all()
    assert (activity(up["GradCAM"], zone) > 0.05).any()
    own = found["GradCAM (seen cells)"][:, :5]
    torch.testing.assert_close(own, found["GradCAM"][:, :5] * 14 / 5)
