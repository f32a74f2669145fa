"""What users have when they call `saliency_maps`, `upscale`, `activity` and `certify`: arrays and lists,
torch's global state, wrapped, odd and in-place networks. Values are those that tensors give.
"""

import contextlib
import copy

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny, noise
from helpers.small_networks import small
from torch import nn

from walls.network.certificate import certify
from walls.network.classifier import Classifier
from walls.saliency.activity import activity, interpolate, upscale
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import CAMS

FEW = {"Opti-CAM": {"steps": 3}}
TARGETS = [4, 0]


def maps_of(model, images, targets=None, methods=tuple(CAMS)):
    return saliency_maps(model, images, methods, targets, options=FEW, progress=lambda maps: None)


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, raw in expected.items():
        assert torch.equal(found[name], raw), name


# --- Arrays and lists

IMAGES = noise(2, 32)
KINDS = {
    "array": lambda images: images.numpy(),
    "doubles": lambda images: images.double().numpy(),
    "array that can't be written": lambda images: np.broadcast_to(images.numpy(), (2, 3, 32, 32)),
    "array backwards": lambda images: images.flip(0, 3).numpy()[::-1, :, :, ::-1],
    "other byte order": lambda images: images.numpy().astype(">f4"),
    "columns first": lambda images: np.asfortranarray(images.numpy()),
    "list of tensors": list,
    "list of arrays": lambda images: [image.numpy() for image in images],
    "lists of tensors": lambda images: [list(image) for image in images],
    "numbers": lambda images: images.tolist(),
    "needs a gradient": lambda images: images.clone().requires_grad_(),
    "parameter": nn.Parameter,
}


@pytest.mark.parametrize("kind", KINDS)
def test_images_as_users_have_them(kind):
    model = small()
    same(maps_of(model, KINDS[kind](IMAGES)), maps_of(model, IMAGES))


@pytest.mark.parametrize(
    "targets",
    [
        [3, 1],
        (3, 1),
        np.array([3, 1]),
        np.array([3, 1], np.uint16),
        np.array([3, 1], ">i8"),
        pd.Series([3, 1]),
        [np.int64(3), np.int32(1)],
        [torch.tensor(3), torch.tensor(1)],
        torch.tensor([3, 1], dtype=torch.uint32),
    ],
    ids=str,
)
def test_targets_as_users_have_them(targets):
    model, names = small(), ("GradCAM", "FinerCAM")
    expected = maps_of(model, IMAGES, torch.tensor([3, 1]), names)
    assert not torch.equal(expected["GradCAM"], maps_of(model, IMAGES, None, names)["GradCAM"])
    same(maps_of(model, IMAGES, targets, names), expected)


NO_NUMBERS = r"{}: got a {} that is no array of numbers; takes a tensor, a NumPy array or a list of"


@pytest.mark.parametrize(
    "images, targets, told",
    [
        (None, None, NO_NUMBERS.format("images", "NoneType")),
        ("dog.jpg", None, NO_NUMBERS.format("images", "str")),
        ([IMAGES[0], IMAGES[1, :, 1:]], None, NO_NUMBERS.format("images", "list")),
        ([[1.0, 2.0], [3.0]], None, NO_NUMBERS.format("images", "list")),
        ({"images": IMAGES}, None, NO_NUMBERS.format("images", "dict")),
        ([], None, r"images: got \(0,\); takes \(N, 3, H, W\)"),
        (IMAGES[0].numpy(), None, r"images: got \(3, 32, 32\); takes \(N, 3, H, W\)"),
        (IMAGES.permute(0, 2, 3, 1).numpy(), None, r"images: got \(2, 32, 32, 3\); takes \(N, 3,"),
        (IMAGES.numpy() + 1j, None, r"images: got torch\.complex64; takes real numbers"),
        (IMAGES, ["dog", "cat"], NO_NUMBERS.format("targets", "list")),
        (IMAGES, [1, None], NO_NUMBERS.format("targets", "list")),
        (IMAGES, 3, r"targets: got \(\); takes one of each image of \(2, 3, 32, 32\)"),
        (IMAGES, [3], r"targets: got \(1,\); takes one of each image of \(2, 3, 32, 32\)"),
        (IMAGES, [3.0, 1.0], r"targets: got torch\.float32; takes whole numbers"),
        (IMAGES, [True, False], r"targets: got torch\.bool; takes whole numbers"),
        (IMAGES, [3, 4], r"targets: got \[3, 4\]; takes 0 to 3"),
        (IMAGES, [3, -1], r"targets: got \[3, -1\]; takes 0 to 3"),
    ],
)
def test_images_and_targets_that_are_none(images, targets, told):
    with pytest.raises(ValueError, match=f"^{told}") as error:
        maps_of(small(), images, targets, ["GradCAM"])
    assert "\n" not in str(error.value)


def test_no_images_take_no_targets():
    for targets in ([], np.array([]), torch.empty(0)):
        found = maps_of(small(), torch.empty(0, 3, 32, 32), targets, ["GradCAM"])
        assert found["GradCAM"].shape == (0, 0, 0)


@pytest.mark.parametrize("kind", KINDS)
def test_maps_as_users_have_them(kind):
    maps = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))[:, 0]
    given = KINDS[kind](maps[:, None].expand(2, 3, 32, 32).clone())
    if isinstance(given, list):
        given = [image[0] for image in given]
    else:
        given = given[:, 0]
    as_doubles = kind == "doubles"
    expected = maps.double() if as_doubles else maps
    assert torch.equal(activity(given, 5), activity(expected, 5))
    assert torch.equal(upscale(given, 64), upscale(expected, 64))
    assert torch.equal(interpolate(given, (64, 48)), interpolate(expected, (64, 48)))
    assert upscale(given, 64).dtype == (torch.float64 if as_doubles else torch.float32)


def test_sizes_as_users_have_them():
    maps = torch.rand(2, 8, 8)
    for size in (np.int64(16), [16, 16], (np.int32(16), 16), torch.Size([16, 16])):
        assert torch.equal(upscale(maps, size), upscale(maps, 16))
    assert torch.equal(activity(maps, np.int64(3)), activity(maps, 3))
    for size in (2.5, "16", None, (16, 2.5), (1, 2, 3), [0, 4], {16, 17}):
        with pytest.raises(ValueError, match=r"^size: got .*; takes \(H, W\), 1 or more each$"):
            upscale(maps, size)


@pytest.mark.parametrize("function", [activity, upscale])
@pytest.mark.parametrize("maps", [None, "map", [[[1.0], [2.0, 3.0]]], {"GradCAM": 1}])
def test_maps_that_are_none(function, maps):
    with pytest.raises(ValueError, match=NO_NUMBERS.format("maps", type(maps).__name__)):
        function(maps, 1)


# --- The caller's state


@contextlib.contextmanager
def default(dtype):
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


STATES = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "gradients off": lambda: torch.set_grad_enabled(False),
    "float64": lambda: default(torch.float64),
    "float16": lambda: default(torch.float16),
}


def set_by_the_caller():
    return torch.get_default_dtype(), torch.is_grad_enabled(), torch.is_inference_mode_enabled()


@pytest.mark.parametrize("state", STATES)
def test_maps_do_not_depend_on_the_callers_state(state):
    model = small()
    expected, of_numbers = maps_of(model, IMAGES), maps_of(model, IMAGES.tolist(), [3, 1])
    with STATES[state]():
        before = set_by_the_caller()
        found = maps_of(model, IMAGES)
        same(found, expected)
        same(maps_of(model, IMAGES.clone(), None), expected)  # made here
        same(maps_of(model, IMAGES.tolist(), [3, 1]), of_numbers)
        same(maps_of(copied(model), IMAGES), expected)  # its weights made here
        assert set_by_the_caller() == before
        raw = found["GradCAM"]
        assert torch.equal(upscale(raw.tolist(), 64), upscale(expected["GradCAM"], 64))
        seen = activity(upscale(raw, 64).tolist(), 9)
    assert torch.equal(seen, activity(upscale(expected["GradCAM"], 64), 9))
    assert not found["GradCAM"].is_inference()
    (2 * found["GradCAM"].requires_grad_()).sum().backward()  # the caller's to go on with


def copied(model):
    """Another network of the same weights, made under the caller's state."""
    other = small(seed=1).float()
    for one, its in zip(other.parameters(), model.parameters(), strict=True):
        one.data = its.detach().clone()
    return other


@pytest.mark.parametrize("state", STATES)
@pytest.mark.slow
def test_the_certificate_does_not_depend_on_the_callers_state(state):
    model, images = make_tiny(), noise(2)
    expected, on_images = certify(model, 224), certify(model, 224, images)
    other = small()
    of_the_other = certify(other, 32)
    assert expected.holds and expected.edge_gradient > 0
    with STATES[state]():
        before = set_by_the_caller()
        assert certify(model, 224) == expected
        assert certify(model, 224, images.clone()) == on_images
        assert certify(copied(other), 32) == of_the_other
        assert set_by_the_caller() == before


def test_a_double_network_has_the_same_maps_under_any_default():
    """One whose own layers make tensors of the default type: they are of the weights'."""

    class Scaled(nn.Module):
        def forward(self, x):
            return torch.einsum("nchw,cd->ndhw", x, torch.eye(x.shape[1])).relu()

    model = small()
    model.features.append(Scaled())
    model.zone = lambda rows: None  # of a layer that no dead zone is derived through
    model.seen_features = lambda images: model.features(images)[:, :, :7]
    single = maps_of(model, IMAGES, None, ["GradCAM", "HiResCAM"])
    with default(torch.float64):
        same(maps_of(model, IMAGES, None, ["GradCAM", "HiResCAM"]), single)
    model.double()
    found = maps_of(model, IMAGES, None, ["GradCAM", "HiResCAM"])
    assert found["GradCAM"].dtype == torch.float64
    for name, raw in single.items():
        torch.testing.assert_close(found[name].float(), raw, rtol=1e-4, atol=1e-6)


# --- Networks


def test_wrapped_networks_give_their_own_maps():
    model = small()
    expected = maps_of(model, IMAGES)
    same(maps_of(nn.DataParallel(model), IMAGES), expected)
    same(maps_of(nn.DataParallel(nn.DataParallel(model)), IMAGES), expected)
    same(maps_of(torch.compile(model), IMAGES), expected)


@pytest.mark.parametrize("wrapped", [nn.Identity, nn.DataParallel])
def test_a_network_that_is_not_split_is_named(wrapped):
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.LazyLinear(2))
    for network in (wrapped(plain), plain):
        got = type(network).__name__
        with pytest.raises(ValueError, match=rf"^model: got {got}; takes a Classifier, as walls\."):
            maps_of(network, IMAGES)
    with pytest.raises(ValueError, match=r"^model: got NoneType; takes a Classifier"):
        maps_of(None, IMAGES)


@pytest.mark.parametrize("name", CAMS)
@pytest.mark.parametrize("classes", [1, 2, 3])
def test_few_classes(name, classes):
    """Every method has maps of a network of one class, but the one that compares classes."""
    if (name, classes) == ("FinerCAM", 1):
        with pytest.raises(ValueError, match=r"^model: got 1 class; FinerCAM takes 2 or more"):
            maps_of(small(classes), IMAGES, None, [name])
    else:
        (raw,) = maps_of(small(classes), IMAGES, None, [name]).values()
        assert raw.isfinite().all() and raw.any()


@pytest.mark.parametrize(
    "head, told",
    [
        (nn.Sequential(nn.Flatten(0)), r"model: its head gives \(8192,\); takes logits"),
        (nn.Identity(), r"model: its head gives \(2, 16, 16, 16\); takes logits \(N, classes\)"),
        (nn.Sequential(nn.Flatten(), nn.Linear(4096, 0)), r"model: its head gives \(2, 0\); takes"),
    ],
)
def test_heads_that_give_no_logits(head, told):
    model = Classifier(small().features, head, 0)
    with pytest.raises(ValueError, match=f"^{told}"):
        maps_of(model, IMAGES, None, ["GradCAM"])


def test_features_that_are_no_maps():
    features = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten())
    model = Classifier(features, nn.Linear(3600, 2), 0)
    with pytest.raises(ValueError, match=r"^model: its features are \(2, 3600\); takes maps"):
        maps_of(model, IMAGES, None, ["GradCAM"])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_layers_that_work_in_place_change_nothing_of_the_callers(layout):
    """A ReLU first in the backbone, in place or not, and first in the head, where **B** is one."""
    plain = small()
    plain.features.insert(0, nn.ReLU())
    expected = maps_of(plain, IMAGES)
    model = copy.deepcopy(plain)
    model.features[0].inplace = True
    images = IMAGES.clone(memory_format=layout)
    found = maps_of(model, images)
    assert torch.equal(images, IMAGES)
    same(found, expected)
    model.head.insert(0, nn.ReLU(inplace=True))
    plain.head.insert(0, nn.ReLU())
    # Two such layers in a row have no gradient, in torch itself: without Opti-CAM.
    names = [name for name in CAMS if name != "Opti-CAM"]
    same(maps_of(model, images, None, names), maps_of(plain, images, None, names))
    assert torch.equal(images, IMAGES)


# --- Methods


@pytest.mark.parametrize(
    "methods, told",
    [
        (["GradCAM", "GradCAM"], "methods: got GradCAM twice; takes each once"),
        (["FEM", "GradCAM", "FEM"], "methods: got FEM twice; takes each once"),
        ("GradCAM", "methods: got GradCAM; takes a list of names"),
        (None, "methods: got None; takes a list of names"),
    ],
)
def test_methods_that_are_no_list_of_names(methods, told):
    with pytest.raises(ValueError) as error:
        saliency_maps(small(), IMAGES, methods)
    assert str(error.value) == told


def test_numpys_generator_decides_nothing_and_stays_as_it_was():
    """The library's KPCA-CAM starts its solver from it where maps have more than 200 positions."""
    model, images = small(), noise(3, 32)
    expected = maps_of(model, images)
    np.random.seed(5)
    before = np.random.get_state()[1].tolist()
    same(maps_of(model, images), expected)
    assert np.random.get_state()[1].tolist() == before
    (alone,) = maps_of(model, images[2:], None, ["KPCA-CAM"]).values()
    torch.testing.assert_close(alone[0], expected["KPCA-CAM"][2], rtol=1e-3, atol=1e-6)


def test_methods_from_anything_that_names_them():
    expected = maps_of(small(), IMAGES, None, ["GradCAM", "FEM"])
    for methods in (("GradCAM", "FEM"), iter(["GradCAM", "FEM"]), {"GradCAM": 1, "FEM": 2}):
        same(maps_of(small(), IMAGES, None, methods), expected)
