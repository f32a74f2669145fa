"""The house: stages list what they read, the lock and the environment are one, what is committed is
of one run.
"""

import json
import re
import tomllib

import pytest
import yaml
from conftest import ROOT
from helpers.imports import closure

from walls.base import params
from walls.project import log, runner

PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())
STAGES = PIPELINE["stages"]


@pytest.mark.parametrize("stage", [name for name in STAGES if name not in ("check", "render")])
def test_a_stage_depends_on_its_imports_and_no_more(stage):
    """Every module that its notebook reaches lies in what dvc.yaml names, and nothing else is named."""
    (notebook,) = (dep for dep in STAGES[stage]["deps"] if dep.startswith("notebooks/"))
    assert notebook == f"notebooks/{runner.NOTEBOOKS[stage]}.ipynb"
    assert_covers(STAGES[stage]["deps"], closure(ROOT / notebook))


def assert_covers(deps, needed):
    named = [dep for dep in deps if dep.startswith("src/")]
    covered = {
        dep: {file for file in needed if file == dep or file.startswith(f"{dep}/")} for dep in named
    }
    assert set().union(*covered.values()) == needed
    assert [dep for dep, files in covered.items() if not files] == []


def test_everything_waits_for_the_check():
    """Which depends on every section's schema, and the names that it may hold."""
    for name, stage in STAGES.items():
        upstream = [dep for dep in stage["deps"] if dep.startswith(("runs/", "data/", "models/"))]
        assert upstream or name == "check"
    source = ROOT / "src" / "walls"
    settings = [source / room / "settings.py" for room in params.ROOMS.values()]
    needed = closure(source / "base" / "params.py", *settings)
    needed |= {str(file.relative_to(ROOT)) for file in settings} | {"src/walls/base/params.py"}
    # A source imports what it needs itself, when it makes its images.
    makers = closure(source / "sources" / "kinds.py")
    named = {f"src/walls/sources/{name}.py" for name in ("kinds", "settings")}
    assert_covers(STAGES["check"]["deps"], needed - makers | named)


def test_the_lock_knows_every_stage():
    lock = yaml.safe_load((ROOT / "dvc.lock").read_text())["stages"]
    expected = {
        f"{name}@{member}"
        for name, s in STAGES.items()
        for values in s.get("matrix", {}).values()
        for member in values
    }
    assert set(lock) == expected | {name for name, stage in STAGES.items() if "matrix" not in stage}


def test_the_environment_is_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    (pip,) = (entry["pip"] for entry in environment if isinstance(entry, dict))
    assert pip == ["--requirement requirements.txt"] and "python=3.11" in environment


def test_the_lock_pins_what_we_name_and_no_registry():
    lock = (ROOT / "requirements.txt").read_text()
    pinned = set(re.findall(r"^([a-z0-9._-]+)==", lock, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = project["dependencies"] + project["optional-dependencies"]["artefact"]
    named = [re.match(r"[a-zA-Z0-9._-]+", one)[0] for one in asked]
    assert len(named) > 15 and {name.lower() for name in named} <= pinned
    wanted = (
        "torch torchvision grad-cam jupyter papermill dvc nbval matplotlib seaborn pydantic "
        "safetensors accelerate scikit-learn"
    )
    assert set(wanted.split()) <= pinned
    assert "://" not in lock and "-index" not in lock and "--hash=sha256:" in lock


def test_the_rendered_notebooks_are_all_there_and_clean():
    names = {path.name for path in (ROOT / "rendered").iterdir()}
    assert names == {path.name for path in log.executed(ROOT).values()} and len(names) >= 10
    for path in (ROOT / "rendered").iterdir():
        text = path.read_text()
        notebook = json.loads(text)
        assert set(notebook["metadata"]) == {"kernelspec", "language_info"}
        assert not re.search(
            r'"name": "stderr"|"output_type": "error"|papermill|at 0x[0-9a-f]{6}|/home/|/root/|/tmp/',
            text,
        )


@pytest.mark.pipeline
def test_the_rendered_notebooks_are_of_the_committed_sources():
    for path in (ROOT / "rendered").iterdir():
        source = json.loads((ROOT / "notebooks" / f"{path.stem.split('-')[0]}.ipynb").read_text())
        rendered = [
            c["source"]
            for c in json.loads(path.read_text())["cells"]
            if "injected-parameters" not in c["metadata"].get("tags", [])
        ]
        assert ["".join(s) for s in rendered] == ["".join(c["source"]) for c in source["cells"]], (
            path.name
        )


def test_modules_are_neither_crumbs_nor_mountains():
    files = list((ROOT / "src" / "walls").rglob("*.py"))
    assert len(files) > 50
    for path in files:
        assert len(path.read_text().splitlines()) <= 400, path.name
