"""The archive: unpacked, it has every output, nothing to run, and can be evaluated without
training.
"""

import os
import shutil
import subprocess
import tarfile

import pytest
import yaml
from conftest import run

from walls.project import pack

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("packed")]  # all share an archive


@pytest.fixture(scope="module")
def packed(smoke, tmp_path_factory):
    target = tmp_path_factory.mktemp("archive") / "a.tar.gz"
    assert pack.pack(smoke, target) == target.stat().st_size > 1e6
    return target


@pytest.fixture(scope="module")
def unpacked(packed, tmp_path_factory):
    """What a reviewer has after `tar xzf`."""
    folder = tmp_path_factory.mktemp("reviewer")
    subprocess.run(["tar", "xzf", packed, "-C", folder], check=True)
    return folder / pack.NAME


def test_same_commit_same_bytes(smoke, packed, tmp_path):
    os.utime(smoke / "README.md")
    pack.pack(smoke, tmp_path / "b.tar.gz")
    assert (tmp_path / "b.tar.gz").read_bytes() == packed.read_bytes()


def test_it_says_nothing_of_who_packed_it(smoke, packed):
    with tarfile.open(packed) as tar:
        members = tar.getmembers()
    names = [member.name for member in members]
    assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in members} == {(0, 0, 0, "", "")}
    assert len(names) == len(set(names)) > 200 and all(
        name.startswith(f"{pack.NAME}/") for name in names
    )
    assert not [
        name
        for name in names
        if name.endswith("config.local") or "/.git/logs" in name or "/.dvc/tmp" in name
    ]


@pytest.mark.long
def test_a_reviewer_evaluates_without_training(smoke, unpacked):
    lock = yaml.safe_load((unpacked / "dvc.lock").read_text())["stages"]
    assert (
        run(unpacked, "git", "status", "--porcelain").stdout
        == ""
        == run(unpacked, "git", "remote").stdout
    )
    assert str(smoke) not in (unpacked / ".git" / "config").read_text()
    run(unpacked, "dvc", "checkout")
    assert "Running stage" not in run(unpacked, "dvc", "repro").stdout
    assert (unpacked / "models" / "masked.safetensors").stat().st_size == lock["train@masked"][
        "outs"
    ][0]["size"]
    done = run(unpacked, "dvc", "repro", "--force", "--single-item", "cams@stack-mix")
    assert (
        "Running stage 'cams@stack-mix'" in done.stdout
        and "Running stage 'train" not in done.stdout
    )
    assert yaml.safe_load((unpacked / "dvc.lock").read_text())["stages"] == lock  # the same maps
    assert run(unpacked, "git", "status", "--porcelain").stdout == ""


def test_a_missing_output_is_named(unpacked, tmp_path):
    """One file of a folder is enough, and so are its listing and a single file."""
    whole = pack.cached(unpacked)
    assert {"models/masked.safetensors", "runs/stacks", "data/set"} <= set(
        whole
    ) and "figures" not in whole
    for output, at in (("runs/stacks", -1), ("runs/stacks", 0), ("models/masked.safetensors", 0)):
        shutil.move(whole[output][at], tmp_path / "away")
        done = run(unpacked, "python", "-m", "walls", "pack", check=False)
        assert (done.returncode, done.stderr) == (
            1,
            f"{output}: not in DVC's cache; run `dvc repro` first\n",
        )
        shutil.move(tmp_path / "away", whole[output][at])
    assert not (unpacked / "dist").exists()


def test_what_is_not_committed_is_named(unpacked):
    (unpacked / "note.txt").write_text("x")
    done = run(unpacked, "python", "-m", "walls", "pack", check=False)
    assert done.returncode == 1 and done.stderr.startswith("note.txt: not committed; takes a tree")
    (unpacked / "note.txt").unlink()
