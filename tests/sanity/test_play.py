"""play.json: its µ are notebook 9's, its logits the bare network's, its maps and pictures the ones."""

import base64
import io
import json

import numpy as np
import pytest
import torch
from helpers.played import METHODS, played
from PIL import Image
from pytorch_grad_cam import GradCAM

from walls.network import zoo
from walls.network.behind import Behind, behind
from walls.saliency.activity import activity, upscale
from walls.sanity.check import check
from walls.sanity.play import play

# All share maps of sixty stacks, in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("played")]
STACKED, *WITHIN = range(4)  # the places of the wall
SEEN = (224, 128, 160, 192)  # image rows at each


@pytest.fixture(scope="module")
def photographs():
    return played()[1][0]


@pytest.fixture(scope="module")
def found():
    return json.loads(json.dumps(played()[3], allow_nan=False))


def scores(place, text):
    """A map's bytes as (1, h, w) in [0, 1]."""
    values = np.frombuffer(base64.b64decode(text), dtype=np.uint8).astype(float) / 255
    return torch.from_numpy(values).view(1, place["map_rows"], place["map_columns"])


def pixels(found, number):
    stream = io.BytesIO(base64.b64decode(found["pictures"][number]))
    return np.asarray(Image.open(stream).convert("RGB")).astype(float)


def test_every_activity_is_the_checks(found):
    """As in networks.csv, of the same stacked photographs."""
    table = played()[2].table
    assert found["methods"] == METHODS and found["network"] == "efficientnet-lite0"
    own = table[table["image"] < 5]
    assert len(own) == 5 * 4 * 3 and len(found["photographs"]) == 5
    for row in own.itertuples():
        mu = found["places"][STACKED]["photographs"][row.image]["mu"][row.control][row.method]
        if np.isnan(row.mu):
            assert mu is None
        else:
            assert mu == pytest.approx(100 * row.mu, abs=2e-4)


@pytest.mark.parametrize("number", range(4))
def test_an_activity_by_another_library(found, photographs, number):
    """µ of pytorch-grad-cam's map, at every wall, with the next photograph in the hidden part."""
    place, seen = found["places"][number], SEEN[number]
    first, second = photographs[:2]
    model = behind(played()[0].network, None if number == STACKED else seen)
    lower = second if number == STACKED else second[:, seen:]
    with GradCAM(model, [model.layer]) as cam:
        map_ = cam(torch.cat([first[:, :seen], lower], 1)[None], targets=None)
    theirs = torch.from_numpy(map_).double()[0]
    measured = {224: 208, 128: 80, 160: 48, 192: 16}[seen]  # half a cell, 16 rows, less
    mu = 100 * theirs[-measured:].norm() / theirs.norm()
    ours = place["photographs"][0]["mu"]["another class"]["GradCAM"]
    assert ours == pytest.approx(float(mu), abs=0.01) and place["measured_rows"] == measured
    rows = 448 if number == STACKED else 224
    assert place["image_rows"] == rows and place["dead_rows"] == rows - seen
    assert place["uniform"] == pytest.approx(100 * (measured / rows) ** 0.5, abs=1e-4)
    assert place["stacked"] == (number == STACKED)


@pytest.mark.parametrize("number", range(4))
def test_the_logits_are_the_bare_networks_on_the_seen_part(found, photographs, number):
    named = played()[0]
    with torch.no_grad():
        logits = named.network(photographs[:5, :, : SEEN[number]])
    assert found["places"][number]["classes"] == 1000
    for own, one in zip(found["places"][number]["photographs"], logits, strict=True):
        order = one.argsort(descending=True)[:5].tolist()
        assert [name for name, _ in own["logits"]] == [named.classes[place] for place in order]
        values = [value for _, value in own["logits"]]
        assert values == pytest.approx(one[order].tolist(), abs=1e-3) and own["moved"] == 0


def test_a_logit_that_moves_is_refused(monkeypatch):
    named, (images, _, names), report, _ = played()
    honest = Behind.logits

    def leaking(self, features, context=None):
        return honest(self, features, context) + 1e-4 * features[:, :1, -1, 0]

    monkeypatch.setattr(Behind, "logits", leaking)
    with pytest.raises(ValueError, match=r"^logits: moved by up to .+; takes a network whose"):
        play(named, images, report, names)


def test_the_bytes_are_the_maps(found):
    """What is drawn has the µ that stands beside it; HiResCAM is 0 behind every wall."""
    for place in found["places"]:
        size = place["image_rows"], place["image_columns"]
        for own in place["photographs"]:
            for control in found["controls"]:
                for method in found["methods"]:
                    raw = scores(place, own["maps"][control][method])
                    mu = own["mu"][control][method]
                    drawn = 100 * activity(upscale(raw, size), place["measured_rows"])
                    assert mu is None or mu == pytest.approx(float(drawn), abs=0.5)
                dead = scores(place, own["maps"][control]["HiResCAM"])
                seen = place["map_rows"] * (size[0] - place["dead_rows"]) // size[0]
                assert own["mu"][control]["HiResCAM"] == 0 and not dead[:, seen:].any()


def test_the_pictures_are_the_photographs_and_what_lies_below(found):
    """Every number of `below` leads to that picture: mirrored, the next, noise, grey."""
    named, (images, labels, names), *_ = played()
    mean, std = (torch.tensor(values)[:, None, None] for values in named.recipe.normalised)
    shown = (255 * (images * std + mean)).permute(0, 2, 3, 1).numpy()
    for number, one in enumerate(found["photographs"]):
        assert one["name"] == names[number]
        own = pixels(found, one["picture"])
        assert np.abs(own - shown[number]).mean() < 8 < np.abs(own - shown[number + 1]).mean()
        same, other, noise, grey = (one["below"][name] for name in found["controls"])
        assert labels.count(labels[number]) == 1 and "mirrored" in same["name"]
        assert np.abs(pixels(found, same["picture"]) - shown[number, :, ::-1]).mean() < 8
        assert np.abs(pixels(found, other["picture"]) - shown[number + 1]).mean() < 8
        assert names[number + 1] in other["name"] and pixels(found, noise["picture"]).std() > 30
        plain = 255 * np.array(named.recipe.mean)
        assert np.abs(pixels(found, grey["picture"]) - plain).max() < 3


def test_a_network_that_no_wall_within_an_image_fits():
    """Stacked alone; classes without names; photographs that nobody named, two of a class; a method
    that scores pixels is left out.
    """
    named = zoo.get("efficientnet-lite0@none")
    images = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    report = check(named.network, ["Saliency", "GradCAM"], images, [0, 1, 0], progress=False)
    unnamed = zoo.Named(named.name, named.network, named.recipe, named.weights, None)
    found = play(unnamed, images, report)
    assert [place["stacked"] for place in found["places"]] == [True]
    assert found["methods"] == ["GradCAM"]
    assert [one["name"] for one in found["photographs"]] == [f"photograph {n}" for n in (1, 2, 3)]
    first, second, _ = (one["below"]["same class"] for one in found["photographs"])
    assert first["name"] == "another of the class: photograph 3"
    assert first["picture"] == found["photographs"][2]["picture"] and "mirrored" in second["name"]
    largest = found["places"][0]["photographs"][0]["logits"]
    assert len(largest) == 5 and all(name.startswith("class ") for name, _ in largest)


def test_what_does_not_fit_is_said():
    named, (images, labels, names), report, _ = played()
    with pytest.raises(ValueError, match=r"^images: got 19; takes the 20 of the report$"):
        play(named, images[:19], report, names)
    few = check(named.network, ["Saliency"], images[:2], labels[:2], progress=False)
    with pytest.raises(
        ValueError, match=r"^methods: got Saliency; takes one that is neither costly nor of pixels$"
    ):
        play(named, images[:2], few, names)
