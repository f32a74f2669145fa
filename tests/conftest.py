"""Fixtures: tiny networks, real features, and one smoke-sized run of the whole pipeline, of which
every test module gets a copy of its own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

if "PYTEST_XDIST_WORKER" in os.environ:
    # Of several processes: their threads would wait for each other.
    os.environ["OMP_NUM_THREADS"] = "1"

import offline.sitecustomize  # noqa: F401  from here on, no network
import pytest
import torch
from filelock import FileLock
from helpers.bad_input import (  # noqa: F401  pytest's hooks: how many bad inputs were refused
    pytest_deselected,
    pytest_sessionfinish,
    pytest_terminal_summary,
    pytest_testnodedown,
)

from walls.network import architecture

ROOT = Path(__file__).resolve().parent.parent
OFFLINE = str(ROOT / "tests" / "offline")
# Nor for any child.
os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [OFFLINE, os.environ.get("PYTHONPATH")]))
GENERATED = {
    ".venv",
    ".git",
    "runs",
    "data",
    "models",
    ".resume",
    "__pycache__",
    "cache",
    "tmp",
    "site",
    "config.local",
}


def pytest_collection_modifyitems(items):
    """The longest first, so that several processes end together; and while one of them makes the
    smoke run, the others have something to do that doesn't wait for it.
    """

    def turn(item):
        if "smoke_run" in item.fixturenames:
            return 0 if item is first else 2
        marks = {mark.name for mark in item.iter_markers()}
        return 1 if {"pipeline", "browser", "bulk", "long"} & marks else 3

    first = next((item for item in items if "smoke_run" in item.fixturenames), None)
    items.sort(key=turn)


def copy_tree(target: Path, preset: str | None = None) -> Path:
    """A copy of the project as git would clone it (uncommitted changes included), with its own git
    and DVC.
    """
    shutil.copytree(
        ROOT,
        target,
        ignore=lambda _, names: [n for n in names if n in GENERATED],
        dirs_exist_ok=True,
    )
    if preset:
        shutil.copyfile(ROOT / "presets" / f"{preset}.yaml", target / "params.yaml")
    for command in (
        "git init -q",
        "git add -A",
        "git -c user.name=t -c user.email=t@t commit -qm copy",
    ):
        subprocess.run(command.split(), cwd=target, check=True, capture_output=True)
    return target


def environment(folder: Path) -> dict[str, str]:
    """The environment in which a copy runs its own code, with this interpreter's commands,
    silently.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    own = os.pathsep.join([OFFLINE, str(folder / "src")])
    return os.environ | {
        "PYTHONPATH": own,
        "PATH": path,
        "TQDM_DISABLE": "1",
        "DVC_NO_ANALYTICS": "1",
    }


def run(folder: Path, *command: str, check: bool = True) -> subprocess.CompletedProcess:
    """Run a command inside a copy; with `check`, fail with its output."""
    done = subprocess.run(
        command, cwd=folder, env=environment(folder), capture_output=True, text=True
    )
    if check and done.returncode:
        pytest.fail(
            f"{' '.join(command)} exited with {done.returncode}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
    return done


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory) -> Path:
    """A copy of the tree after `dvc repro` of the smoke preset, its results committed.

    Made once a session, by whichever process comes first. Tests take `smoke`: this one stays as it is.
    """
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # each process has a folder of its own in the session's
        shared = shared.parent
    folder = shared / "smoke-run" / "project"
    made = folder.with_name("made")
    with FileLock(shared / "smoke-run.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed
            copy_tree(folder, "smoke")
            run(folder, "dvc", "repro")
            run(folder, "git", "add", "-A")
            author = ("-c", "user.name=t", "-c", "user.email=t@t")
            run(folder, "git", *author, "commit", "-qm", "smoke results")
            made.touch()
    return folder


def fork(folder: Path, target: Path) -> Path:
    """A copy of a copy: its outputs, its git and its DVC cache are its own."""
    notes = shutil.ignore_patterns("tmp", "__pycache__")  # DVC's and Python's own
    return shutil.copytree(folder, target, ignore=notes)


@pytest.fixture(scope="module")
def smoke(smoke_run, tmp_path_factory):
    """The smoke run, in a copy that the module's tests share and leave as they found it."""
    folder = fork(smoke_run, tmp_path_factory.mktemp("smoke") / "project")
    yield folder
    assert run(folder, "git", "status", "--porcelain").stdout == "", "a test left a change behind"


@pytest.fixture
def tiny():
    """A small masked [VGG] at the paper's geometry, with non-trivial batch statistics, in
    evaluation mode.
    """
    return make_tiny()


def make_tiny(batch_norm: bool = True, wall_rows: int = 9, classes: int = 5, seed: int = 0):
    model = architecture.seeded(
        seed, width=0.0625, dense=24, classes=classes, batch_norm=batch_norm, wall_rows=wall_rows
    )
    random = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.copy_(
                0.1 * torch.randn(module.running_mean.shape, generator=random)
            )
            module.running_var.copy_(0.5 + torch.rand(module.running_var.shape, generator=random))
    # Logits away from 0, where AblationCAM divides, and unlike from class to class.
    torch.nn.init.uniform_(model.head[-1].bias, 1.0, 2.0, generator=random)
    return model.eval()


def noise(n: int, size: int = 224, seed: int = 0) -> torch.Tensor:
    """Smooth random images, (n, 3, size, size), about as large as normalised photographs."""
    coarse = torch.randn(
        n, 3, size // 16, size // 16, generator=torch.Generator().manual_seed(seed)
    )
    return 1.5 * torch.nn.functional.interpolate(coarse, (size, size), mode="bilinear")


def pdf_faults(path: Path) -> list[str]:
    """Why a PDF can't be set in LNCS's text, 12.2 cm wide, as it is: too wide, or a font that it
    doesn't hold.
    """
    content = path.read_bytes()
    widths = [float(width) for width in re.findall(rb"/MediaBox \[ 0 0 ([\d.]+)", content)]
    faults = (
        []
        if len(widths) == 1 and widths[0] <= 72 * 12.2 / 2.54 + 0.5
        else [f"{path.name}: {widths} points wide"]
    )
    fonts, embedded = (
        len(re.findall(rb"/Type /FontDescriptor", content)),
        content.count(b"/FontFile2"),
    )
    if b"/Type3" in content or fonts != embedded:
        faults.append(f"{path.name}: {embedded} of {fonts} fonts embedded")
    return faults
