"""benchmarks.spread: what is run anew, and what the tolerances are made of."""

import re

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, copy_tree

from benchmarks import spread, ten
from walls.base import params
from walls.images.stacked import DATASETS
from walls.project.tolerance import prediction


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


def test_distances_by_hand():
    runs = [
        line("as committed"),
        line("1 thread", 97.5, 14.5),
        line("seed 1", 97.0, 17.0),
        line("seed 2", 98.5, 14.0),
        line("float32", 98.0, 15.5),
        line("float32, no AVX-512", 97.8, 15.6, "inconclusive"),
    ]
    table = pd.DataFrame(runs)
    far = spread.distances(table).set_index("")
    things = ["threads", "seeds", "precision", "AVX-512"]
    assert far.loc["GradCAM, stack-mix, mean", things].tolist() == pytest.approx([0.5, 2.5, 1, 0.1])
    assert (
        far.loc["masked top1", "seeds"] == 1 and far.loc["baseline top1", "standard deviation"] == 0
    )
    page = spread.report(table, "c" * 40)
    assert "- a claim: 5 holds, 1 inconclusive" in page and "no AMX" in page
    rows = re.findall(r"^\| (.+?, mean|\w+ top1) +\| +([\d.]+ to [\d.]+) +\| ", page, re.M)
    mean = [row["GradCAM, stack-mix, mean"] for row in runs]
    low, high = prediction(np.array(mean), 1)
    assert ("GradCAM, stack-mix, mean", f"{low:.1f} to {high:.1f}") in rows
    assert "baseline top1" not in dict(rows)  # which never moved


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


@pytest.mark.slow
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


def test_the_page_says_what_verify_takes():
    page = (ROOT / "benchmarks" / "spread.md").read_text()
    table = pd.read_csv(ROOT / "benchmarks" / "spread.csv", dtype={"weights": str})
    assert page.endswith(f"## Where honest runs lie\n\n{spread.tolerated(table)}\n")


def network(number, mean=15.0, lit=80.0):
    cells = {"mean": mean, "std": 10.0, "mean_raw": mean, "images": 100, "empty": 0, "lit": lit}
    head = {"weights": f"{number:08d}", "precision": "bfloat16", "top1": 97.0, "top5": 100.0}
    return pd.DataFrame(
        [{**head, "dataset": d, "network": number, "method": "GradCAM", **cells} for d in DATASETS]
    )


@pytest.mark.slow
def test_ten_networks_each_once(tmp_path, monkeypatch):
    """Only what is missing is trained, in a copy that asks for as many; a line a network is kept."""
    project = copy_tree(tmp_path / "project")
    monkeypatch.chdir(project)
    ran = []

    def prepared(folder, commit, preset, stages):
        assert stages == ["stacks"]
        base = folder / "base"
        base.mkdir()
        for name, source in (("dvc.yaml", "dvc.yaml"), ("params.yaml", "presets/smoke.yaml")):
            (base / name).write_text((ROOT / source).read_text())
        return base

    def run(copy, number):
        asked = params.read(copy / "params.yaml")["train"]["again"]
        ran.append((number, asked))
        return network(number, 15.0 + number, 40.0 if number == 1 else 80.0)

    monkeypatch.setattr(ten, "prepared", prepared)
    monkeypatch.setattr(ten, "call", lambda *command: None)
    monkeypatch.setattr(ten, "run", run)
    wanted = ["--preset", "smoke", "--folder", str(tmp_path / "ten"), "--networks"]
    assert ten.main([*wanted, "2"]) == ten.main([*wanted, "3"]) == ten.main([*wanted, "3"]) == 0
    assert ran == [(0, [1]), (1, [1]), (2, [1, 2])]
    (folder,) = (tmp_path / "ten").iterdir()
    table = pd.read_csv(folder / "ten.csv", dtype={"weights": str})
    assert table["network"].tolist() == [0, 0, 1, 1, 2, 2] and table["weights"][2] == "00000001"
    page = (folder / "ten.md").read_text()
    assert re.search(
        r"stack-mix +\| GradCAM +\| 16.0 ± 1.0 +\| 15.0 to 17.0 +\| .* \| 2 of 3", page
    )


@pytest.mark.pipeline
def test_a_networks_lines_are_its_runs(smoke, tmp_path, monkeypatch):
    """Of finished stages nothing runs again: the numbers are those that notebook 7 wrote."""
    monkeypatch.chdir(smoke)
    monkeypatch.setattr(ten, "call", lambda *command: None)
    found = pd.concat([ten.run(smoke, number) for number in (0, 1)])
    written = pd.read_csv(smoke / "figures" / "by_network.csv")
    keys = ["dataset", "network", "method"]
    both = found.set_index(keys)[["mean", "lit", "images"]]
    pd.testing.assert_frame_equal(
        both.sort_index(), written.set_index(keys)[both.columns].sort_index(), atol=1e-3
    )
    assert found["weights"].nunique() == 2
