"""What showcase/ holds: runs too long to repeat here, each as its own README says."""

import importlib.util
import json
import re
import subprocess
import zipfile

import nbformat
import pandas as pd
import pytest
import yaml
from conftest import ROOT
from PIL import Image

from benchmarks.gpu.showcase import object_seen
from walls.base import params
from walls.project import documents
from walls.saliency import methods as registry
from walls.saliency.controls import CONTROLS
from walls.sanity import entries
from walls.sources.imagenet import is_animal

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
IMAGENET = ROOT / "showcase" / "imagenet"  # notebook 9 alone; the others are whole pipelines
EVERY = sorted(folder for folder in (ROOT / "showcase").glob("*") if folder.is_dir())
METHODS = ROOT / "showcase" / "methods"  # every method, on two networks
SHOWCASES = [folder for folder in EVERY if folder not in (IMAGENET, METHODS)]


def metrics(folder, name):
    return json.loads((folder / "metrics" / f"{name}.json").read_text())


@pytest.fixture(params=SHOWCASES, ids=lambda folder: folder.name)
def folder(request):
    return request.param


def test_todays_code_takes_its_parameters(folder):
    """So that it can be made again: nothing is wrong but images that aren't here."""
    try:
        params.check(params.read(folder / "params.yaml"))
    except ValueError as error:
        absent = ("isn't there", "is no folder", "takes packaged, or a folder of photographs")
        wrong = str(error).splitlines()
        assert [line for line in wrong if not any(words in line for words in absent)] == []


def test_dvc_finds_every_value_that_it_looks_up(folder):
    """Where a key is missing `dvc repro` stops, though the code would take its default."""
    values, pipeline = params.read(folder / "params.yaml"), (ROOT / "dvc.yaml").read_text()
    keys = re.findall(r"\$\{((?!item)[\w.]+)\}", pipeline)
    for stage in yaml.safe_load(pipeline)["stages"].values():
        keys += (stage.get("do") or stage).get("params", [])
    assert "train.again" in keys
    for key in keys:
        found = values
        for part in key.split("."):
            assert part in found, key
            found = found[part]


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


def test_the_gpu_page_says_whether_the_hidden_object_has_an_effect():
    """By the committed intervals; and of made-up ones, whose answer is known."""
    gpu = ROOT / "showcase" / "tiny-imagenet-gpu"
    told = object_seen(pd.read_csv(gpu / "figures" / "control.csv"))
    assert told in (gpu / "README.md").read_text() and told.startswith("Every interval holds 0")
    rows = [("A", -1.0, 2.0), ("B", 0.1, 2.0), ("C", -3.0, -0.1), ("D", 0.0, 0.0)]
    made = pd.DataFrame(rows, columns=["method", "beyond_low", "beyond_high"])
    assert object_seen(made).endswith(": B, C.")


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


@pytest.mark.parametrize("folder", EVERY, ids=lambda folder: folder.name)
def test_its_pictures_are_there_and_small(folder):
    shown = re.findall(r"\]\(([\w./-]+\.png)\)", (folder / "README.md").read_text())
    assert shown
    for name in shown:
        with Image.open(folder / name) as picture:
            picture.load()
    assert sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) < 20_000_000


@pytest.mark.parametrize("folder", EVERY, ids=lambda folder: folder.name)
def test_the_commit_it_names_is_one_of_ours(folder):
    commits = set(re.findall(r"\b[0-9a-f]{40}\b", (folder / "README.md").read_text()))
    assert commits
    for commit in commits:
        asked = ["git", "cat-file", "-e", commit]
        if subprocess.run(asked, cwd=ROOT, capture_output=True).returncode:
            pytest.skip("not in this copy's history, which may be a shallow one")
        ours = ["git", "merge-base", "--is-ancestor", commit, "HEAD"]
        assert subprocess.run(ours, cwd=ROOT).returncode == 0


def test_imagenets_page_says_what_its_files_say():
    """The block, and the commit of every run."""
    text = (IMAGENET / "README.md").read_text()
    assert {name for _, name in documents.MARKER.findall(text)} == {"networks"}
    assert documents.filled(text, IMAGENET) == text
    runs, reports = metrics(IMAGENET, "runs"), metrics(IMAGENET, "networks")
    assert set(runs) == {f"{name}-{form}" for form, own in reports.items() for name in own}
    assert all(run["commit"] in text for run in runs.values())
    top1 = [f"| {100 * run['top1']:.1f}% | {run['costly_images']} |" for run in runs.values()]
    assert all(cell in text for cell in top1)


def test_imagenets_numbers_are_of_every_photograph():
    """Each mean again from the table of all photographs; exactly nothing where nothing can be."""
    table = pd.read_csv(IMAGENET / "metrics" / "networks.csv")
    reports, costly = metrics(IMAGENET, "networks"), {"ScoreCAM", "Opti-CAM"}
    runs = metrics(IMAGENET, "runs")
    assert set(reports) == {"stacked", "within"} and all(reports.values())
    for (form, name), part in table.groupby(["form", "network"]):
        report = reports[form][name]
        assert report["certificate"]["holds"] and part["class"].nunique() == 100
        assert part["wnid"].nunique() == 100 and all(map(is_animal, part["wnid"]))
        by = part.groupby(["method", "control"])["mu"]
        for row in report["activity"]:
            of = by.get_group((row["method"], row["control"]))
            assert row["mean"] == pytest.approx(100 * of.mean(), abs=0.01)
            asked = runs[f"{name}-{form}"]["costly_images"] if row["method"] in costly else 200
            assert row["images"] == len(of) == asked >= 8
        blind = part["method"].isin(["HiResCAM", "LayerCAM"])
        assert (part[blind]["mu"] == 0).all() and (part[~blind]["mu"] > 0.05).any()
        assert report["verdicts"]["GradCAM"] == "sees the object"


def test_imagenets_notebooks_ran_to_their_end():
    pages = {page.stem: page for page in (IMAGENET / "rendered").iterdir()}
    assert set(pages) == {f"9_networks-{name}" for name in metrics(IMAGENET, "runs")}
    for page in pages.values():
        cells = nbformat.read(page, as_version=4).cells
        kinds = {out.output_type for cell in cells for out in cell.get("outputs", [])}
        assert "error" not in kinds and "display_data" in kinds


@pytest.fixture(scope="module")
def make():
    spec = importlib.util.spec_from_file_location("make", IMAGENET / "make.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_imagenets_draw_is_the_seeds(make, tmp_path, monkeypatch):
    """Of a zip as of a folder: animals with two photographs, whatever else lies there."""
    monkeypatch.setattr(make, "CLASSES", 3)
    names = [f"val/n020{i}0000/ILSVRC2012_val_{i}{j}.JPEG" for i in range(1, 6) for j in range(i)]
    names += [f"val/n09000000/ILSVRC2012_val_9{j}.JPEG" for j in range(3)]  # no animal
    with zipfile.ZipFile(tmp_path / "val.zip", "w") as archive:
        for name in (*names, "val/n02050000/words.txt"):
            archive.writestr(name, name)
    zipfile.ZipFile(tmp_path / "val.zip").extractall(tmp_path / "whole")
    found = {}
    for place in ("val.zip", "whole/val"):
        make.draw(tmp_path / place, 5, tmp_path / "drawn" / place)
        files = (tmp_path / "drawn" / place).glob("*/*")
        found[place] = {"/".join(file.parts[-2:]): file.read_text() for file in files}
    drawn = found["val.zip"]
    assert drawn == found["whole/val"] and len(drawn) == 6
    assert sorted({name[:3] for name in drawn}) == ["000", "001", "002"]
    assert all(text.endswith(name[4:]) for name, text in drawn.items())
    assert not any("n02010000" in name or "n09000000" in name for name in drawn)
    make.draw(tmp_path / "val.zip", 6, tmp_path / "other")
    assert {"/".join(file.parts[-2:]) for file in (tmp_path / "other").glob("*/*")} != set(drawn)
    monkeypatch.setattr(make, "CLASSES", 9)
    with pytest.raises(ValueError, match=r"got 4 animal classes with 2 photographs; takes 9"):
        make.draw(tmp_path / "val.zip", 5, tmp_path / "none")


def test_the_table_of_all_methods_is_of_its_entries():
    """Each method of ours on each network, but those on attention; zero where it is promised."""
    text, table = (METHODS / "README.md").read_text(), entries.table(METHODS / "entries")
    assert documents.filled(text, METHODS) == text
    committed = pd.read_csv(METHODS / "methods.csv", keep_default_na=False, na_values=[""])
    pd.testing.assert_frame_equal(committed, table, check_dtype=False, atol=1e-4)
    ran = json.loads((METHODS / "run.json").read_text())
    assert ran["commit"] in text and f"{ran['seconds'] / 60:.0f} minutes" in text
    ours = {name for name in registry.METHODS if name not in registry.ATTENTION}
    assert len(ours) >= 30
    for _, part in table.groupby("network"):
        assert set(part["method"]) >= ours
        blind = part[part["guarantee"] == registry.BY_CONSTRUCTION]
        assert len(blind) >= 12 and (blind[list(CONTROLS)].max(axis=None) == 0)
    assert {file.parent.name for file in METHODS.glob("entries/*/*.json")} >= {"efficientnet-lite0"}
