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

from walls.figures.pictures import broken, contact_sheet, saliency_grid
from walls.figures.rows import rows_needed
from walls.figures.style import DEAD, HEAT, SEEN, WIDTH, save, save_sheet, use_style
from walls.network import geometry
from walls.paper import drawing, table1
from walls.paper import plots as paper_plots
from walls.saliency import methods
from walls.sweep import plots as sweep_plots
from walls.theory import plots as theory_plots
from walls.theory.formulas import sizes

FACTS = {"seen_rows": 170, "map_rows": 14, "wall_rows": 9}
NAMES = list(methods.METHODS)


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context():
        use_style()
        yield
    plt.close("all")


def pictures(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 224, 224, generator=torch.Generator().manual_seed(0))


def activity(names: list[str]) -> pd.DataFrame:
    rows = [
        (d, m, i, (7 * i + len(m)) % 100 / 100)
        for d in table1.PAPER
        for m in names
        for i in range(9)
    ]
    return pd.DataFrame(rows, columns=["dataset", "method", "image", "mu"])


def grid(count: int, names: list[str]) -> plt.Figure:
    maps = {name: torch.rand(count, 224, 224) for name in names}
    mu = pd.DataFrame(
        {name: [np.nan] * count if name == "GradCAM" else [1.0] * count for name in names}
    )
    return saliency_grid(pictures(count), maps, ["hippopotamus"] * count, 170, mu)


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
    return pd.DataFrame([{"wall_rows": rows, "dead_rows": 16 * rows - 90, "method": name} | same
                         for rows in heights for name in NAMES[:8]])  # fmt: skip


def theory(name: str) -> plt.Figure:
    image = np.random.default_rng(0).random((29, 29))
    size, heat = sizes(image, 2, 2), image[:28, :28]
    points = {n: (0.1 * n, 0.01) for n in (1, 2, 3)}
    return {
        "model": lambda: theory_plots.model(size, image.shape, 256, 2, 2, 1),
        "deep model": lambda: theory_plots.model(size, image.shape, 256, 2, 2, 3),
        "digit": lambda: theory_plots.digit_and_map(image, heat, size, 2),
        "maps": lambda: theory_plots.expected_maps(
            dict.fromkeys(("exact expectation", "Monte Carlo mean", "bound (Eq. 5)", "one network"), heat), 14),
        "means": lambda: theory_plots.methods(dict.fromkeys((*NAMES[:6], "AblationCAM, undivided"), heat), 14),
        "depth": lambda: theory_plots.depth_dependence(points, [0.1, 0.2, 0.3], 2.0),
        "expectation": lambda: theory_plots.expectation(points, {
            "exact expectation": ([1, 2, 3], np.array([0.1, 0.2, 0.3])), "large-V limit": ([1, 2], np.array([0.2, 0.3])),
            "moment bound, ours": ([3], np.array([0.2])), "bound of Theorem 1 (Eq. 5)": ([3], np.array([0.1]))}),
    }[name]()  # fmt: skip


DRAWN = {
    "fig1": lambda: paper_plots.example(pictures(1)[0], torch.rand(14, 14), torch.rand(224, 224), FACTS, "AblationCAM"),
    "fig4": lambda: drawing.network(make_tiny(), 224),
    "fig5": lambda: paper_plots.training_curves({which: pd.DataFrame({"epoch": [1, 2], "train_loss": [2, 1], "top1": [0.1, 0.5],
                                                       "top5": [0.5, 0.9]}) for which in ("masked", "baseline")}),
    "fig6": lambda: contact_sheet(pictures(8), ["STACK-MIX, hippopotamus"] * 8, 4, 170),
    "fig7": lambda: grid(2, NAMES[:8]),
    "methods": lambda: grid(1, NAMES),
    "activity": lambda: paper_plots.activity_plot(activity(NAMES), 0.491),
    "eigencam": lambda: paper_plots.eigencam_signs(activity(NAMES), table1.PAPER),
    "sweep": lambda: sweep_plots.height_curves(walls(range(6, 14)), walls([9]), 10),
    "rows-needed": lambda: rows_needed(make_tiny().zone(224), geometry.kinds(make_tiny().features)),
    **{name: lambda name=name: theory(name) for name in ("model", "deep model", "digit", "maps", "means", "depth",
                                                         "expectation")},
}  # fmt: skip


@pytest.mark.parametrize("name", DRAWN)
def test_as_wide_as_the_column_and_nothing_cut_or_tiny(name, tmp_path):
    figure = save(DRAWN[name](), tmp_path, name)
    assert pdf_faults(tmp_path / f"{name}.pdf") == []
    assert (
        float(re.search(rb"/MediaBox \[ 0 0 ([\d.]+)", (tmp_path / f"{name}.pdf").read_bytes())[1])
        > 345
    )
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
        figure = grid(1, NAMES[:2])
        assert figure.axes[1].images[1].get_cmap().name == heat
        assert theory("digit").axes[1].images[0].get_cmap().name == heat


def test_long_names_are_broken():
    names = ("GradCAM", "AblationCAM", "EigenCAM (sign fixed)", "FEM", "GradCAMElementWise")
    assert [broken(name) for name in names] == [
        "GradCAM", "Ablation\nCAM", "EigenCAM\n(sign\nfixed)", "FEM", "Grad\nCAM\nElementWise"]  # fmt: skip
