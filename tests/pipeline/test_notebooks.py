"""The source notebooks: thin, stripped, their defaults those of the default preset."""

import ast
import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT
from helpers.imports import notebook_source

from walls.base import params
from walls.pipeline import log, runner

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def cells(path, kind):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == kind]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return request.param


def test_each_is_a_stages_and_they_are_numbered():
    names = [path.stem for path in NOTEBOOKS]
    assert names == sorted(set(runner.NOTEBOOKS.values()))
    assert [name.split("_")[0] for name in names] == [str(n) for n in range(len(names))]


def test_stripped(notebook):
    assert all(
        not cell["outputs"] and cell["execution_count"] is None for cell in cells(notebook, "code")
    )


def test_thin(notebook):
    source = notebook_source(notebook)
    lines = [
        line for line in source.splitlines() if line.strip() and not line.strip().startswith("#")
    ]
    assert len(lines) <= 60
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef):
            assert node.end_lineno - node.lineno <= 5, node.name
    assert not re.search(r"sys\.path|pip install|['\"]/|['\"]~|!\s*\w+", source)


def test_a_title_a_question_and_a_verdict(notebook):
    first, *_, last = cells(notebook, "markdown")
    assert re.match(rf"# {notebook.stem[0]}\. ", "".join(first["source"])) and "?**" in "".join(
        first["source"]
    )
    assert "Verdict" in "".join(last["source"])
    assert "NBVAL_CHECK_OUTPUT" in "".join(cells(notebook, "code")[-1]["source"])


def test_defaults_are_the_default_presets(notebook):
    (cell,) = (c for c in cells(notebook, "code") if "parameters" in c["metadata"].get("tags", []))
    found: dict = {}
    exec("".join(cell["source"]), found)
    preset = params.load(ROOT / "presets" / "critters.yaml").model_dump()
    for name, value in found.items():
        if name in preset and isinstance(value, dict):
            assert value == {key: preset[name][key] for key in value}, name
        elif name in preset:
            assert value == preset[name], name


def test_links_lead_somewhere(notebook):
    text = "".join("".join(cell["source"]) for cell in cells(notebook, "markdown"))
    names = {path.stem for path in log.executed(ROOT).values()}
    targets = re.findall(r"\]\(([^)#]+)\.ipynb\)", text)
    assert targets and set(targets) <= names


def test_run_by_hand_each_takes_params_yaml(notebook):
    """Before it uses a parameter: the first thing after its imports."""
    source = "".join(cells(notebook, "code")[1]["source"])
    body = [
        node for node in ast.parse(source).body if not isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert ast.unparse(body[0]) == "params.by_hand(globals())"


def test_a_stage_starts_without_a_grammar_of_addresses():
    """Which jsonschema would compile, in two seconds of each of them."""
    code = "import sys, walls.pipeline.runner; print(sorted(m for m in sys.modules if 'lark' in m))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
