"""The figures: as wide as LNCS's text, every letter legible and embedded, nothing cut off, told
apart without colour.
"""

import re
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, make_tiny, pdf_faults
from matplotlib.colors import to_rgb
from matplotlib.text import Text
from PIL import Image

from walls.figures.pictures import broken, contact_sheet, crop_sheet, saliency_grid
from walls.figures.rows import rows_needed
from walls.figures.style import DEAD, HEAT, SEEN, WIDTH, save, save_sheet, use_style
from walls.network import geometry
from walls.paper import drawing, table1
from walls.paper import plots as paper_plots
from walls.saliency import methods
from walls.saliency.controls import REDRAWN, STACKED
from walls.sweep import plots as sweep_plots
from walls.theory import plots as theory_plots
from walls.theory.formulas import sizes

ZONE = geometry.DeadZone((170, 5), (224, 14))  # of the paper's wall
NAMES = list(methods.CAMS)


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def activity(names: list[str]) -> pd.DataFrame:
    return pd.DataFrame(
        {"dataset": dataset, "method": name, "image": i, "mu": (7 * i + len(name)) % 100 / 100}
        for dataset in table1.PAPER_TABLE
        for name in names
        for i in range(9)
    )


def grid(count: int, names: list[str]) -> plt.Figure:
    maps = {name: torch.rand(count, 224, 224) for name in names}
    mu = {name: [np.nan if name == "GradCAM" else 1.0] * count for name in names}
    classes = ["hippopotamus"] * count
    return saliency_grid(pictures(count), maps, classes, ZONE, pd.DataFrame(mu))


def walls(heights) -> pd.DataFrame:
    """A row of the sweep's table per height and method."""
    same = {
        "top1": 0.5,
        "top1_low": 0.4,
        "top1_high": 0.6,
        "mean": 50,
        "ci_low": 40,
        "ci_high": 60,
        "uniform": 49,
    }
    return pd.DataFrame(
        {"wall_rows": rows, "dead_rows": 16 * rows - 90, "method": name} | same
        for rows in heights
        for name in NAMES[:8]
    )


IMAGE = np.random.default_rng(0).random((29, 29))
SIZE = sizes(IMAGE, 2, 2)
MAP = IMAGE[:28, :28]
POINTS = {n: (0.1 * n, 0.01) for n in (1, 2, 3)}
EXPECTED = ("exact expectation", "Monte Carlo mean", "bound (Eq. 5)", "one network")
MEANS = (*NAMES[:6], "AblationCAM, undivided")
CURVES = {
    "exact expectation": ([1, 2, 3], np.array([0.1, 0.2, 0.3])),
    "large-V limit": ([1, 2], np.array([0.2, 0.3])),
    "moment bound, ours": ([3], np.array([0.2])),
    "bound of Theorem 1 (Eq. 5)": ([3], np.array([0.1])),
}
HISTORY = pd.DataFrame(
    {"epoch": [1, 2], "train_loss": [2, 1], "top1": [0.1, 0.5], "top5": [0.5, 0.9]}
)


def controlled() -> pd.DataFrame:
    """A row of the control's table per dataset, method and control."""
    same = {"mean": 30, "ci_low": 20, "ci_high": 40, "on": 30, "on_low": 20, "on_high": 40}
    return pd.DataFrame(
        {"dataset": dataset, "method": name, "control": control, "area": 14} | same
        for dataset in table1.PAPER_TABLE
        for name in NAMES
        for control in STACKED
        if (dataset, control) != ("stack-mix", REDRAWN)
    )


def example() -> plt.Figure:
    return paper_plots.example(pictures(1)[0], torch.rand(14, 14), ZONE, "AblationCAM")


THEORY = {
    "model": lambda: theory_plots.model(SIZE, IMAGE.shape, 256, 2, 2, 1),
    "deep model": lambda: theory_plots.model(SIZE, IMAGE.shape, 256, 2, 2, 3),
    "digit": lambda: theory_plots.digit_and_map(IMAGE, MAP, SIZE, 2),
    "maps": lambda: theory_plots.expected_maps(dict.fromkeys(EXPECTED, MAP), 14),
    "means": lambda: theory_plots.methods(dict.fromkeys(MEANS, MAP), 14),
    "depth": lambda: theory_plots.depth_dependence(POINTS, [0.1, 0.2, 0.3], 2.0),
    "expectation": lambda: theory_plots.expectation(POINTS, CURVES),
    "predicted": lambda: theory_plots.predicted_class(
        {"K": [1, 10], "P(> 0)": [0.5, 0.9], "factor": [1, 3]}, {10: {"P(> 0)": 0.9, "factor": 3}}
    ),
}
DRAWN = THEORY | {
    "fig1": example,
    "fig4": lambda: drawing.network(make_tiny(), 224),
    "fig5": lambda: paper_plots.training_curves({"masked": HISTORY, "baseline": HISTORY}),
    "fig6": lambda: contact_sheet(pictures(8), ["STACK-MIX, hippopotamus"] * 8, 4, ZONE),
    "fig7": lambda: grid(2, NAMES[:8]),
    "methods": lambda: grid(1, NAMES),
    "activity": lambda: paper_plots.activity_plot(activity(NAMES), 0.491),
    "control": lambda: paper_plots.control(controlled(), 0.491),
    "eigencam": lambda: paper_plots.eigencam_signs(activity(NAMES), table1.PAPER_TABLE),
    "sweep": lambda: sweep_plots.height_curves(walls(range(6, 14)), walls([9]), 10),
    "rows-needed": lambda: rows_needed(make_tiny().zone(224), geometry.kinds(make_tiny().features)),
}


@pytest.mark.bulk
@pytest.mark.parametrize("name", DRAWN)
def test_as_wide_as_the_column_and_nothing_cut_or_tiny(name, tmp_path):
    figure = save(DRAWN[name](), tmp_path, name)
    assert pdf_faults(tmp_path / f"{name}.pdf") == []
    box = re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", (tmp_path / f"{name}.pdf").read_bytes())
    assert float(box[1]) > 345
    assert Image.open(tmp_path / f"{name}.png").width >= 1200
    drawn = figure.get_tightbbox()
    assert drawn.x0 > -0.005 and drawn.x1 < WIDTH + 0.005, "cut off at a side"
    letters = [t for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    assert letters and min(t.get_fontsize() for t in letters) >= 6


def test_titles_of_neighbours_dont_run_into_each_other():
    figure = grid(1, NAMES)
    figure.draw_without_rendering()
    boxes = [ax.title.get_window_extent() for ax in figure.axes if ax.title.get_text()]
    assert len(boxes) == len(NAMES) + 1
    assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


def test_a_contact_sheet_is_a_picture_alone(tmp_path):
    save_sheet(contact_sheet(pictures(3), ["a", "b", "c"], 3), tmp_path, "sheet")
    assert [path.name for path in tmp_path.iterdir()] == ["sheet.png"]
    assert Image.open(tmp_path / "sheet.png").width >= 1200


@pytest.mark.parametrize(
    "path", sorted((ROOT / "figures").glob("*.pdf")), ids=lambda path: path.stem
)
def test_the_committed_figures_fit_a_paper(path: Path):
    assert pdf_faults(path) == []


def lightness(colour) -> float:
    """L* of CIELAB, 0 to 100: what a greyscale print keeps."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
    return 116 * np.cbrt(np.dot((0.2126, 0.7152, 0.0722), linear)) - 16


def test_the_two_colours_differ_in_greyscale():
    assert abs(lightness(DEAD) - lightness(SEEN)) > 15


def test_the_colour_map_grows_lighter_and_jet_is_to_be_had():
    steps = [lightness(colour[:3]) for colour in plt.get_cmap(HEAT)(np.linspace(0.05, 1, 40))]
    assert (np.diff(steps) > 0.5).all()
    for heat, *chosen in ((HEAT,), ("jet", "jet")):
        use_style(*chosen)
        shown = [
            grid(1, NAMES[:2]).axes[1].images[1],
            example().axes[1].images[0],
            example().axes[2].images[1],
            THEORY["digit"]().axes[1].images[0],
            THEORY["maps"]().axes[0].images[0],
            THEORY["means"]().axes[0].images[0],
        ]
        assert {image.get_cmap().name for image in shown} == {heat}


@pytest.mark.parametrize("name", ["Ba$$in", "a $x_1$ b", "$", r"x\\y", "100 %"])
@pytest.mark.slow
def test_a_users_text_is_drawn_literally(name, tmp_path):
    """Never as a formula: Matplotlib fails on Ba$$in, and sets a $x_1$ b in italics."""
    sheet = contact_sheet(pictures(1), [name], 1)
    maps = {name: [torch.rand(224, 224)]}
    mu = pd.DataFrame({name: [0.5]})
    above = saliency_grid(pictures(1), maps, [name], ZONE, mu)
    every = paper_plots.activity_plot(activity([name, "GradCAM"]), 0.491)
    for number, figure in enumerate((sheet, above, every)):
        save(figure, tmp_path, str(number))
        texts = [text for text in figure.findobj(plt.Text) if text.get_text()]
        drawn = {text._preprocess_math(text.get_text())[0].replace("\n", " ") for text in texts}
        assert name in drawn
        assert not any(text._preprocess_math(text.get_text())[1] is True for text in texts)


def test_long_names_are_broken():
    names = {
        "GradCAM": "GradCAM",
        "AblationCAM": "Ablation\nCAM",
        "EigenCAM (sign fixed)": "EigenCAM\n(sign\nfixed)",
        "FEM": "FEM",
        "GradCAMElementWise": "Grad\nCAM\nElementWise",
    }
    assert {name: broken(name) for name in names} == names


def outlines(ax) -> list[tuple]:
    """Every red frame on a picture: left, top, width, height, in pixels."""
    red = [patch for patch in ax.patches if patch.get_edgecolor()[:3] == to_rgb(DEAD)]
    return sorted({(*patch.get_xy(), patch.get_width(), patch.get_height()) for patch in red})


def test_the_dead_zone_is_framed_where_it_is():
    """On an image, a raw map, a map over an image; and in the square that is cut out of a
    photograph.
    """
    image, raw, over = example().axes
    assert outlines(image) == outlines(over) == [(-0.5, 169.5, 224, 54)]
    assert outlines(raw) == [(-0.5, 4.5, 14, 9)]
    (sheet,) = crop_sheet([torch.zeros(3, 500, 448)], ["a"], [(30, 0, 448)], 1, ZONE).axes
    assert outlines(sheet) == [(-0.5, 30 + 340 - 0.5, 448, 108)]
