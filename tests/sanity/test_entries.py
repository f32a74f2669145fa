"""The table of all methods: entries written by `walls check --submit`, read as one table."""

import json
import re

import pytest
import torch
from torch import nn

from walls.project import check_command, commands
from walls.saliency import methods
from walls.saliency.controls import CONTROLS
from walls.sanity import entries
from walls.sanity.check import check
from walls.sanity.report import BLIND


@pytest.fixture(scope="module")
def report():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network = nn.Sequential(*layers, nn.Linear(6, 3))
    own = {"GradCAM": None, "Saliency": None, "Rows": lambda network, images, targets: rows(images)}
    images = torch.randn(6, 3, 32, 32)
    return check(network, own, images, [0, 0, 1, 1, 2, 2], layer="1", progress=False)


def rows(images):
    """A map whose scores are 1 above the middle and 2 below: µ = √(4/5) but for the leak."""
    heat = torch.ones(len(images), *images.shape[2:])
    heat[:, images.shape[2] // 2 :] = 2
    return heat


def test_an_entry_says_what_the_check_found_and_what_is_known(report):
    found = entries.entry(report, "Saliency", "mine")
    assert (found["method"], found["network"], found["verdict"]) == ("Saliency", "mine", BLIND)
    assert found["by"] == "Simonyan et al., 2014" and found["passes"] == "1"
    assert found["guarantee"] == methods.BY_CONSTRUCTION and found["certified"] is True
    assert [row["control"] for row in found["activity"]] == report.controls
    assert all(row["mean"] == 0 and row["images"] == 6 for row in found["activity"])
    with pytest.raises(ValueError, match="method: got FEM; takes GradCAM, Saliency, Rows"):
        entries.entry(report, "FEM", "mine")


def test_methods_on_few_images_take_the_controls_asked_for():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    network, images = nn.Sequential(*layers, nn.Linear(6, 3)), torch.randn(4, 3, 8, 8)
    given = {"few": {"SumCAM": 2}, "layer": "1", "progress": False}

    def taken(**more):
        names, classes = ["GradCAM", "SumCAM"], [0, 0, 1, 1]
        found = check(network, names, images, classes, **given, **more).table
        counts = found.groupby(["method", "control"], sort=False).size().to_dict()
        return {control: counts.get(("SumCAM", control), 0) for control in CONTROLS}, counts

    usual, counts = taken()
    assert usual == {"same class": 2, "another class": 2, "noise": 0, "grey": 0}
    assert all(counts["GradCAM", control] == 4 for control in CONTROLS)
    assert taken(few_controls=CONTROLS)[0] == dict.fromkeys(CONTROLS, 2)


def test_entries_come_back_as_one_table(report, tmp_path):
    written = entries.write(report, tmp_path, "timm:my net")
    assert [f.relative_to(tmp_path).as_posix() for f in written] == [
        f"timm-my-net/{name}.json" for name in ("GradCAM", "Saliency", "Rows")
    ]
    entries.write(report, tmp_path, "another")
    table = entries.table(tmp_path)
    assert list(table["network"]) == ["another"] * 3 + ["timm:my net"] * 3
    assert list(table["method"][:3]) == ["GradCAM", "Rows", "Saliency"]
    summary = report.summary().set_index(["method", "control"])
    for row in table.to_dict("records"):
        for control in report.controls:
            cell = summary.loc[row["method"], control]
            assert row[control] == pytest.approx(cell["mean"], abs=1e-4)
            assert row[f"{control} low"] == pytest.approx(cell["ci_low"], abs=1e-4)
        assert row["by"] == methods.BY.get(row["method"], "its author")


@pytest.mark.parametrize("content", ["{}", "no JSON", '{"method": 3}', "[]"])
def test_a_file_that_is_no_entry_is_named(tmp_path, content):
    file = tmp_path / "net" / "x.json"
    file.parent.mkdir()
    file.write_text(content)
    with pytest.raises(ValueError, match=r"x\.json: no entry .*takes a file that `walls check"):
        entries.table(tmp_path)


def test_a_method_of_a_users_own_file(tmp_path):
    (tmp_path / "mine.py").write_text("def my_cam(network, images, targets):\n    return 7\n")
    name, function = check_command._method(f"{tmp_path}/mine.py:my_cam")
    assert name == "my_cam" and function(0, 0, 0) == 7
    assert check_command._method("GradCAM") == ("GradCAM", None)


@pytest.mark.parametrize(
    "content, named, message",
    [
        (None, "gone.py:f", "fails"),
        ("def f(:", "x.py:f", "fails"),
        ("raise OSError('no GPU')", "x.py:f", r"fails \(no GPU\)"),
        ("f = 3", "x.py:f", "has no function f"),
        ("f = 3", "x.py:g", "has no function g"),
    ],
)
def test_a_users_file_that_does_not_work_is_one_line(tmp_path, capsys, content, named, message):
    if content is not None:
        (tmp_path / "x.py").write_text(content)
    asked = ["check", "torchvision:resnet18", "--weights", "none", "--methods"]
    code = commands.main([*asked, f"{tmp_path}/{named}", "--out", str(tmp_path / "out")])
    said = capsys.readouterr().err
    assert code == 1 and said.count("\n") == 1 and "--methods: got" in said
    assert re.search(message, said) and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_submit_writes_a_file_for_every_method(tmp_path, capsys):
    (tmp_path / "mine.py").write_text(
        "def my_cam(network, images, targets):\n    return images[:, 0].abs()\n"
    )
    out, table = tmp_path / "out", tmp_path / "table"
    asked = ["check", "torchvision:squeezenet1_1", "--weights", "none", "--out", str(out)]
    asked += ["--methods", "HiResCAM", f"{tmp_path}/mine.py:my_cam", "--submit", str(table)]
    assert commands.main(asked) == 0
    names = sorted(file.name for file in (table / "torchvision-squeezenet1_1").iterdir())
    assert names == ["HiResCAM.json", "my_cam.json"]
    found = json.loads((table / "torchvision-squeezenet1_1" / "my_cam.json").read_text())
    assert found["guarantee"] == "not stated" and found["verdict"] != BLIND
    assert "For the table of all methods:" in capsys.readouterr().out
