"""The control of the paper's datasets: what replaces the hidden part, and where a map's mass lies."""

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.evaluations import ZONE, pictures, settings

from walls.images import stacked
from walls.images.transforms import normalise
from walls.network.geometry import DeadZone
from walls.saliency import controlled, controls, evaluation
from walls.saliency.activity import activity, upscale
from walls.saliency.controls import ANOTHER, GREY, NOISE, REDRAWN, SAME
from walls.saliency.maps import saliency_maps
from walls.sources.critters import draw_stack

CLASSES = ["tiger", "tiger", "panda", "tiger"]
SMALL = DeadZone((2, 2), (4, 4))  # four rows, two of them dead, maps of the image's size


@pytest.fixture(scope="module")
def scenes():
    """Four drawn scenes, and the same without the hidden animal."""
    return [
        torch.stack(
            [
                torch.from_numpy(draw_stack(0, i, 2 * i, 170, lower=lower)).permute(2, 0, 1)
                for i in range(4)
            ]
        )
        for lower in (True, False)
    ]


def test_without_the_animal_nothing_else_changes(scenes):
    """Above the edge no pixel; below it those of one object, which is most of them nowhere."""
    images, bare = scenes
    masks = stacked.covered(images, bare)
    assert torch.equal(images[:, :, :170], bare[:, :, :170]) and not masks[:, :170].any()
    beside = ~masks[:, None].expand_as(images)
    assert torch.equal(images[beside], bare[beside])
    shares = masks[:, 170:].float().mean((1, 2))
    assert (shares > 0.04).all() and (shares < 0.4).all()
    columns = masks.any(1)  # one animal: its columns are next to each other
    assert ((columns[:, 1:] & ~columns[:, :-1]).sum(1) + columns[:, 0] == 1).all()


def test_each_control_has_the_same_upper_part(scenes):
    images, bare = scenes
    found = controls.of_stacked(images, CLASSES, ZONE, bare, seed=3)
    assert [*found] == [SAME, REDRAWN, ANOTHER, NOISE, GREY]
    for replaced in found.values():
        assert len(replaced) == 4 and replaced[:].dtype == torch.uint8
        assert torch.equal(replaced[:][:, :, :170], images[:, :, :170])
        assert torch.equal(replaced[1:3], torch.stack([replaced[1], replaced[2]]))
    assert found[SAME] is images and found[REDRAWN] is bare
    for i, partner in enumerate([2, 2, 3, 2]):  # the next one of another class, around the end
        assert torch.equal(found[ANOTHER][i][:, 170:], images[partner][:, 170:])


def test_noise_and_grey_are_a_checks(scenes):
    """As `below` makes them, but in whole pixels, of which noise is cut off at black and white."""
    images, _ = scenes
    found = controls.of_stacked(images, CLASSES, ZONE, seed=3)
    exact = controls.below(normalise(images), [0, 0, 1, 0], seed=3)
    pixel = 1 / (2 * 255 * 0.224)  # half of one, over the smallest standard deviation
    grey, noise = (normalise(found[name][:])[:, :, 170:] for name in (GREY, NOISE))
    assert (grey - exact[GREY][:, :, 170:]).abs().max() <= pixel
    black, white = (normalise(torch.full((1, 3, 1, 1), v, dtype=torch.uint8)) for v in (0, 255))
    expected = exact[NOISE][:, :, 170:].clamp(min=black, max=white)
    assert (noise - expected).abs().max() <= pixel + 1e-6
    other = controls.of_stacked(images, CLASSES, ZONE, seed=4)[NOISE]
    assert not torch.equal(found[NOISE][0], other[0])
    assert not torch.equal(found[NOISE][0][:, 170:], found[NOISE][1][:, 170:])


def test_what_cannot_be_made_is_left_out_with_its_reason(scenes):
    found = controls.of_stacked(scenes[0], ["tiger"] * 4, ZONE)
    assert [*found] == [SAME, NOISE, GREY]
    assert controls.left_out(found) == (
        "no animal: skipped, only a scene that is drawn here (STACK-GEN of critters) can leave "
        "it out; another class: skipped, all images are of one class"
    )
    assert controls.left_out([SAME, REDRAWN, ANOTHER, NOISE, GREY]) == controls.left_out([]) == ""


def test_the_same_prediction_and_hirescam_at_0_whatever_is_hidden(tiny, scenes):
    """And GradCAM's is each image's own, by the definition."""
    images, bare = scenes
    asked = controls.of_stacked(images, CLASSES, ZONE, bare)
    chosen = settings(methods=["GradCAM", "ScoreCAM", "HiResCAM"])
    measured = pd.concat(
        [evaluation.evaluate(tiny, images, settings(methods=[m]), ZONE)[0] for m in chosen.methods]
    )
    table = controlled.under(tiny, asked, measured, chosen, ZONE)
    assert [*table["method"].unique()] == ["GradCAM", "HiResCAM"]  # ScoreCAM costs too much
    assert [*table["control"].unique()] == [*asked] and len(table) == 2 * 5 * 4
    assert (table.groupby("image")["predicted"].nunique() == 1).all()
    assert (table[table["method"] == "HiResCAM"]["mu"].dropna() == 0).all()
    for name in (REDRAWN, GREY):
        inputs = normalise(asked[name][:])
        raw = saliency_maps(tiny, inputs, ["GradCAM"])["GradCAM"]
        own = table[(table["method"] == "GradCAM") & (table["control"] == name)]
        assert own["mu"].to_numpy() == pytest.approx(
            activity(upscale(raw, 224), 54).numpy(), abs=1e-4, nan_ok=True
        )
    text = controlled.means(table).splitlines()
    assert text[0].split("  ")[-1].strip() == GREY and text[2].split()[0] == "HiResCAM"
    assert text[-1] == "Another hidden part changes the predicted class of 0 of 4 images."
    first = 100 * table[(table["method"] == "GradCAM") & (table["control"] == SAME)]["mu"].mean()
    assert float(text[1].split()[1]) == pytest.approx(first, abs=0.0501)
    changed = (table["image"] == 2) & (table["control"] == GREY)
    other = table.assign(predicted=table["predicted"] + changed)
    assert controlled.means(other).endswith("class of 1 of 4 images.")


def test_no_control_no_rows(tiny):
    images = pictures(2)
    measured, _ = evaluation.evaluate(tiny, images, settings(), ZONE)
    assert controlled.under(tiny, {}, measured, settings(), ZONE).empty
    costly = settings(methods=["ScoreCAM"])
    assert controlled.under(tiny, {SAME: images, GREY: images}, measured[:0], costly, ZONE).empty
    assert controlled.means(measured[:0].assign(control=SAME)).startswith("No control")


def test_where_the_mass_lies_by_hand():
    """A map of the image's size: 0, 1 at most; squares 9, 1, 4, 0 of 16 in the dead zone."""
    raw = torch.zeros(2, 4, 4)
    raw[0, 0, 0] = 4.0
    raw[0, 2], raw[0, 3, 0] = torch.tensor([3.0, 1.0, 2.0, 0.0]), 0.0
    masks = torch.zeros(2, 4, 4, dtype=torch.bool)
    masks[0, 2, 1:3] = True  # 2 of 8 pixels, 1 + 4 of 14
    masks[0, 0] = True  # seen: doesn't count
    masks[1, 3] = True  # above nothing at all: 4 of 8 pixels
    on, area = controlled.mass(raw, masks, SMALL)
    assert on[0].item() == pytest.approx(5 / 14, rel=1e-5) and torch.isnan(on[1])
    assert area.tolist() == [2 / 8, 4 / 8]


def test_an_even_map_has_as_much_on_the_animal_as_it_covers(scenes):
    """And one that is bright on it alone all of it: measured on the upscaled map."""
    images, bare = scenes
    masks = stacked.covered(images, bare)
    step = torch.zeros(4, 14, 14)
    step[:, 9:] = 1.0  # flat from row 152 on
    on, area = controlled.mass(step, masks, ZONE)
    assert on.numpy() == pytest.approx(area.numpy(), rel=1e-6)
    by_hand = [(images[i] != bare[i]).any(0)[170:].float().mean().item() for i in range(4)]
    assert area.numpy() == pytest.approx(by_hand, rel=1e-6)
    whole = masks.clone()
    whole[:, 170:] = True
    assert controlled.mass(step, whole, ZONE)[0].tolist() == [1.0] * 4
    table = controlled.where({"Step": step, "ScoreCAM": step}, images, bare, ZONE)
    assert [*table["method"]] == ["Step"] * 4 and [*table["image"]] == [0, 1, 2, 3]
    assert table["on"].to_numpy(float) == pytest.approx(by_hand, rel=1e-6)
    nothing = controlled.where({"Step": step}, images, None, ZONE)
    assert nothing.empty and [*nothing.columns] == ["image", "method", "on", "area"]


def test_batches_keep_the_images_order():
    """More images than go at once: every map meets its own mask."""
    count, random = controlled.BATCH + 3, np.random.default_rng(0)
    images = torch.zeros(count, 3, 4, 4, dtype=torch.uint8)
    bare, raw = images.clone(), torch.zeros(count, 4, 4)
    for i in range(count):
        row, column = random.integers(2, 4), random.integers(0, 4)
        images[i, :, row, column], raw[i, row, column] = 9, 1.0
    found = controlled.where({"Exact": raw}, images, bare, SMALL)
    assert found["on"].to_numpy(float) == pytest.approx(np.ones(count))


def test_wrong_shapes_are_named(scenes):
    images, bare = scenes
    with pytest.raises(
        ValueError, match=r"^bare: got \(3, 3, 224, 224\) beside \(4, 3, 224, 224\)"
    ):
        stacked.covered(images, bare[:3])
    with pytest.raises(ValueError, match=r"^masks: got \(4, 224, 224\) for maps \(2, 14, 14\)"):
        controlled.mass(torch.ones(2, 14, 14), stacked.covered(images, bare), ZONE)
