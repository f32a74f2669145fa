"""The public functions' arguments, tried in bulk: bad shapes and values are refused by the
argument's name.
"""

import math

import numpy as np
import pytest
import torch
from conftest import make_tiny, noise
from helpers.bad_input import bulk, refused
from hypothesis import given
from hypothesis import strategies as st

from walls.network import architecture, geometry
from walls.saliency import activity
from walls.saliency.maps import saliency_maps
from walls.theory import cnn, formulas

FAMILY = "arguments"
MODEL = make_tiny()
IMAGES = noise(1)
IMAGE = np.linspace(0, 1, 29 * 29).reshape(29, 29)
SHAPES = st.lists(st.integers(0, 5), max_size=5).map(tuple)
NO_WHOLE = st.one_of(
    st.floats(), st.text(max_size=3), st.none(), st.lists(st.integers(), max_size=2)
)
NEGATIVE = st.integers(-(2**40), -1)


def attempt(case: object, act, names: str) -> str | None:
    return refused(FAMILY, case, act, names)


# --- Saliency maps


@bulk(60)
@given(SHAPES.filter(lambda shape: not (len(shape) == 4 and shape[1] == 3)))
def test_images_of_a_wrong_shape(shape):
    assert attempt(
        ("images", shape),
        lambda: saliency_maps(MODEL, torch.zeros(shape), ["GradCAM"]),
        r"^images: got \(.*takes",
    )


@pytest.mark.parametrize(
    "size",
    [(32, 32), (192, 224), (224, 192), (240, 224), (240, 240), (224, 448), (16, 16), (5, 224)],
)
def test_images_of_another_size(size):
    act = lambda: saliency_maps(MODEL, torch.zeros(1, 3, *size), ["HiResCAM"])
    assert attempt(("size", size), act, r"^(images|image_size|wall\.rows): .*takes|^images: ")


@bulk(40)
@given(
    st.one_of(
        SHAPES.filter(lambda shape: shape != (1,)),
        st.sampled_from([torch.float32, torch.bool, torch.complex64]),
        NEGATIVE,
        st.integers(5, 2**40),
    )
)
def test_wrong_targets(wrong):
    if isinstance(wrong, int):
        targets = torch.tensor([wrong])
    else:
        targets = (
            torch.zeros(wrong, dtype=torch.int64)
            if isinstance(wrong, tuple)
            else torch.zeros(1, dtype=wrong)
        )
    assert attempt(
        ("targets", wrong),
        lambda: saliency_maps(MODEL, IMAGES, ["GradCAM"], targets),
        "^(images|targets): got .*takes",
    )


@bulk(60)
@given(
    st.one_of(
        st.text(max_size=20),
        st.integers(),
        st.none(),
        st.lists(st.text(max_size=2), max_size=2),
        st.just("x" * 10**5),
    )
)
def test_methods_that_are_none(name):
    assert attempt(
        ("method", name),
        lambda: saliency_maps(MODEL, IMAGES, [name]),
        "^methods: got .*; takes GradCAM, ",
    )


@bulk(60)
@given(
    st.sampled_from(["batch_size", "steps", "lr"]),
    st.one_of(NEGATIVE, st.sampled_from([0, -math.inf, math.nan])),
)
def test_settings_of_the_maps(name, value):
    if name != "lr" and value != value:
        value = 0
    own = {name: value} if name == "batch_size" else {"options": {"Opti-CAM": {name: value}}}
    act = lambda: saliency_maps(MODEL, IMAGES, ["Opti-CAM"], **own)
    assert attempt((name, value), act, f"^{name}: got .*; takes ")


@bulk(40)
@given(
    st.sampled_from(["GradCAM", "Opti-CAM"]),
    st.text(max_size=20).filter(lambda name: name not in ("steps", "lr")),
)
def test_options_that_are_none(method, name):
    act = lambda: saliency_maps(MODEL, IMAGES, [method], options={method: {name: 1}})
    assert attempt((method, name), act, f"^options: got .* of {method}; takes ")


@bulk(40)
@given(st.integers(0, 3 * 224 * 224 - 1), st.sampled_from([math.nan, math.inf, -math.inf]))
def test_pixels_that_are_not_finite(place, value):
    images = IMAGES.clone()
    images.view(-1)[place] = value
    assert attempt(
        (place, value),
        lambda: saliency_maps(MODEL, images, ["GradCAM"]),
        "^images: image 0 holds NaN or infinity; takes",
    )


@bulk(60)
@given(
    SHAPES,
    st.sampled_from([torch.float32, torch.int64, torch.bool, torch.complex64]),
    st.one_of(
        st.integers(-3, 3),
        st.tuples(st.integers(-2, 2), st.integers(-2, 2)),
        st.tuples(st.integers(1, 2)),
        st.just(()),
    ),
)
def test_upscaling_what_are_no_maps(shape, dtype, size):
    sides = (size, size) if isinstance(size, int) else size
    right = (
        len(shape) == 3
        and 0 not in shape[1:]
        and dtype is torch.float32
        and len(sides) == 2
        and min(sides) > 0
    )
    message = attempt(
        ("upscale", shape, dtype, size),
        lambda: activity.upscale(torch.zeros(shape, dtype=dtype), size),
        "^(maps|size): got .*takes",
    )
    assert bool(message) != right


# --- Activity, geometry


@bulk(150)
@given(
    SHAPES,
    st.one_of(st.integers(-3, 9), NO_WHOLE),
    st.sampled_from([0.0, 1.0, -1.0, math.nan, math.inf]),
    st.sampled_from([torch.float32, torch.float64, torch.complex64]),
)
def test_activity_of_what_are_no_maps(shape, rows, value, dtype):
    maps = torch.full(shape, value, dtype=dtype)
    right = (
        len(shape) == 3
        and 0 not in shape[1:]
        and isinstance(rows, int)
        and 0 <= rows <= shape[1]
        and dtype is not torch.complex64
    )
    right = right and (value in (0, 1) or shape[0] == 0)
    message = attempt(
        ("activity", shape, rows, value, dtype),
        lambda: activity.activity(maps, rows),
        "^activity: got .*; takes ",
    )
    assert bool(message) != right


@bulk(100)
@given(st.one_of(st.integers(-300, 40), NO_WHOLE), st.one_of(st.integers(-20, 40), NO_WHOLE))
def test_dead_zones_that_are_none(image_rows, wall_rows):
    act = lambda: geometry.dead_zone(MODEL.features, image_rows, wall_rows)
    message = attempt(
        ("zone", image_rows, wall_rows), act, r"^(image_size|wall\.rows): got .*takes "
    )
    assert message or wall_rows == 0 or image_rows >= 16


LAYERS = [
    torch.nn.Linear(3, 3),
    torch.nn.GroupNorm(1, 4),
    torch.nn.LayerNorm(4),
    torch.nn.InstanceNorm2d(4),
    torch.nn.Flatten(),
    torch.nn.AdaptiveAvgPool2d(3),
    torch.nn.Conv2d(3, 4, 3, padding_mode="circular", padding=1),
    torch.nn.Softmax(1),
    torch.nn.Upsample(scale_factor=2),
    torch.nn.ConvTranspose2d(3, 4, 3),
    torch.nn.LPPool2d(2, 2),
    torch.nn.Unfold(3),
    torch.nn.Conv3d(3, 4, 3),
    torch.nn.Conv1d(3, 4, 3),
    torch.nn.ModuleList(),
    torch.nn.PixelShuffle(2),
]


@pytest.mark.parametrize("layer", LAYERS, ids=lambda layer: type(layer).__name__)
def test_layers_that_mix_rows(layer):
    act = lambda: geometry.dead_zone(torch.nn.Sequential(torch.nn.Conv2d(3, 3, 3), layer), 64, 3)
    assert attempt(("layer", layer), act, "mixes .*takes ")


# --- Networks

RIGHT = {
    "width": 0.0625,
    "dense": 8,
    "classes": 3,
    "batch_norm": False,
    "wall_rows": 9,
    "dropout": 0.5,
    "image_size": 224,
}
WRONG = {
    "width": st.one_of(
        st.floats(max_value=0), st.just(math.nan), st.just(math.inf), st.floats(min_value=65)
    ),
    "dense": st.one_of(NEGATIVE, st.just(0), NO_WHOLE),
    "classes": st.one_of(NEGATIVE, st.just(0), NO_WHOLE),
    "wall_rows": st.one_of(NEGATIVE, st.integers(14, 999), st.integers(1, 5), NO_WHOLE),
    "dropout": st.one_of(
        st.floats(max_value=-0.001), st.floats(min_value=1.001), st.just(math.nan)
    ),
    "image_size": st.one_of(st.integers(max_value=15), NO_WHOLE),
}


@bulk(120)
@given(st.data())
def test_networks_that_cannot_be(draw):
    name = draw.draw(st.sampled_from(sorted(WRONG)))
    value = draw.draw(WRONG[name])
    message = attempt(
        (name, value),
        lambda: architecture.vgg(**RIGHT | {name: value}),
        rf"^({name}|wall\.rows|image_size): got .*; takes ",
    )
    assert message, (name, value)


CNN = {
    "image_size": (9, 9),
    "filters": 3,
    "kernel": 2,
    "pool": 2,
    "sizes": (1,),
    "tau": 1.0,
    "masked_rows": 1,
}
NO_SIZE = st.one_of(st.integers(-99, 0), NO_WHOLE)
NO_CNN = {
    "filters": NO_SIZE,
    "kernel": st.one_of(NO_SIZE, st.integers(10, 99)),
    "pool": st.one_of(NO_SIZE, st.sampled_from([3, 5, 9])),
    "tau": st.one_of(st.floats(max_value=0), st.just(math.nan), st.just(math.inf)),
    "masked_rows": st.integers(4, 9),
}


@bulk(80)
@given(st.data())
def test_a_cnn_that_cannot_be(draw):
    name = draw.draw(st.sampled_from(sorted(NO_CNN)))
    value = draw.draw(NO_CNN[name])
    assert attempt(
        ("CNN", name, value),
        lambda: cnn.CNN(**CNN | {name: value}),
        "^(wall_|masked_)?[a-z]+: .*takes ",
    )


# --- Theory

FUNCTIONS = {
    name: getattr(formulas, name)
    for name in ("expected_gradcam", "lower_bound", "large_v_limit", "moment_bound")
}
THEORY = {"image": IMAGE, "filters": 32, "kernel": 2, "pool": 2, "tau": 1.0}
NO_IMAGE = st.one_of(
    st.lists(st.integers(0, 4), max_size=4)
    .filter(lambda shape: len(shape) != 2 or 0 in shape)
    .map(np.zeros),
    st.text(max_size=3),
    st.sampled_from([math.nan, math.inf, -0.1, 1.1, 255.0]).map(
        lambda value: np.full((29, 29), value)
    ),
    st.none(),
    st.sampled_from([[[0.0], [0.0, 1.0]], [["a"]], [[None]], {}, [[1j]]]),
)
NO_THEORY = {
    "image": NO_IMAGE,
    "filters": NO_SIZE,
    "kernel": st.one_of(NO_SIZE, st.integers(30, 99)),
    "pool": st.one_of(NO_SIZE, st.sampled_from([3, 5, 28, 99])),
    "tau": st.one_of(
        st.floats(max_value=0), st.just(math.nan), st.just(math.inf), st.text(max_size=2), st.none()
    ),
}


@bulk(200)
@given(st.sampled_from(sorted(FUNCTIONS)), st.data())
def test_a_theorem_about_nothing(function, draw):
    name = draw.draw(st.sampled_from(sorted(NO_THEORY)))
    value = draw.draw(NO_THEORY[name])
    message = attempt(
        (function, name, value),
        lambda: FUNCTIONS[function](**THEORY | {name: value}),
        f"^({name}|masked_rows|pool): .*takes ",
    )
    assert message, (function, name, value)


@bulk(40)
@given(st.one_of(st.integers(15, 99), st.integers(-99, -1), st.floats(), st.text(max_size=2)))
def test_masked_rows_that_are_none(rows):
    act = lambda: formulas.expected_gradcam(**THEORY, masked_rows=rows)
    assert attempt(("masked_rows", rows), act, "^masked_rows: got .*; takes ")
