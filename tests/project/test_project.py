"""The house: stages list what they read, the lock and the environment are one, what is committed is
of one run.
"""

import json
import re
import subprocess
import sys
import tomllib

import pytest
import yaml
from conftest import ROOT, copy_tree
from dvc.repo import Repo
from helpers.imports import closure

from walls.base import params
from walls.pipeline import kernel, log, runner, stages

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
    assert set(lock) == set(stages.every(ROOT))


def test_the_stages_are_those_that_dvc_knows():
    """A matrix's list from params.yaml included; what each leaves lies below one of its outputs."""
    with Repo(str(ROOT)) as repo:
        known = {stage.addressing: [str(out) for out in stage.outs] for stage in repo.index.stages}
    assert list(stages.every(ROOT)) == [
        one for name in STAGES for one in known if one.partition("@")[0] == name
    ]
    assert {"train-again@masked-1", "cams-again@stack-gen-2"} <= set(known)
    for stage, file in log.executed(ROOT).items():
        assert str(file.parent.relative_to(ROOT)) in known[stage], stage


def test_networks_no_longer_asked_for_are_cleared(tmp_path, monkeypatch):
    """Stages read the whole folder of further networks: `check` leaves only those of the list."""
    for name, source in (("dvc.yaml", "dvc.yaml"), ("params.yaml", "presets/smoke.yaml")):
        (tmp_path / name).write_text((ROOT / source).read_text())
    monkeypatch.chdir(tmp_path)
    again = tmp_path / "runs" / "again"
    for name in ("train-masked-1", "train-masked-2", "cams-stack-mix-1", "cams-stack-gen-12"):
        (again / name).mkdir(parents=True)
    runner.check()
    assert {path.name for path in again.iterdir()} == {"gate", "train-masked-1", "cams-stack-mix-1"}


@pytest.mark.parametrize(
    "stage", ["train-again@masked-3", "train-again", "cams-again@stack-mix", "train@masked-1"]
)
def test_a_stage_that_is_none(stage, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(
        ValueError, match=f"^stage: got {stage}; takes one that `dvc stage list` shows$"
    ):
        runner.execute(stage)


@pytest.mark.slow
def test_a_key_that_params_yaml_leaves_out_has_its_default(tmp_path, monkeypatch):
    """In a stage's notebook, too: `photographs` came later than many a params.yaml."""
    copy = copy_tree(tmp_path / "project", "smoke")
    file, given = copy / "params.yaml", {}
    file.write_text(file.read_text().replace("  photographs: 3\n", ""))
    monkeypatch.chdir(copy)
    monkeypatch.setattr(runner, "_executed", lambda *a: given.update(a[2]) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        runner.execute("networks")
    assert given["networks"]["photographs"] is None and given["networks"]["costly_images"] == 1


@pytest.mark.slow
def test_a_stage_starts_without_torch_where_it_names_no_method():
    """Its notebook's process imports torch, once; the one that starts it would lose three seconds."""
    asked = "import sys; from pathlib import Path; from walls.base import params; "
    asked += "from walls.pipeline import runner, stages; "
    asked += "params.load(sections=stages.reads({!r}, Path())); sys.exit('torch' in sys.modules)"
    for stage, late in {"wall": False, "cams@stack-mix": True}.items():
        done = subprocess.run([sys.executable, "-c", asked.format(stage)], cwd=ROOT)
        assert done.returncode == late, stage


def test_a_stages_process_keeps_its_memory_and_no_history(tmp_path, monkeypatch):
    monkeypatch.setenv("JUPYTER_PATH", "")
    monkeypatch.setenv("MALLOC_MMAP_MAX_", "7")  # a user's own stays
    monkeypatch.delenv("MALLOC_TRIM_THRESHOLD_", raising=False)
    spec = json.loads((tmp_path / "kernels" / kernel.offer(tmp_path) / "kernel.json").read_text())
    assert spec["env"] == {"MALLOC_MMAP_MAX_": "7", "MALLOC_TRIM_THRESHOLD_": str(2**34)}
    assert "--HistoryManager.enabled=False" in spec["argv"]


@pytest.mark.parametrize(
    "stage, right, wrong",
    [
        ("cams@stack-mix", "methods:\n    [GradCAM", "methods:\n    [GradCAM, GradCAN"),
        ("sweep", "methods:\n    [GradCAM", "methods:\n    [GradCAM, GradCAN"),
        ("wall", "wall:\n  rows: 7", "wall:\n  rows: seven"),
    ],
)
def test_a_stage_refuses_what_the_check_refuses(stage, right, wrong, tmp_path):
    """Of the sections that it reads, and no others' conflicts; every section's values it has."""
    (tmp_path / "dvc.yaml").write_text((ROOT / "dvc.yaml").read_text())
    text = (ROOT / "presets" / "smoke.yaml").read_text()
    file = tmp_path / "params.yaml"
    file.write_text(text)
    read = stages.reads(stage, tmp_path)
    assert params.load(file, read) == params.load(file)
    assert right in text
    file.write_text(text.replace(right, wrong, 1))
    with pytest.raises(ValueError) as expected:
        params.load(file)
    with pytest.raises(ValueError, match=f"^{re.escape(str(expected.value))}$"):
        params.load(file, read)
    if "GradCAN" in wrong:
        params.load(file, stages.reads("wall", tmp_path))


def test_a_list_that_params_yaml_lacks(tmp_path):
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text().replace("again: [1, 2]", "again: 3"))
    with pytest.raises(ValueError, match=r"^train\.again: got 3; takes a list$"):
        stages.every(tmp_path)


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
