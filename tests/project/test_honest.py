"""What is committed is of one run of the committed sources: dvc.lock against the files in git, no
cache needed.
"""

import re

import pytest
import yaml
from conftest import ROOT, copy_tree, run

from walls.project.status import disagreeing, stale

pytestmark = pytest.mark.pipeline


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy as git would clone it, without any cache."""
    return copy_tree(tmp_path_factory.mktemp("honest") / "project")


@pytest.fixture(scope="module")
def known(project) -> list[str]:
    """What is stale already: none of it is of the faults below."""
    return stale(project)


@pytest.fixture
def lock() -> dict:
    return yaml.safe_load((ROOT / "dvc.lock").read_text())


def test_the_committed_results_are_of_the_committed_sources(known):
    assert not known, "\n".join(
        ["the results are of other sources; make repro, and commit what it makes", *known]
    )


def test_every_stage_used_what_the_stage_before_it_made(lock):
    assert disagreeing(lock) == []


@pytest.mark.parametrize(
    "name, old, new, told",
    [
        (
            "src/walls/stacks/build.py",
            "\n",
            "\n# another comment\n",
            "stacks: src/walls/stacks is modified",
        ),
        (
            "src/walls/network/geometry.py",
            "\n",
            "\n# another comment\n",
            "data: src/walls/network/geometry.py is modified",
        ),
        ("notebooks/2_wall.ipynb", "wall", "Wall", "wall: notebooks/2_wall.ipynb is modified"),
        ("metrics/wall.json", "54", "53", "paper: metrics is modified"),
        ("figures/table1.md", "GradCAM", "gradcam", "paper: figures is modified"),
        ("rendered/2_wall.ipynb", "54", "53", "render: rendered is modified"),
        ("rejects.csv", "\n", "\n\n", "stacks: rejects.csv is modified"),
        ("params.yaml", "rows: 9", "rows: 10", "wall: wall.rows in params.yaml is modified"),
        (
            "params.yaml",
            "lr: 0.05",
            "lr: 0.06",
            "train@masked: train.lr in params.yaml is modified",
        ),
        ("dvc.yaml", "walls run stacks", "walls  run stacks", "stacks: its command has changed"),
    ],
)
def test_one_change_without_a_rerun_is_found(project, known, name, old, new, told):
    file = project / name
    before = file.read_text()
    assert old in before and told not in known
    file.write_text(before.replace(old, new, 1))
    try:
        assert told in stale(project)
    finally:
        file.write_text(before)


def test_the_command_says_so_in_seconds(project, known):
    """Exit code 0 and one line, or 1 and a line for each result that is not of this code."""
    done = run(project, "python", "-m", "walls", "status", check=False)
    assert done.returncode == bool(known) and (known or "This code made figures/" in done.stdout)
    file = project / "notebooks" / "2_wall.ipynb"
    before = file.read_text()
    file.write_text(before.replace("wall", "Wall", 1))
    done = run(project, "python", "-m", "walls", "status", check=False)
    file.write_text(before)
    assert done.returncode == 1 and "wall: notebooks/2_wall.ipynb is modified" in done.stdout
    assert done.stdout.endswith(
        "This code did not make all of the results: `make repro` makes them anew.\n"
    )


def test_a_figure_too_many_or_too_few_is_found(project, known):
    figures = project / "figures"
    assert "paper: figures is modified" not in known
    (figures / "fig10.png").write_bytes(b"")
    assert "paper: figures is modified" in stale(project)
    (figures / "fig10.png").unlink()
    (figures / "fig1.png").rename(figures.parent / "fig1.png")
    assert "paper: figures is modified" in stale(project)
    (figures.parent / "fig1.png").rename(figures / "fig1.png")
    assert stale(project) == known


def test_results_of_two_runs_are_found(lock):
    (masked,) = (
        out for out in lock["stages"]["train@masked"]["outs"] if out["path"].startswith("models/")
    )
    masked["md5"] = "0" * 32
    assert disagreeing(lock) == [
        f"{name}: models/masked.safetensors isn't the one that train@masked made"
        for name in ("cams@stack-mix", "cams@stack-gen", "paper")
    ]


@pytest.mark.skipif(not (ROOT / "showcase").is_dir(), reason="no showcase")
def test_a_showcase_says_which_commit_it_is_of():
    """It isn't rerun with the rest, so it isn't of these sources but of those it names."""
    for folder in (path for path in (ROOT / "showcase").iterdir() if path.is_dir()):
        assert any(
            re.search(r"\b[0-9a-f]{40}\b", page.read_text()) for page in folder.glob("*.md")
        ), folder.name
    assert "showcase" in (ROOT / ".dvcignore").read_text()
