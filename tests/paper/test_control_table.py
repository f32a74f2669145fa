"""The control's table and sentences, against counting by hand; and its figure."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from walls.paper import control, plots
from walls.saliency.controls import ANOTHER, GREY, NOISE, REDRAWN, SAME
from walls.sanity.report import OBJECT

CLASSES = ["a", "a", "b", "b"]
REAL = {
    "lite": {
        "verdicts": {"GradCAM": OBJECT},
        "activity": [
            {"method": "GradCAM", "control": name, "mean": mean}
            for name, mean in ((SAME, 68.2), (ANOTHER, 6.94), (GREY, 0.0))
        ],
    }
}


def under(dataset="stack-gen", method="GradCAM", **mu):
    """A long table: `mu` of four images of two classes per control, its blanks as underscores."""
    rows = [
        (dataset, method, name.replace("_", " "), i, CLASSES[i], value, value)
        for name, values in mu.items()
        for i, value in enumerate(values)
    ]
    return pd.DataFrame(
        rows, columns=["dataset", "method", "control", "image", "class", "mu", "mu_raw"]
    )


def where(on, area, method="GradCAM"):
    columns = {"image": range(4), "class": CLASSES, "on": on, "area": area}
    return pd.DataFrame(columns | {"dataset": "stack-gen", "method": method})


NOTHING = where([np.nan] * 4, [0.1] * 4)[:0]


def table(found, mass=NOTHING):
    return control.tabulate(control.Control(found, mass))


def test_means_and_differences_by_hand():
    """Image by image, an empty map as 0; intervals of two classes lie between their means."""
    found = table(
        under(same_class=[0.2, 0.4, 0.3, 0.5], no_animal=[0.1, np.nan, 0.3, 0.3]),
        where([0.5, np.nan, 0.2, 0.2], [0.1, 0.9, 0.2, 0.3]),
    )
    same, bare = found.to_dict("records")
    assert (same["control"], same["mean"], same["difference"]) == (SAME, 35.0, 0.0)
    assert (same["ci_low"], same["ci_high"]) == pytest.approx((30.0, 40.0))
    assert bare["control"] == REDRAWN and (bare["images"], bare["empty"]) == (4, 1)
    assert bare["mean"] == pytest.approx(100 * 0.7 / 3)
    assert bare["difference"] == pytest.approx(17.5)  # 10, 40, 0, 20
    assert (bare["difference_low"], bare["difference_high"]) == pytest.approx((10.0, 25.0))
    assert (bare["on"], bare["area"]) == pytest.approx((30.0, 20.0))  # of the images with mass
    assert (bare["on_low"], bare["on_high"]) == pytest.approx((20.0, 50.0))
    assert np.isnan(same["on"])
    cells = control.wide(found)
    assert cells.loc[("STACK-GEN", "GradCAM"), SAME] == "35.0"
    assert cells.loc[("STACK-GEN", "GradCAM"), REDRAWN] == "23.3 (-17.5 [-25.0, -10.0])"
    assert cells.loc[("STACK-GEN", "GradCAM"), "on the animal, %"] == "30 [20, 50]"


@pytest.mark.parametrize(
    ("left", "said"),
    [
        (
            [0.1, 0.1, 0.0, 0.0],
            "the hidden animal is what lights up: without it, most of GradCAM's µ is",
        ),
        (
            [0.2, 0.2, 0.1, 0.1],
            "the hidden animal is part of what lights up: without it, about half of",
        ),
        (
            [0.3, 0.3, 0.3, 0.3],
            "the hidden animal is part of what lights up: without it, less than half",
        ),
        (
            [0.4, 0.4, 0.3, 0.3],
            "no effect of the hidden animal is shown: without it, GradCAM's µ×100 falls by 10.0 at "
            "most, if at all",
        ),
        (
            [0.5, 0.5, 0.4, 0.4],
            "no effect of the hidden animal is shown: without it, GradCAM's µ×100 falls by 0.0 at "
            "most, if at all",
        ),
    ],
)
def test_the_answer_follows_the_numbers(left, said):
    """With 0.4 on every image: the difference is more than half of it, as much, less, or nothing."""
    found = table(under(same_class=[0.4] * 4, no_animal=left))
    rows = found.set_index("control")
    assert control.answer(rows, "GradCAM").startswith(said)


def test_sentences():
    gen = under(
        same_class=[0.4] * 4,
        no_animal=[0.3] * 4,
        another_class=[0.1] * 4,
        noise=[0.2] * 4,
        grey=[0.0] * 4,
    )
    dark = under(method="HiResCAM", same_class=[0.0] * 4, no_animal=[0.0] * 4, grey=[0.0] * 4)
    rising = under(method="FEM", same_class=[0.2] * 4, no_animal=[0.3] * 4, grey=[0.3] * 4)
    mix = under("stack-mix", same_class=[0.2] * 4, another_class=[0.2] * 4, grey=[0.1] * 4)
    found = table(pd.concat([mix, gen, dark, rising]), where([0.12] * 4, [0.14] * 4))
    first, second, third = control.sentences(found, REAL).splitlines()
    assert first == (
        "STACK-MIX: no effect of the hidden animal's class is shown: without it, GradCAM's µ×100 "
        "falls by 0.0 at most, if at all. GradCAM's µ×100, another class instead: 20.0 → 20.0 (+0.0 "
        "[+0.0, +0.0]; 0 of the 1 methods above 5 fall); grey instead: 20.0 → 10.0 (-10.0 "
        "[-10.0, -10.0]; 1 of the 1 methods above 5 falls); no animal: skipped, only a scene that "
        "is drawn here (STACK-GEN of critters) can leave it out."
    )
    assert second.startswith(
        "STACK-GEN: the hidden animal is part of what lights up: without it, less than"
    )
    assert (
        "no animal instead: 40.0 → 30.0 (-10.0 [-10.0, -10.0]; 1 of the 2 methods above 5 falls)"
        in second
    )
    assert second.endswith(
        "12% [12, 12] of its mass in the dead zone lies on the animal, which covers 14% of the zone."
    )
    assert third == (
        "lite on photographs (notebook 9): GradCAM's µ depends on the hidden object. GradCAM's "
        "µ×100: same class 68.2, another class 6.9, grey 0.0."
    )
    blind = {"lite": REAL["lite"] | {"verdicts": {"GradCAM": "blind behind the wall"}}}
    assert "GradCAM's µ is not shown to depend on the" in control.sentences(found, blind)
    assert control.sentences(found[:0], REAL).startswith("No control")


def test_the_figure_shows_the_tables_numbers(tmp_path):
    mix = under("stack-mix", same_class=[0.2] * 4, another_class=[0.1] * 4, noise=[0.3] * 4)
    gen = under(same_class=[0.4] * 4, no_animal=[0.3] * 4)
    dark = under(method="HiResCAM", same_class=[0.0] * 4, no_animal=[0.0] * 4)
    found = table(pd.concat([mix, gen, dark]), where([0.12] * 4, [0.14] * 4))
    figure = plots.control(found, 0.49)
    left, middle, right = figure.axes
    points = {
        line.get_label(): line.get_xdata()[0] for line in left.lines if len(line.get_xdata()) == 1
    }
    assert points == pytest.approx({SAME: 20.0, ANOTHER: 10.0, NOISE: 30.0})
    assert [label.get_text() for label in left.get_yticklabels()] == ["GradCAM"]  # not HiResCAM
    points = {
        line.get_label(): line.get_xdata()[0] for line in middle.lines if len(line.get_xdata()) == 1
    }
    assert points == pytest.approx({SAME: 40.0, REDRAWN: 30.0})
    on, dashed = right.lines
    assert on.get_xdata()[0] == pytest.approx(12.0) and dashed.get_xdata()[0] == pytest.approx(14.0)
    assert len(plots.control(table(mix), 0.49).axes) == 1  # nothing redrawn, no last panel
    plots.control(table(dark), 0.49)
    plots.control(found[:0], 0.49)
    plt.close("all")
