"""`walls train`: what it takes, and that the notebook takes what it has trained."""

import pytest
import torch
from conftest import ROOT, fork, run

from walls.network import checkpoints
from walls.project import commands
from walls.training import job


@pytest.mark.parametrize(
    "which, old, new, message",
    [
        ("both", "", "", "train: got both; takes masked, masked-1 or baseline"),
        ("masked-2", "", "", "train: got masked-2; takes masked, masked-1 or baseline"),
        ("masked", "", "", "runs/wall/masked.json: not there; takes a `dvc repro wall` first"),
        ("masked", "rows: 7", "rows: nine", "wall.rows: got 'nine'"),
        ("masked", "checkpoint: null", "checkpoint: models", "model.checkpoint: got models, "),
    ],
)
def test_the_command_says_what_it_takes(tmp_path, monkeypatch, capsys, which, old, new, message):
    text = (ROOT / "presets" / "smoke.yaml").read_text()
    assert old in text
    (tmp_path / "params.yaml").write_text(text.replace(old, new))
    (tmp_path / "dvc.yaml").touch()
    (tmp_path / "models").mkdir()
    for name in (*job.WHICH, "masked-1"):
        (tmp_path / "models" / f"{name}.safetensors").touch()
    monkeypatch.chdir(tmp_path)
    assert commands.main(["train", which]) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith(message) and "\n" not in said


@pytest.mark.long
@pytest.mark.pipeline
def test_the_notebook_takes_what_a_launch_has_trained(smoke_run, tmp_path):
    folder = fork(smoke_run, tmp_path / "project")
    file = folder / "params.yaml"
    file.write_text(file.read_text().replace("epochs: 2", "epochs: 1"))
    launch = ("python", "-m", "accelerate.commands.launch", "--cpu")
    launch += ("--num_cpu_threads_per_process=2", "-m", "walls")
    launched = run(folder, *launch, "train", "baseline")
    (finished,) = folder.glob(".resume/*/finished.pt")
    assert "baseline: 1 epochs in float32 on cpu" in launched.stdout
    file = folder / "models" / "baseline.safetensors"
    weights, before = torch.load(finished)["model"], file.read_bytes()
    run(folder, "python", "-m", "walls", "run", "train@baseline")  # what `dvc repro` calls
    after = checkpoints.load(file).state_dict()
    assert all(torch.equal(weights[name], after[name]) for name in after)
    assert file.read_bytes() != before and not list(folder.glob(".resume/*/*"))
