"""Every wall at once: the backbone stays, no head reads below its wall, and figure and page show
the numbers measured.
"""

import base64
import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny, noise
from PIL import Image

from walls.base import seeds
from walls.images import transforms
from walls.network import certificate, classifier
from walls.saliency.activity import activity, upscale
from walls.saliency.settings import Cams
from walls.sweep import heads, plots
from walls.sweep import page as sweep_page
from walls.sweep.settings import Sweep

SETTINGS = Cams(
    methods=["GradCAM", "HiResCAM"],
    batch_size=4,
    precision="float32",
    opticam_steps=3,
    opticam_lr=0.1,
)
CLASSES = dict(enumerate("abcde"))
KINDS = pd.Series(["fox", "owl", "fox"])  # of the three stacked images


@pytest.fixture
def baseline():
    return make_tiny(wall_rows=0)


def weights(network) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def same(before, network) -> bool:
    after = network.state_dict()
    return before.keys() == after.keys() and all(
        torch.equal(before[name], after[name]) for name in before
    )


def pictures(n: int, seed: int = 0) -> torch.Tensor:
    return ((noise(n, seed=seed) / 3 + 0.5).clamp(0, 1) * 255).to(torch.uint8)


def manifest(tmp_path, n: int) -> pd.DataFrame:
    for i, image in enumerate(pictures(n)):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(tmp_path / f"{i}.png")
    return pd.DataFrame(
        {"path": [str(tmp_path / f"{i}.png") for i in range(n)], "label": np.arange(n) % 5}
    )


def separable(n: int, seed: int) -> heads.Frozen:
    """Features whose class stands in the upper rows alone: channel c is lit where the label is
    c.
    """
    random = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % 5
    features = torch.rand(n, 16, 14, 14, generator=random)
    features[torch.arange(n), labels, 0] += 6
    return heads.Frozen(features, labels)


def test_features_are_the_baselines_of_every_image_once(baseline, tmp_path, monkeypatch):
    table, before = manifest(tmp_path, 7), weights(baseline)
    monkeypatch.setattr(heads, "BATCH", 4)
    frozen = heads.freeze(baseline, table, 224, 0)
    with torch.no_grad():
        expected = baseline.features(transforms.normalise(pictures(7)))
    torch.testing.assert_close(frozen.features, expected, rtol=1e-4, atol=1e-5)
    assert frozen.labels.tolist() == [0, 1, 2, 3, 4, 0, 1] and same(before, baseline)


def test_features_take_the_room_there_is(baseline, tmp_path):
    table, image = manifest(tmp_path, 7), 16 * 14 * 14
    whole = heads.freeze(baseline, table, 224, 0, room=7 * 4 * image)
    halved = heads.freeze(baseline, table, 224, 0, room=7 * 4 * image - 1)
    part = heads.freeze(baseline, table, 224, 0, room=3 * 2 * image + 1)
    assert (whole.features.dtype, halved.features.dtype) == (torch.float32, torch.bfloat16)
    assert torch.equal(halved.features, whole.features.bfloat16())
    assert torch.equal(halved.labels, whole.labels)
    kept = np.sort(seeds.stream(0, "sweep").permutation(7)[:3])
    assert torch.equal(part.features, halved.features[kept])
    assert torch.equal(part.labels, whole.labels[kept])


@pytest.mark.parametrize("rows", [6, 9, 13])
def test_a_head_learns_what_it_can_see_and_nothing_else_changes(baseline, rows):
    before, frozen = weights(baseline), separable(320, 0)
    kept = frozen.features.clone()
    network = heads.with_new_head(baseline, rows, 0)
    heads.train_head(network, frozen, 12, 0)
    scores = heads.accuracy(network, separable(200, 1))
    assert scores["top1"] > 0.8 and scores["top1_low"] < scores["top1"] <= scores["top1_high"]
    assert same(before, baseline) and torch.equal(frozen.features, kept)
    assert network.features is baseline.features
    assert network.head[0].weight.shape == (24, 16, 14 - rows, 14)
    assert certificate.certify(network, 224).require().dead_rows == 134 - 16 * (14 - rows)
    again = heads.with_new_head(baseline, rows, 0)
    heads.train_head(again, frozen, 12, 0)
    assert same(weights(network.head), again.head)


def test_a_head_cannot_learn_from_behind_its_wall(baseline):
    """The class stands in the bottom row alone: about chance, a fifth."""
    train, spare = (
        heads.Frozen(frozen.features.flip(2), frozen.labels)
        for frozen in (separable(320, 0), separable(500, 1))
    )
    network = heads.with_new_head(baseline, 9, 0)
    heads.train_head(network, train, 12, 0)
    assert heads.accuracy(network, spare)["top1"] < 0.35


def test_a_loss_without_end_is_named(baseline):
    frozen = separable(10, 0)
    frozen.features[3, 0, 0, 0] = math.inf
    with pytest.raises(ValueError, match="the loss behind a wall of 9 rows is not finite"):
        heads.train_head(heads.with_new_head(baseline, 9, 0), frozen, 1, 0)


def swept(baseline, heights=(9, 13)) -> tuple[list[heads.Height], torch.Tensor]:
    train, val, images = separable(40, 0), separable(20, 1), pictures(3)
    sweep = Sweep(images=3, epochs=1)
    found = heads.every_height(baseline, heights, train, val, images, SETTINGS, sweep, 224, seed=0)
    return found, images


def test_every_height_is_certified_or_none(baseline, monkeypatch):
    whole = heads.with_new_head

    def leaking(baseline, rows, seed):
        network = whole(baseline, rows, seed)
        # Reads all rows, whatever the network says.
        network.head[0] = classifier.WallLinear(16, 14, 14, 24, 0)
        return network

    monkeypatch.setattr(heads, "with_new_head", leaking)
    with pytest.raises(ValueError, match="the dead zone of 54 rows"):
        swept(baseline)


def test_the_table_and_the_page_hold_what_was_measured(baseline):
    found, images = swept(baseline)
    table = heads.table(found, 0, KINDS)
    assert list(table["wall_rows"]) == [9, 9, 13, 13]
    assert list(table["dead_rows"]) == [54, 54, 118, 118]
    uniform = [49.0990, 49.0990, 72.5800, 72.5800]
    assert table["uniform"].tolist() == pytest.approx(uniform, abs=1e-4)
    assert (table[table["method"] == "HiResCAM"]["mean"].dropna() == 0).all()
    mu = [
        100 * activity(upscale(height.maps["GradCAM"], 224), height.zone.dead_rows)
        for height in found
    ]
    assert table[table["method"] == "GradCAM"]["mean"].tolist() == pytest.approx(
        [float(m.nanmean()) for m in mu], abs=1e-3
    )
    text = sweep_page.page(found, images, ["x", "y", "z"], CLASSES, 9)
    page = json.loads(text)
    assert text == sweep_page.page(found, images, ["x", "y", "z"], CLASSES, 9) and "NaN" not in text
    assert [height["dead_rows"] for height in page["heights"]] == [54, 118]
    assert page["trained"] == 9 and [image["name"] for image in page["images"]] == ["x", "y", "z"]
    for height, shown, values in zip(found, page["heights"], mu, strict=True):
        told = [math.nan if value is None else value for value in shown["mu"]["GradCAM"]]
        assert told == pytest.approx(values.tolist(), abs=1e-3, nan_ok=True)
        assert shown["predicted"] == [CLASSES[i] for i in height.measured["predicted"][:3]]
        for raw, encoded in zip(height.maps["GradCAM"], shown["maps"]["GradCAM"], strict=True):
            scores = np.frombuffer(base64.b64decode(encoded), np.uint8).reshape(14, 14)
            scaled = (raw - raw.min()) / (raw.max() - raw.min()).clamp_min(1e-30)
            assert np.abs(scores / 255 - scaled.numpy()).max() <= 0.5 / 255 + 1e-6


def test_an_empty_map_has_no_activity(baseline):
    found, images = swept(baseline, [9])
    found[0].maps["GradCAM"][1] = 0
    found[0].measured.loc[found[0].measured["method"] == "GradCAM", "mu"] = [0.25, math.nan, 0.75]
    (height,) = json.loads(sweep_page.page(found, images, ["x"] * 3, CLASSES, 9))["heights"]
    assert height["mu"]["GradCAM"] == [25.0, None, 75.0] and height["mean"]["GradCAM"] == 50.0
    assert base64.b64decode(height["maps"]["GradCAM"][1]) == bytes(196)


def test_the_figure_shows_every_number(baseline):
    found, _ = swept(baseline)
    table = heads.table(found, 0, KINDS)
    predictions = pd.DataFrame({"rank": [1, 1, 1, 2]})
    wall = {"wall_rows": 9, "dead_rows": 54, "dead_share": 54 / 224}
    trained = heads.trained(found[0].measured, predictions, wall, 0, KINDS)
    assert trained["top1"].tolist() == [0.75, 0.75]
    assert trained["mean"].tolist() == table["mean"][:2].tolist()
    figure = plots.height_curves(table, trained, 5)
    titles = ["top-1 accuracy (%)", "GradCAM, µ×100", "HiResCAM, µ×100"]
    assert [ax.get_title() for ax in figure.axes] == titles
    drawn = [[list(line.get_ydata()) for line in ax.lines] for ax in figure.axes]
    for line in ([100 * share for share in table["top1"][::2]], [75.0], [20.0, 20.0]):
        assert line in drawn[0]
    for method, lines in zip(("GradCAM", "HiResCAM"), drawn[1:], strict=True):
        own = table[table["method"] == method]
        assert len(lines) == 3
        assert own["mean"].tolist() in lines and own["uniform"].tolist() in lines


def test_without_training_images_it_says_so():
    table = heads.table([], 0, KINDS)
    assert list(table.columns) == heads.COLUMNS and table.empty
    page = json.loads(sweep_page.page([], pictures(2), ["x", "y"], {}, 9, "Skipped: because."))
    assert page["skipped"] == "Skipped: because."
    assert page["heights"] == page["images"] == page["methods"] == []
    assert plots.nothing("Skipped: because.").axes[0].texts[0].get_text() == "Skipped: because."
