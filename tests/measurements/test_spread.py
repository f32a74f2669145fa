"""benchmarks.spread: what is run anew, and what the tolerances are made of."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, copy_tree

from benchmarks import spread
from walls.base import params
from walls.project import comparison


def line(setting, top1=98.0, mean=15.0, verdict="holds"):
    return {
        "commit": "c",
        "setting": setting,
        "precision": "bfloat16",
        "weights": "00112233",
        "masked top1": top1,
        "baseline top1": 99.0,
        "GradCAM, stack-mix, mean": mean,
        "GradCAM, stack-gen, mean": 20.0,
        "HiResCAM, stack-mix, mean": 0.0,
        "a claim": verdict,
    }


def test_tolerances_and_distances_by_hand():
    runs = [
        line("as committed"),
        line("1 thread", 97.5, 14.5),
        line("seed 1", 97.0, 17.0),
        line("seed 2", 98.5, 14.0),
        line("float32", 98.0, 15.5),
        line("float32, no AVX-512", 97.8, 15.6, "inconclusive"),
    ]
    table = pd.DataFrame(runs)
    moved = ([98, 97.5, 97, 98.5, 98, 97.8], [15, 14.5, 17, 14, 15.5, 15.6])
    top1, mean = (4 * 2**0.5 * np.std(values, ddof=1) for values in moved)
    found = comparison.tolerances(table)
    assert found.keys() == {
        "masked top1",
        "GradCAM, stack-mix",
    }  # what never moved must be equal, and needs no tolerance
    assert (
        top1 <= found["masked top1"] < top1 + 0.1
        and mean <= found["GradCAM, stack-mix"] < mean + 0.1
    )
    assert comparison.tolerances(table[:1]) == {}
    far = spread.distances(table).set_index("")
    things = ["threads", "seeds", "precision", "AVX-512"]
    assert far.loc["GradCAM, stack-mix, mean", things].tolist() == pytest.approx([0.5, 2.5, 1, 0.1])
    assert (
        far.loc["masked top1", "seeds"] == 1 and far.loc["baseline top1", "standard deviation"] == 0
    )
    page = spread.report(table, "c" * 40)
    assert "- a claim: 5 holds, 1 inconclusive" in page and "no AMX" in page
    tolerated = re.findall(r"^\| (masked top1|GradCAM, stack-mix) +\| +([\d.]+) \|$", page, re.M)
    assert {name: float(value) for name, value in tolerated} == found


def test_every_setting_changes_what_it_says(tmp_path):
    """The keys are those of params.yaml; the first run is that of the committed file."""
    assert spread.SETTINGS[spread.FIRST] == spread.Setting()
    assert [name for name in spread.SETTINGS if name.startswith("seed")] == [
        f"seed {n}" for n in (1, 2, 3, 4)
    ]
    for name, setting in spread.SETTINGS.items():
        file = tmp_path / "params.yaml"
        file.write_text((ROOT / "params.yaml").read_text())
        spread.edit(file, setting.params or {})
        assert name == spread.FIRST or setting.beside in spread.SETTINGS
        changed = params.load(file).model_dump()
        for key, value in (setting.params or {}).items():
            part, _, last = key.rpartition(".")
            assert (changed[part] if part else changed)[last] == value
        assert (changed == params.load(ROOT / "params.yaml").model_dump()) == (not setting.params)


def test_what_has_run_is_not_run_again(tmp_path, monkeypatch):
    project = copy_tree(tmp_path / "project")
    monkeypatch.chdir(project)
    ran = []
    monkeypatch.setattr(spread, "prepared", lambda folder, commit, preset: folder)

    def run(name, base, folder):
        ran.append(name)
        if name == "seed 1":  # another process, which began with other settings, ends first
            (file,) = tmp_path.glob("spread/*/spread.csv")
            others = pd.read_csv(file, dtype=str)
            pd.concat([others, others.assign(setting="float32")]).to_csv(file, index=False)
        return {key: value for key, value in line(name).items() if key != "commit"}

    monkeypatch.setattr(spread, "run", run)
    wanted = ["--preset", "smoke", "--folder", str(tmp_path / "spread"), "as committed", "seed 1"]
    assert spread.main(wanted[:-1]) == spread.main(wanted) == 0 and ran == [
        "as committed",
        "seed 1",
    ]
    (results,) = (tmp_path / "spread").iterdir()
    csv = pd.read_csv(results / "spread.csv", dtype=str)
    assert (
        csv["setting"].tolist() == [*ran, "float32"] and csv["weights"].tolist() == ["00112233"] * 3
    )
    csv.assign(commit="another").to_csv(results / "spread.csv", index=False)
    spread.main(wanted)
    assert ran == ["as committed", "seed 1"] * 2
    with pytest.raises(SystemExit):
        spread.main(["seed 9"])


def test_verify_tolerates_what_was_measured():
    """The table of the page, from the runs beside it; and no number of a method that never moved."""
    found = comparison.allowed_apart(comparison.in_folder(ROOT))
    page = (ROOT / "benchmarks" / "spread.md").read_text().partition("## Tolerances")[2]
    rows = re.findall(r"^\| ([^|]+?) +\| +([\d.]+) \|$", page, re.MULTILINE)
    assert {name: float(value) for name, value in rows} == found and len(found) > 20
    runs = pd.read_csv(ROOT / "benchmarks" / "spread.csv", dtype={"weights": str})
    for name, value in found.items():
        cells = [name] if name in runs else [f"{name}, mean", f"{name}, std"]
        widest = max(np.std(runs[cell], ddof=1) for cell in cells)
        assert value - 0.1 < 4 * 2**0.5 * widest <= value, name
    assert not [name for name in found if name.startswith(("HiResCAM", "LayerCAM", "uniform"))]
