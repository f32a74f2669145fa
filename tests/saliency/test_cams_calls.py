"""What `saliency_maps` takes, gives back and says: types, targets, no images, progress, bad
input.
"""

import pytest
import torch
from conftest import noise
from torch import nn

from walls.network import classifier
from walls.saliency import maps
from walls.saliency.maps import saliency_maps
from walls.saliency.methods import METHODS


def test_no_images_have_no_maps(tiny):
    found = saliency_maps(tiny, torch.empty(0, 3, 224, 224), ["GradCAM", "FEM"])
    kinds = {name: (tuple(raw.shape), raw.dtype) for name, raw in found.items()}
    assert kinds == dict.fromkeys(("GradCAM", "FEM"), ((0, 0, 0), torch.float32))


def test_images_and_targets_of_another_type_are_converted(tiny):
    images, targets = noise(3), torch.tensor([4, 0, 2])
    expected = saliency_maps(tiny, images, ["GradCAM"], targets)["GradCAM"]
    assert not torch.equal(expected, saliency_maps(tiny, images, ["GradCAM"])["GradCAM"])
    for kind in (torch.uint8, torch.int8, torch.int16, torch.int32):
        found = saliency_maps(tiny, images.double(), ["GradCAM"], targets.to(kind))["GradCAM"]
        assert found.dtype == torch.float32 and torch.equal(found, expected)


def test_a_bar_counts_the_maps_unless_someone_else_does(tiny, monkeypatch):
    told, bars = [], []

    class Bar:
        def __init__(self, **options):
            bars.append(options)

        def update(self, maps):
            told.append(maps)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            told.append("closed")

    monkeypatch.setattr(maps, "track", Bar)
    saliency_maps(tiny, noise(5), ["GradCAM", "FEM"], batch_size=3)
    assert told == [3, 3, 2, 2, "closed"]
    assert bars == [{"total": 10, "desc": "saliency maps", "unit": "map", "hidden": False}]
    counted = []
    saliency_maps(tiny, noise(5), ["GradCAM"], batch_size=3, progress=counted.append)
    assert counted == [3, 2] and told[5:] == ["closed"] and bars[1]["hidden"] is True


def test_nan_in_an_image_is_named_by_its_place(tiny):
    images = noise(5)
    images[3, 0, 0, 0] = torch.nan
    with pytest.raises(ValueError, match="image 3 holds NaN"):
        saliency_maps(tiny, images, ["GradCAM"], batch_size=2)


@pytest.mark.parametrize("name", ["features.1.running_var", "head.3.weight"])
def test_nan_in_the_weights_is_named(tiny, name):
    tiny.state_dict()[name].view(-1)[0] = torch.nan
    with pytest.raises(ValueError, match=name + " holds NaN"):
        saliency_maps(tiny, noise(2), ["GradCAM"])


def test_a_target_out_of_range_is_named(tiny):
    with pytest.raises(ValueError, match="takes 0 to 4"):
        saliency_maps(tiny, noise(2), ["GradCAM"], torch.tensor([0, 5]))


def test_opticam_takes_the_papers_steps_and_rate(tiny):
    images, papers = noise(1), {"steps": 50, "lr": 0.1}
    given = saliency_maps(tiny, images, ["Opti-CAM"], options={"Opti-CAM": papers})["Opti-CAM"]
    assert torch.equal(saliency_maps(tiny, images, ["Opti-CAM"])["Opti-CAM"], given)
    for other in ({"steps": 3}, {"lr": 1.0}):
        options = {"Opti-CAM": papers | other}
        assert not torch.equal(
            saliency_maps(tiny, images, ["Opti-CAM"], options=options)["Opti-CAM"], given
        )


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"steps": 0}, "steps: got 0; takes 1 or more"),
        ({"lr": 0.0}, "lr: got 0.0; takes a number above 0"),
        ({"lr": float("inf")}, "lr: got inf; takes a number above 0"),
        ({"lr": float("nan")}, "lr: got nan; takes a number above 0"),
        ({"rate": 0.1}, "options: got rate of Opti-CAM; takes steps, lr, hidden"),
    ],
)
def test_opticams_settings_that_are_none(tiny, settings, message):
    with pytest.raises(ValueError) as error:
        saliency_maps(tiny, noise(1), ["Opti-CAM"], options={"Opti-CAM": settings})
    assert str(error.value) == message


def test_options_of_a_method_without_any_and_of_no_method(tiny):
    with pytest.raises(ValueError, match=r"^options: got steps of GradCAM; takes none$"):
        saliency_maps(tiny, noise(1), ["GradCAM"], options={"GradCAM": {"steps": 1}})
    with pytest.raises(ValueError, match=r"^methods: got OptiCAM"):
        saliency_maps(tiny, noise(1), ["GradCAM"], options={"OptiCAM": {"steps": 1}})


def test_features_without_a_convolution_take_three_channels():
    model = classifier.Classifier(
        nn.Sequential(nn.MaxPool2d(16), nn.ReLU()),
        nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 14, 5)),
        0,
    )
    images = noise(2)
    features = model.features(images)
    weight = model.head[-1].weight.view(5, 3, 14, 14)[model(images).argmax(1)]
    expected = (weight * features).sum(1).clamp_min(0)  # HiResCAM: the gradient is the weights
    torch.testing.assert_close(
        saliency_maps(model.eval(), images, ["HiResCAM"])["HiResCAM"], expected
    )
    with pytest.raises(ValueError, match=r"takes \(N, 3, H, W\)"):
        saliency_maps(model, images[:, :2], ["HiResCAM"])


def test_unknown_methods_are_named(tiny):
    long = 100 * "x"  # of which its beginning is shown
    for name, told in (("GradCAMM", "GradCAMM"), (long, 79 * "x")):
        with pytest.raises(ValueError) as error:
            saliency_maps(tiny, noise(1), [name])
        assert str(error.value) == f"methods: got {told}; takes {', '.join(METHODS)}"
