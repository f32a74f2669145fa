"""What showcase/ holds: runs too long to repeat here, each as its own README says."""

import json
import re
import subprocess

import nbformat
import pandas as pd
import pytest
from conftest import ROOT
from PIL import Image

from walls.base import params
from walls.project import documents

# What there was to run when they ran.
NOTEBOOKS = {
    "1_theory",
    "2_wall",
    "3_data",
    "4_train",
    "5_stacks",
    "6_cams",
    "7_paper",
    "8_sweep",
}
SHOWCASES = sorted(folder for folder in (ROOT / "showcase").glob("*") if folder.is_dir())


def metrics(folder, name):
    return json.loads((folder / "metrics" / f"{name}.json").read_text())


@pytest.fixture(params=SHOWCASES, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def test_its_page_says_what_its_files_say(folder):
    """The blocks between markers, and the numbers in the text."""
    text = (folder / "README.md").read_text()
    assert {name for _, name in documents.MARKER.findall(text)} == {"summary", "results", "claims"}
    assert documents.filled(text, folder) == text
    train, used = metrics(folder, "train"), params.read(folder / "params.yaml")
    for which in ("masked", "baseline"):
        assert f"{which} {100 * train[which]['top1']:.1f}%" in text
    assert f"{used['train']['epochs']} epochs" in text
    assert f"{used['data']['classes']} classes" in text


def test_it_is_at_the_papers_geometry_and_knows_its_classes(folder):
    wall, train = metrics(folder, "wall"), metrics(folder, "train")
    used = params.read(folder / "params.yaml")
    assert (wall["image_rows"], wall["dead_rows"], wall["wall_rows"]) == (224, 54, 9)
    assert used["image_size"] == 224 and used["data"]["classes"] >= 20
    guessing = 1 / used["data"]["classes"]
    assert all(train[which]["top1"] >= 8 * guessing for which in ("masked", "baseline"))


def test_its_table_holds_the_paper_and_its_zeros(folder):
    table = pd.read_csv(folder / "figures" / "table1.csv").set_index(["dataset", "method"])
    assert {dataset for dataset, _ in table.index} == {"stack-mix"} and (
        table["images"] == 100
    ).all()
    for method, rows in table.groupby("method"):
        if method != "SegEigenCAM":  # zero behind the wall where its sign makes the rest positive
            assert (rows["mean"] == 0).all() == (method in ("HiResCAM", "LayerCAM")), method
    # The share of a uniform map's norm that lies in the dead zone: the root of its share of the
    # pixels.
    assert table.loc[("stack-mix", "uniform map"), "mean"] == pytest.approx(
        100 * (54 / 224) ** 0.5, abs=0.05
    )


def test_its_notebooks_ran_to_their_end(folder):
    """But for the sheets of many photographs, which aren't ours to spread."""
    pages = sorted((folder / "rendered").glob("*.ipynb"))
    if folder.name == "tiny-imagenet-gpu" and not pages:
        pytest.skip("made by benchmarks.gpu, which runs no notebook")
    assert {page.stem.split("-")[0] for page in pages} == NOTEBOOKS
    for page in pages:
        cells = nbformat.read(page, as_version=4).cells
        assert not [
            output
            for cell in cells
            for output in cell.get("outputs", [])
            if output.output_type == "error"
        ]
        assert all(
            cell.get("execution_count") or not cell.source
            for cell in cells
            if cell.cell_type == "code"
        )
    assert not list((folder / "figures").glob("*images*")) and not list(
        (folder / "figures").glob("stack-*")
    )


def test_its_pictures_are_there_and_small(folder):
    shown = re.findall(r"\]\(([\w./-]+\.png)\)", (folder / "README.md").read_text())
    assert shown
    for name in shown:
        with Image.open(folder / name) as picture:
            picture.load()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 12_000_000


def test_the_commit_it_names_is_one_of_ours(folder):
    (commit,) = set(re.findall(r"\b[0-9a-f]{40}\b", (folder / "README.md").read_text()))
    known = (
        subprocess.run(["git", "cat-file", "-e", commit], cwd=ROOT, capture_output=True).returncode
        == 0
    )
    if not known:
        pytest.skip("not in this copy's history, which may be a shallow one")
    assert (
        subprocess.run(["git", "merge-base", "--is-ancestor", commit, "HEAD"], cwd=ROOT).returncode
        == 0
    )
