"""`walls verify`: another run's results beside the committed ones, equal, near enough, or
neither.
"""

import itertools
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, copy_tree
from scipy import stats

from walls.images.stacked import DATASETS
from walls.project import commands, comparison, tolerance, verify

FILES = (
    "params.yaml",
    "dvc.lock",
    "benchmarks/spread.csv",
    "benchmarks/ten.csv",
    "figures/table1.csv",
    "metrics/wall.json",
    "metrics/theory.json",
    "metrics/train.json",
    "metrics/claims.json",
    "rendered/2_wall.ipynb",
    "rendered/6_cams-stack-mix.ipynb",
    "rendered/6_cams-stack-gen.ipynb",
)


def copied(folder):
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, folder / name)
    return folder


@pytest.fixture
def theirs(tmp_path):
    """The committed results alone, of parameters of which nothing was measured (presets/ isn't
    there): a cell may lie apart by its own interval.
    """
    return copied(tmp_path / "theirs")


@pytest.fixture
def other(tmp_path, theirs):
    """Another run's results: for now the same."""
    return copied(tmp_path / "other")


def compared(other) -> list[comparison.Check]:
    read = comparison.in_folder
    return comparison.compare(read(other.with_name("theirs")), read(other))


def verified(other) -> int:
    return commands.main(["verify", str(other), str(other.with_name("theirs"))])


def apart(other) -> set[tuple[str, str]]:
    return {(check.topic, check.what) for check in compared(other) if not check.agrees}


def change(file, path: list, value) -> None:
    """Put `value` where `path` leads in a JSON file; a function makes it of what is there."""
    content = json.loads(file.read_text())
    *way, last = path
    place = content
    for step in way:
        place = place[step]
    place[last] = value(place[last]) if callable(value) else value
    file.write_text(json.dumps(content))


def edit(other, row: tuple[str, str], **cells) -> None:
    table = pd.read_csv(other / "figures" / "table1.csv").set_index(["dataset", "method"])
    for cell, by in cells.items():
        table.loc[row, cell] += by
    table.reset_index().to_csv(other / "figures" / "table1.csv", index=False)


def span(top1) -> float:
    """How wide the 95% interval of an accuracy on 500 images is, by the beta distribution: what it
    may lie apart by itself.
    """
    right = round(500 * top1)
    low = stats.beta.ppf(0.025, right, 501 - right) if right else 0
    high = stats.beta.ppf(0.975, right + 1, 500 - right) if right < 500 else 1
    return high - low


def room(row: tuple[str, str]) -> float:
    """The same of a cell of Table 1: its interval, or 5 where that is narrower."""
    table = pd.read_csv(ROOT / "figures" / "table1.csv").set_index(["dataset", "method"])
    return max(table.loc[row, "ci_high"] - table.loc[row, "ci_low"], 5)


def test_a_run_agrees_with_itself(other, capsys):
    assert verified(other) == 0
    told = capsys.readouterr().out
    assert re.search(r"All \d+ agree\.$", told.strip())
    topics = [
        "geometry",
        "certificates",
        "theory",
        "images",
        "zeros",
        "accuracy",
        "Table 1",
        "verdict",
    ]
    assert re.findall(r"^## (.*)", told, re.MULTILINE) == topics
    checks = compared(other)
    claims = json.loads((ROOT / "metrics" / "claims.json").read_text())
    assert [check.what for check in checks if check.topic == "verdict"] == [
        row["claim"] for row in claims
    ]
    assert sum(check.topic == "Table 1" for check in checks) == len(
        pd.read_csv(ROOT / "figures" / "table1.csv")
    )
    assert {check.what for check in checks if check.topic == "zeros"} >= {
        "stack-mix HiResCAM",
        "stack-gen HiResCAM",
    }
    assert re.search(r"^\| dead_rows +\| 54 +\| 54 +\| equal +\| yes +\|$", told, re.MULTILINE)


@pytest.mark.parametrize(
    "name, path, value, topic, what",
    [
        ("wall", ["dead_rows"], 53, "geometry", "dead_rows"),
        ("wall", ["certified"], False, "geometry", "certified"),
        ("theory", ["Theorem 1: V = 64", "exact"], lambda x: x * (1 + 2e-5), "theory", "Theorem 1"),
        ("theory", ["Lemmas: Lemma 2, normal law", "holds"], False, "theory", "Lemmas"),
        ("theory", ["failed"], ["Lemmas"], "theory", "failed"),
        ("train", ["masked", "top1"], lambda x: x - 0.5, "accuracy", "masked top1"),
        ("train", ["baseline", "images_seen"], 14848, "accuracy", "baseline images_seen"),
    ],
)
def test_a_number_that_is_not_the_same(other, name, path, value, topic, what):
    change(other / "metrics" / f"{name}.json", path, value)
    assert apart(other) == {(topic, what)} and verified(other) == 1


def test_what_another_machine_may_round_otherwise(other):
    change(
        other / "metrics" / "theory.json", ["Theorem 1: V = 64", "exact"], lambda x: x * (1 + 5e-6)
    )
    change(other / "metrics" / "theory.json", ["Theorem 1: V = 64", "sampled"], lambda x: x * 1.1)
    change(other / "metrics" / "train.json", ["masked", "precision"], "float32")
    change(other / "metrics" / "train.json", ["masked", "top1"], lambda x: x - 0.99 * span(x))
    row = ("stack-mix", "GradCAM")
    near = 0.99 * room(row)
    edit(other, row, mean=near, mean_raw=near, ci_low=2.8, ci_high=3.1, std=-1.0, empty=2)
    assert apart(other) == set() and verified(other) == 0


FAR = 1e6  # stands for just farther than the row's own interval


@pytest.mark.parametrize(
    "row, cells, where",
    [
        (("stack-mix", "GradCAM"), {"mean": FAR}, {"Table 1"}),
        (("stack-gen", "ScoreCAM"), {"std": FAR}, {"Table 1"}),
        (("stack-gen", "FEM"), {"mean_raw": -FAR}, {"Table 1"}),
        (("stack-gen", "Opti-CAM"), {"images": -1}, {"Table 1"}),
        (("stack-gen", "Opti-CAM"), {"empty": 20}, {"Table 1"}),
        (("stack-mix", "uniform map"), {"mean": 0.001}, {"Table 1"}),
        (("stack-mix", "HiResCAM"), {"mean_raw": 1e-9}, {"zeros"}),
        (("stack-mix", "LayerCAM"), {"mean": 0.3}, {"zeros", "Table 1"}),
        # Nothing forbids what this run didn't show.
        (("stack-mix", "SegEigenCAM"), {"mean": 0.3, "std": 2.8}, set()),
        (("stack-mix", "SegEigenCAM"), {"mean": FAR}, {"Table 1"}),
    ],
)
def test_a_cell_that_is_too_far(other, row, cells, where):
    far = 1.01 * room(row)
    edit(
        other, row, **{name: far * by / FAR if abs(by) == FAR else by for name, by in cells.items()}
    )
    assert apart(other) == {(topic, " ".join(row)) for topic in where}


def of_the_default(theirs):
    """The committed run as one of the default's parameters, with what was measured of them."""
    (theirs / "presets").mkdir()
    shutil.copyfile(theirs / "params.yaml", theirs / "presets" / "critters.yaml")


def without_the_ten(theirs):
    """What was measured before there were ten trainings: the runs of spread.csv alone."""
    (theirs / "benchmarks" / "ten.csv").write_text("commit,network\n")


def test_where_honest_runs_lie(other, theirs):
    """By the runs of spread.csv, eight networks: mean ± t · s · √(1/n + 1/8)."""
    without_the_ten(theirs)
    assert tolerance.expected(comparison.in_folder(theirs), 1) == {}
    of_the_default(theirs)
    runs = pd.read_csv(theirs / "benchmarks" / "spread.csv")
    values = runs["GradCAM, stack-mix, mean"]
    for count, root in ((1, 1.125), (3, 1 / 3 + 1 / 8)):
        found = tolerance.expected(comparison.in_folder(theirs), count)
        reach = stats.t.ppf(0.999, 7) * values.std(ddof=1) * root**0.5
        low, high = values.mean() - reach, values.mean() + reach
        assert found["GradCAM, stack-mix, mean"] == pytest.approx((low, high))
        assert not [name for name in found if name.startswith(("HiRes", "Layer", "uniform"))]
        baseline = tolerance.prediction(runs["baseline top1"].to_numpy(), 1)
        assert found["baseline top1"] == baseline and len(found) > 40


@pytest.mark.slow
def test_measured_runs_would_have_agreed(theirs):
    """Other seeds, threads, precision, instructions: any three of the eight runs, taken for one of
    three networks, lie where they must by the five others, but for one in ten.
    """
    of_the_default(theirs)
    without_the_ten(theirs)
    file = theirs / "benchmarks" / "spread.csv"
    runs = pd.read_csv(file)
    outside = []
    for left in itertools.combinations(runs.index, 3):
        runs.drop(list(left)).to_csv(file, index=False)
        expected = tolerance.expected(comparison.in_folder(theirs), 3)
        means = runs.loc[list(left), list(expected)].mean()
        means["baseline top1"] = runs.loc[left[0], "baseline top1"]  # of which there is one
        outside.append(any(not a <= means[name] <= b for name, (a, b) in expected.items()))
    assert len(outside) == 56 and len(expected) > 50 and np.mean(outside) < 0.1


def several(folder, means):
    """A run of three networks, all of GradCAM's and EigenCAM's numbers such as these."""
    table = pd.read_csv(folder / "figures" / "table1.csv")
    for cell in ("mean", "ci_low", "ci_high", "mean_raw"):
        table[cell] = table["method"].map(means).fillna(table[cell])
    table.to_csv(folder / "figures" / "table1.csv", index=False)
    each = table[table["method"] != "uniform map"].assign(lit=50.0)
    each = pd.concat([each.assign(network=number) for number in range(3)])
    each.to_csv(folder / "figures" / "by_network.csv", index=False)


def test_maps_that_show_nothing_are_no_honest_run(other, theirs):
    """Three networks whose GradCAM, or EigenCAM, is 0: outside, on both datasets."""
    of_the_default(theirs)
    several(other, {"GradCAM": 17.0, "EigenCAM": 30.0})
    told = {what for topic, what in apart(other) if topic == "Table 1"}
    assert not told & {f"{d} {m}" for d in DATASETS for m in ("GradCAM", "EigenCAM")}
    several(other, {"GradCAM": 0.0, "EigenCAM": 0.0})
    told = {what for topic, what in apart(other) if topic == "Table 1"}
    assert told >= {f"{d} {m}" for d in DATASETS for m in ("GradCAM", "EigenCAM")}


def test_the_ten_decide_once_they_are_there(theirs):
    of_the_default(theirs)
    without_the_ten(theirs)
    read, random = comparison.in_folder(theirs), np.random.default_rng(0)
    name = "GradCAM, stack-mix, mean"
    before = tolerance.expected(read, 3)
    rows = [
        {
            **{"network": n, "top1": 97 + n / 10, "top5": 100.0, "dataset": d, "method": "GradCAM"},
            **{"mean": random.normal(18, 3), "std": random.normal(15, 2), "mean_raw": 20.0 + n},
        }
        for n in range(10)
        for d in DATASETS
    ]
    file = theirs / "benchmarks" / "ten.csv"
    pd.DataFrame(rows[:10]).to_csv(file, index=False)  # five networks are too few
    assert tolerance.expected(read, 3) == before
    pd.DataFrame(rows).to_csv(file, index=False)
    after, own = (
        tolerance.expected(read, 3),
        [r["mean"] for r in rows if r["dataset"] == "stack-mix"],
    )
    assert after[name] == tolerance.prediction(np.array(own), 3) and after[name][0] > 5
    assert "GradCAM, stack-mix, mean_raw" in after and "EigenCAM, stack-mix, mean" not in after
    assert after["baseline top1"] == before["baseline top1"]
    assert after["masked top1"] == pytest.approx(tolerance.prediction(97 + np.arange(10) / 10, 3))


def test_a_new_mean_lies_where_predicted_as_often_as_said():
    random, level = np.random.default_rng(0), 0.1
    for many, count in ((8, 1), (8, 3), (10, 3)):
        inside = []
        for _ in range(2000):
            low, high = tolerance.prediction(random.normal(20, 4, many), count, level)
            inside.append(low <= random.normal(20, 4, count).mean() <= high)
        assert abs(np.mean(inside) - (1 - level)) < 0.03, (many, count)
    assert tolerance.prediction(np.array([1.0]), 3) is None
    assert tolerance.prediction(np.ones(10), 3) is None


def test_another_image_a_missing_line_and_a_broken_certificate(other):
    lock = other / "dvc.lock"
    lock.write_text(
        lock.read_text().replace(
            re.search(r"data/set\s+hash: md5\s+md5: (\w+)", lock.read_text())[1], "f" * 32
        )
    )
    file = other / "rendered" / "6_cams-stack-gen.ipynb"
    file.write_text(
        file.read_text().replace(
            "no logit reads the bottom 54 rows", "no logit reads the bottom 53 rows"
        )
    )
    table = pd.read_csv(other / "figures" / "table1.csv").iloc[1:]
    table.to_csv(other / "figures" / "table1.csv", index=False)
    nfiles = [check.what for check in compared(other) if check.topic == "images"]
    assert apart(other) == {
        ("images", *nfiles),
        ("certificates", "rendered/6_cams-stack-gen.ipynb"),
        ("Table 1", "stack-mix GradCAM"),
    }


def test_verdicts_move_by_one_step_and_only_a_trained_networks(other):
    claims = json.loads((ROOT / "metrics" / "claims.json").read_text())
    at = {row["claim"]: number for number, row in enumerate(claims)}
    trained = "GradCAM++ highlights the dead zone (µ×100 > 5) on most images"
    exact = "HiResCAM shows no activity in the dead zone, on any image"
    for verdict, wrong in (
        ("inconclusive", {exact}),
        ("fails", {exact, trained}),
        ("holds", set()),
    ):
        for claim in (trained, exact):
            change(other / "metrics" / "claims.json", [at[claim], "verdict"], verdict)
        assert claims[at[trained]]["verdict"] == "holds" and apart(other) == {
            ("verdict", claim) for claim in wrong
        }


def test_nothing_to_compare_is_said_in_a_line(other, theirs, capsys):
    params = other / "params.yaml"
    params.write_text(params.read_text().replace("rows: 9", "rows: 11"))
    empty = other / "empty"
    empty.mkdir()
    for folder, told in (
        (other, "params.yaml: wall differs; takes a run of the same parameters\n"),
        (empty, f"{empty / 'params.yaml'}: not there; takes a copy of the project after"),
    ):
        assert commands.main(["verify", str(folder), str(theirs)]) == verify.NOTHING == 2
        out, error = capsys.readouterr()
        assert error.startswith(told) and error.count("\n") == 1 and out == ""


def test_where_nothing_can_be_compared(tmp_path, monkeypatch, capsys):
    """Outside of a project, and where the disk takes no clone: 2, not the 1 of a disagreement."""
    monkeypatch.setattr(verify.tempfile, "tempdir", str(tmp_path / "none"))
    for folder, told in ((tmp_path, "no dvc.yaml in"), (ROOT, "No such file or directory")):
        monkeypatch.chdir(folder)
        assert commands.main(["verify"]) == 2
        out, error = capsys.readouterr()
        assert told in error and error.count("\n") == 1 and out == ""


@pytest.mark.slow
def test_what_is_committed_is_what_is_compared_with(tmp_path, monkeypatch, capsys):
    """Not what lies in the working tree; and a rerun is of the commit, in a clone that is gone
    afterwards.
    """
    project = copy_tree(tmp_path / "project")
    (project / "metrics" / "wall.json").write_text("{}")
    (project / "dvc.yaml").write_text("stages: {}")
    assert json.loads(comparison.committed(project)("metrics/wall.json"))["dead_rows"] == 54
    monkeypatch.chdir(project)
    monkeypatch.setattr(verify.tempfile, "tempdir", str(tmp_path))
    seen = []

    def repro(folder):
        seen.append((folder / "dvc.yaml").read_text() == (ROOT / "dvc.yaml").read_text())
        return 0

    monkeypatch.setattr(verify, "repro", repro)
    assert commands.main(["verify"]) == 0 and "agree." in capsys.readouterr().out
    assert seen == [True]
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    with pytest.raises(ValueError, match="not committed here"):
        comparison.committed(tmp_path)("metrics/wall.json")
