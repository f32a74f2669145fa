"""Notebook 9's later sections: what they say, and what they do where a network isn't one for them."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from walls.network import zoo
from walls.sanity import cascade, classes, masking, plots_real, sections, sides
from walls.sanity.check import check


@pytest.fixture(scope="module")
def subject():
    """EfficientNet-Lite0 without its weights, on four noises of two classes, as notebook 9."""
    named = zoo.get("efficientnet-lite0@none")
    images = torch.randn(4, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    report = check(named.network, ["GradCAM"], images, [0, 1, 0, 1], progress=False)
    return sections.subject(named, images, report, 2)


def test_a_subject(subject):
    assert subject.classes == [0, 1, 0, 1] and len(subject.images) == 4
    assert torch.equal(subject.alike, subject.images[[2, 3, 0, 1]])
    upper, lower = subject.halves
    assert torch.equal(upper, subject.images[:2]) and torch.equal(lower, subject.images[2:])
    assert torch.equal(subject.stacks, torch.cat([upper, lower], dim=2))
    assert subject.model.zone().image_rows == 128
    fresh = zoo.get("efficientnet-lite0", weights="none", seed=7).network.state_dict()
    again = subject.fresh(7).state_dict()
    assert all(torch.equal(fresh[key], value) for key, value in again.items())


def test_what_does_not_fit_is_said(capsys):
    layers = [nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    deep = nn.Sequential(*layers, nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 3)).eval()
    deep[4].weight.data *= 50  # far from linear
    images = torch.rand(2, 3, 16, 16)
    found = sections.tried(classes.trained_and_random, deep, images, images)
    assert found is None and sections.shown(classes.wide, found) is None
    assert sections.drawn(plots_real.over_classes, found, None, "none") is None
    said = "Not for this network: network: its head isn't global average pooling"
    assert capsys.readouterr().out.startswith(said)
    assert sections.tried(max, 1, 2) == 2


def test_csv_of_what_was_made(tmp_path):
    sections.write(tmp_path, one=pd.DataFrame({"a": [1 / 3]}), other=None)
    assert [path.name for path in tmp_path.iterdir()] == ["one.csv"]
    assert (tmp_path / "one.csv").read_text() == "a\n0.333333\n"


def test_the_table_of_classes():
    own = np.full((1, 2, 2), 2.0)
    over = classes.OverClasses(
        mean=own,
        expected=own / 2,
        positive=np.full((1, 2, 2), 0.4),
        square=np.full((1, 2, 2), 1.5),
        class_positive=np.array([[0.25, 0.55], [0.3, 0.5]]),
        class_square=np.array([[1.0, 2.0], [1.5, 1.5]]),
        wall=1,
        tau=1.0,
        classes=2,
    )
    table = classes.wide({"trained": over})
    assert list(table.loc["trained", "seen"]) == ["2.00 ± 0.00", "0.40 ± 0.21", "1.50 ± 0.71", 2]
    assert list(table.loc["trained", "hidden"])[1:3] == ["0.40 ± 0.14", "1.50 ± 0.00"]


def test_sentences_and_figures_from_tables(subject):
    """Values put in by hand come out in words, and each figure draws them."""
    steps = pd.DataFrame(
        {
            "step": [0, 1, 2] * 2,
            "part": ["trained", "head", "stem"] * 2,
            "share": [0, 0.5, 1] * 2,
            "method": ["GradCAM"] * 3 + ["HiResCAM"] * 3,
            "mu": [0.6, 0.5, 0.7, 0, 0, 0],
            "rank": [1, 0.12, 0.03] * 2,
            "rank_seen": [1, 0.21, 0.04] * 2,
            "ssim": [1, 0.33, 0.05] * 2,
        }
    )
    said = cascade.sentence(steps)
    assert "With the head randomised, GradCAM's map has rank correlation 0.12" in said
    assert "(0.21 over the seen cells) and SSIM 0.33; with every part randomised, 0.03" in said
    assert "0.03 (0.04) and SSIM 0.05" in said
    assert "60.0 as trained and 50.0 after the first step" in said
    assert "GradCAM 50.0 to 70.0, HiResCAM 0.0 to 0.0" in said
    plt.close(plots_real.cascade(steps))
    rows = [
        {"hidden_rows": 32, "how": how, "place": place, "image": image, "class": image}
        | {"agrees": place != "middle", "logit_drop": 1.0, "drop": drop + image / 100}
        for how, place, drop in (
            ("wall", "top", 0.1),
            ("wall", "bottom", 0.3),
            ("grey band", "top", 0.2),
            ("grey band", "middle", 0.5),
            ("grey band", "bottom", 0.2),
        )
        for image in range(3)
    ]
    said = sides.sentence(pd.DataFrame(rows))
    assert "3 photographs." in said
    assert "wall, top against bottom: the class stays for 100% against 100%" in said
    assert "differs by -20.0 points [-20.0, -20.0]" in said
    assert "middle against bottom: the class stays for 0% against 100%" in said
    assert "30.0 points [30.0" in said
    plt.close(plots_real.costs(pd.DataFrame(rows)))
    names = (masking.GRADCAM, masking.SEEN_CELLS, masking.UNIFORM, masking.UNIFORM_SEEN)
    table = pd.DataFrame(
        [
            {"method": name, "image": image, "class": image, "mu": 0.5, "average_drop": 1.0}
            | {"average_increase": 0.0, "insertion": 0.1 * place, "deletion": 0.3 - 0.1 * place}
            for place, name in enumerate(names)
            for image in range(3)
        ]
    )
    said = masking.sentence(table)
    assert "GradCAM (seen cells) minus GradCAM: insertion +0.100 [+0.100" in said
    assert "minus uniform, seen part: insertion -0.200" in said and "deletion +0.200" in said
    assert masking.wide(table).loc["GradCAM", "µ×100 ↓"] == "50.0 [50.0, 50.0]"
    plt.close(plots_real.worth(table))
    over = classes.trained_and_random(subject.network, *subject.halves)
    plt.close(plots_real.over_classes(over))


def test_the_sections_of_one_subject(subject):
    """The calls that the notebook makes are the ones with this subject's own images."""
    steps = cascade.of_one(subject, ["GradCAM"], 1)
    direct = cascade.cascade(
        subject.network, [subject.fresh(1)], subject.images[:2], subject.images[2:], ["GradCAM"]
    )
    pd.testing.assert_frame_equal(steps, direct)
    assert steps["image"].nunique() == 2 and steps["step"].max() == 10
