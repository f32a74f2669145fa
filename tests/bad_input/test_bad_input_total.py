"""What a clear refusal is not, and when a whole run has tried too few bad inputs."""

import os
import subprocess
import sys
from collections import Counter

import pytest
from conftest import ROOT
from helpers.bad_input import FAMILIES, LEAST, LEAST_EACH, clear, too_few

ENOUGH = dict.fromkeys(FAMILIES, LEAST // len(FAMILIES))


@pytest.mark.parametrize(
    "message",
    [
        "",
        "it failed",
        "seed: got 1\nTraceback",
        "seed: got \x1b[31m",
        "seed: [Errno 2]",
        "seed: " + "x" * 9999,
    ],
)
def test_what_is_no_clear_refusal(message):
    with pytest.raises(AssertionError):
        clear(message, "^seed: ")


def test_every_family_has_its_module():
    """Named in it: what it counts, a whole run counts."""
    sources = "".join(path.read_text() for path in ROOT.glob("tests/bad_input/test_*.py"))
    assert all(f'FAMILY = "{family}"' in sources for family in FAMILIES)
    assert sources.count("\nFAMILY = ") == len(FAMILIES)


@pytest.mark.parametrize(
    "changed, lacking",
    [
        ({}, []),
        ({"images": LEAST_EACH - 1, "archives": 999}, ["199 images, not 200"]),
        ({"images": LEAST_EACH}, ["1800 in all, not 2000"]),
        ({"arguments": 0}, ["0 arguments, not 200", "1600 in all, not 2000"]),
    ],
)
def test_what_a_whole_run_lacks(changed, lacking):
    assert too_few(Counter(ENOUGH | changed)) == lacking


@pytest.mark.bulk
@pytest.mark.parametrize("order", [FAMILIES, FAMILIES[::-1]], ids=["in order", "backwards"])
def test_a_whole_run_of_too_few_fails(tmp_path, order):
    """In a session of its own, whose modules only count; in whatever order they come."""
    for number, family in enumerate(order):
        (tmp_path / f"test_bad_input_{number}.py").write_text(
            "import os\n"
            "from helpers import bad_input\n"
            "def test_all():\n"
            f"    for case in range({ENOUGH[family]} - int(os.environ['SHORT'])):\n"
            f"        bad_input.count({family!r}, case, True)\n"
        )
    alone = {"PYTHONPATH": str(ROOT / "tests"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    for short, options, code in ((0, (), 0), (1, (), 1), (1, ("-k", "not bad_input_0"), 0)):
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "pytest",
                "-q",
                "-p",
                "helpers.bad_input",
                "-c",
                os.devnull,
                *options,
            ],
            cwd=tmp_path,
            env=os.environ | alone | {"SHORT": str(short)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == code, done.stdout + done.stderr
        assert ("too few: 1995 in all, not 2000" in done.stdout) == (code == 1)
