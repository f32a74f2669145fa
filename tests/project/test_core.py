"""The core installs without the workshop: what `pip install .` brings, and what runs on it."""

import os
import re
import subprocess
import venv

import pytest
import torch
from conftest import OFFLINE, ROOT, copy_tree
from torchvision.utils import save_image

WORKSHOP = ("dvc", "papermill", "jupyter", "nbconvert", "ipykernel", "nbval", "accelerate", "timm")


@pytest.mark.long
def test_the_readmes_snippets_run_on_the_core_alone(tmp_path):
    """In an empty environment, at the lock's versions, away from the checkout; pip alone may reach
    beyond this machine.
    """
    venv.create(tmp_path / "core", with_pip=True)
    python = str(tmp_path / "core" / "bin" / "python")
    # With what says for which Python: the lock has two versions of some packages.
    pinned = re.findall(r"^([a-z0-9._-]+==[^\\\n]+)", (ROOT / "requirements.txt").read_text(), re.M)
    versions = tmp_path / "versions.txt"
    versions.write_text("\n".join(pinned) + "\n")
    project = str(copy_tree(tmp_path / "project"))  # where setuptools leaves what it builds
    command = [python, "-m", "pip", "install", "--quiet", "--constraint", str(versions), project]
    without = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    subprocess.run(command, check=True, env=without)
    listed = [python, "-m", "pip", "list", "--format=freeze"]
    told = {"capture_output": True, "text": True, "cwd": tmp_path, "env": without}
    installed = subprocess.run(listed, check=True, **told).stdout.lower()
    names = {line.split("==")[0] for line in installed.splitlines()}
    assert names.isdisjoint(WORKSHOP) and "see-through-walls" in names
    snippets = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs" / "your-network.md").read_text(), re.DOTALL
    )
    snippets = [one for one in snippets if not re.search("from torchcam|import timm", one)]
    script = tmp_path / "snippets.py"
    script.write_text("\n".join(snippets))
    told["env"] |= {"PYTHONPATH": OFFLINE}
    ran = subprocess.run([python, str(script)], **told)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert len(snippets) == 6 and "blind behind the wall" in ran.stdout
    assert ran.stdout.splitlines()[-1] == "torch.Size([2, 14, 14])"
    (tmp_path / "photos").mkdir()
    for number in range(2):
        save_image(torch.rand(3, 224, 224), tmp_path / "photos" / f"{number}.png")
    asked = ["torchvision:resnet18", "--weights", "none", "--images", "photos", "--out", "out"]
    ran = subprocess.run([str(tmp_path / "core" / "bin" / "walls"), "check", *asked], **told)
    assert ran.returncode == 0, ran.stderr[-2000:]
    assert (tmp_path / "out" / "report.html").is_file()
