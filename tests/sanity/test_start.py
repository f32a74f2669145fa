"""Notebook 0: its numbers are notebook 9's, or another library's of the same map."""

import json
import shutil

import pandas as pd
import pytest
import torch
from conftest import ROOT
from pytorch_grad_cam import GradCAM

from walls.network import zoo
from walls.network.behind import behind
from walls.sanity import start
from walls.sources import packaged


@pytest.fixture(scope="module")
def lite0():
    return zoo.get("efficientnet-lite0")


@pytest.fixture(scope="module")
def photographs(lite0):
    return packaged.photographs("packaged", lite0.recipe)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, photographs):
    """What stage `networks` leaves, of the committed run: its report, and its images' classes."""
    folder = tmp_path_factory.mktemp("networks")
    shutil.copyfile(ROOT / "metrics" / "networks.json", folder / "networks.json")
    rows = {"network": "efficientnet-lite0", "image": range(20), "class": photographs[1]}
    pd.DataFrame(rows).to_csv(folder / "networks.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def one(folder, lite0, photographs):
    return start.start(folder, lite0, photographs[0])


def test_only_what_lies_below_the_first_photograph_is_needed():
    assert start.needed([3, 3, 5]) == [0, 1, 2]
    assert start.needed([3, 5, 5, 3]) == [0, 1, 3]
    assert start.needed([3, 5, 7]) == [0, 1]


def test_the_photographs_activity_by_another_library(one, lite0, photographs):
    """µ of pytorch-grad-cam's map, with the photograph mirrored below and with another below."""
    first, second = photographs[0][:2]
    model = behind(lite0.network)
    assert photographs[1].count(photographs[1][0]) == 1  # alone of its class: mirrored
    for control, lower in (("same class", first.flip(2)), ("another class", second)):
        image = torch.cat([first, lower], 1)[None]
        with GradCAM(model, [model.layer]) as cam:
            theirs = torch.from_numpy(cam(image, targets=None)).double()[0]
        mu = theirs[240:].norm() / theirs.norm()
        assert start.activity(one.report, "GradCAM", control) == f"{100 * mu:.1f}"
        assert f"{100 * mu:.1f}" in start.headline_caption(one)
    assert "the same photograph lies there, mirrored" in start.headline_caption(one)
    assert int(model(image).argmax()) == photographs[1][0] and one.shows == "bull mastiff"


def test_the_certificate_says_what_was_done(one):
    said = start.certificate(one)
    assert (
        said.startswith("224 of 448 rows are hidden. Are all logits of 2 images")
        and said.count("True") == 3
    )
    assert "gradient of a logit there is 0;" in said


def test_the_table_is_of_notebook_9(one):
    """Every cell of its first four rows stands in metrics/networks.json."""
    report = json.loads((ROOT / "metrics" / "networks.json").read_text())["efficientnet-lite0"]
    table = start.table(one)
    assert table.shape == (5, 5)
    for row in report["activity"]:
        if row["method"] in start.ROWS:
            cell = table.loc[row["method"], row["control"]]
            assert cell == f"{row['mean']:.1f} [{row['ci_low']:.1f}, {row['ci_high']:.1f}]"
    assert table.loc[start.UNIFORM, "grey"] == f"{100 * (208 / 448) ** 0.5:.1f}"
    assert "20 photographs of 19 classes" in start.table_caption(one)
    assert "rows 240 to 447" in start.table_caption(one)
    assert one.mirrored == 18 and "18 photographs have none" in start.table_caption(one)


def test_the_verdict_has_the_means(one):
    report = json.loads((ROOT / "metrics" / "networks.json").read_text())["efficientnet-lite0"]
    means = [row["mean"] for row in report["activity"] if row["method"] == "GradCAM"]
    said = ", ".join(
        f"{mean:.1f} ({control})" for mean, control in zip(means, start.CONTROLS, strict=True)
    )
    assert f"GradCAM {said}; HiResCAM 0.0 whatever lies there;" in start.verdict(one)
    assert "lower 224 of 448 rows (certified)" in start.verdict(one)


def test_captions_are_markdown(one):
    for caption in (start.headline_caption, start.table_caption, start.maps_caption):
        said = caption(one)
        assert said._repr_markdown_() == said and said.startswith("*") and said.count("*") == 2


def test_a_run_of_few_methods_has_fewer_rows(one):
    """As the smoke preset's: GradCAM and HiResCAM alone."""
    few = dict(one.measured)
    few["verdicts"] = {name: few["verdicts"][name] for name in start.METHODS}
    fewer = start.Start(one.name, few, one.classes, one.report, one.shows)
    assert list(start.table(fewer).index) == [*start.METHODS, start.UNIFORM]


def test_what_is_not_there_is_said(folder, lite0, tmp_path):
    with pytest.raises(
        ValueError, match=r"^networks\.json: not there; takes a `dvc repro networks`"
    ):
        start.measured(tmp_path, "efficientnet-lite0")
    with pytest.raises(ValueError, match=r"names: got resnet; takes one of efficientnet-lite0$"):
        start.measured(folder, "resnet")
    with pytest.raises(ValueError, match=r"images: got 3 photographs; takes the 20 of networks"):
        start.start(folder, lite0, torch.zeros(3, 3, 224, 224))


def test_photographs_after_those_that_were_measured_change_nothing(one, lite0, photographs, folder):
    """As where `networks` takes the first of many."""
    more = torch.cat([photographs[0], torch.zeros(2, 3, 224, 224)])
    again = start.start(folder, lite0, more)
    assert again.report.table.equals(one.report.table) and again.classes == one.classes
