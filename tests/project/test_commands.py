"""The command line, `walls` and `python -m walls`: what each command takes, and how it ends."""

import re
import sys
import tomllib

import pytest
from conftest import ROOT, run

from walls.pipeline import runner
from walls.project import commands

# Every command, the arguments that its --help names, and some words on each.
TAKES = {
    "run": ("STAGE", ["as dvc.yaml names it"]),
    "params": ("[FILE]", ["default: params.yaml", "One line for every wrong value"]),
    "check": ("NETWORK", ["torchvision:NAME", "--methods GradCAM HiResCAM", "Exit code: 0 done"]),
    "train": ("WHICH", ["masked or baseline", "accelerate launch"]),
    "evaluate": ("WHICH", ["stack-mix or stack-gen", "accelerate launch", "dvc repro"]),
    "summary": ("", ["what the last run found"]),
    "readme": ("", ["README.md, ARTIFACT.md and the showcases"]),
    "status": ("", ["By dvc.lock's hashes", "Exit code: 0 it made them all"]),
    "record": ("", ["ARTIFACT.md"]),
    "site": ("", ["into site/"]),
    "pack": ("", ["into dist/"]),
    "verify": ("[FOLDER] [OTHER]", ["a copy of the project", "Exit code: 0 they agree"]),
    "unlock": ("", ["a killed run"]),
}


def asked(arguments, capsys):
    """How argparse ends, with what it printed on one line: (exit code, stdout, stderr)."""
    with pytest.raises(SystemExit) as end:
        commands.main(arguments)
    out, error = (" ".join(text.split()) for text in capsys.readouterr())
    return end.value.code, out, error


def test_the_help_lists_every_command(capsys):
    code, out, error = asked(["--help"], capsys)
    listed = re.findall(r"^    (\w+) ", commands.parser().format_help(), re.MULTILINE)
    assert (code, error) == (0, "") and listed == list(TAKES)
    assert out.startswith("usage: walls [-h] COMMAND ...")


@pytest.mark.parametrize("command", TAKES)
def test_a_commands_help_says_what_it_takes(command, capsys):
    code, out, error = asked([command, "--help"], capsys)
    arguments, words = TAKES[command]
    assert (code, error) == (0, "")
    assert out.startswith(f"usage: walls {command} [-h] {arguments}".strip() + " ")
    for word in words:
        assert word in out
    for name in re.findall(r"\w+", arguments):  # with a line of its own
        assert re.search(rf"positional arguments: .*\b{name} \w", out), name


@pytest.mark.parametrize(
    "arguments, told",
    [
        ([], "required: COMMAND"),
        (["fly"], "invalid choice: 'fly' (choose from"),
        (["run"], "required: STAGE"),
        (["run", "check", "wall"], "unrecognized arguments: wall"),
        (["params", "a", "b"], "unrecognized arguments: b"),
        (["params", "--gate"], "unrecognized arguments: --gate"),
        (["verify", "--fast"], "unrecognized arguments: --fast"),
        (["summary", "now"], "unrecognized arguments: now"),
    ],
)
def test_wrong_arguments_are_named(arguments, told, capsys):
    code, out, error = asked(arguments, capsys)
    assert (code, out) == (2, "") and told in error and error.startswith("usage: walls ")


def test_both_ways_to_call_it_say_the_same_without_waiting_for_torch(tmp_path):
    """From anywhere: asking for help needs no project."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert scripts == {"walls": "walls.project.commands:main"}
    script = (
        "import sys\nfrom walls.project.commands import main\n"
        "try:\n    main(['run', '--help'])\n"
        "finally:\n    assert not {'torch', 'dvc', 'pandas'} & set(sys.modules)\n"
    )
    source = f"PYTHONPATH={ROOT / 'src'}"
    for arguments in (("-m", "walls", "run", "--help"), ("-c", script)):
        done = run(tmp_path, "env", source, sys.executable, *arguments)
        assert done.stdout.startswith("usage: walls run [-h] STAGE\n") and done.stderr == ""


@pytest.mark.parametrize(
    "raised, rank, code, told",
    [
        (ValueError("wall.rows: got 0\nseed: got -1"), 0, 1, "wall.rows: got 0\nseed: got -1\n"),
        (FileNotFoundError("no dvc.yaml"), 0, 1, "no dvc.yaml\n"),
        (ValueError("alone in its trouble"), 1, 1, "alone in its trouble\n"),
        (KeyboardInterrupt(), 0, 130, "wall: stopped; run it again to go on\n"),
    ],
)
def test_how_a_command_ends(monkeypatch, capsys, raised, rank, code, told):
    def fails(stage):
        raise raised

    waited = []
    monkeypatch.setattr(commands.time, "sleep", waited.append)
    monkeypatch.setattr(runner, "run", fails)
    monkeypatch.setenv("RANK", str(rank))
    assert commands.main(["run", "wall"]) == code
    assert capsys.readouterr() == ("", told)
    assert waited == [commands.PATIENCE] * rank  # in which the first one speaks for all


def test_an_error_of_ours_is_not_hidden(monkeypatch):
    """What is no refusal keeps its traceback."""
    monkeypatch.setattr(runner, "run", lambda stage: {}["wall"])
    with pytest.raises(KeyError):
        commands.main(["run", "wall"])
