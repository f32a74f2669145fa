"""What other services read of the repository: parsed here, since none of them runs here."""

import json
import re
import tomllib

import pytest
import yaml
from conftest import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(workflow):
    return [
        step
        for job in yaml.safe_load(workflow.read_text())["jobs"].values()
        for step in job["steps"]
    ]


def commands(workflow):
    return "\n".join(step["run"] for step in steps(workflow) if "run" in step)


def test_the_workflows_run_what_make_does():
    ci, nightly = WORKFLOWS
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"make ([\w-]+)", commands(ci))) == {"test", "lint", "setup"} <= targets
    assert commands(nightly) == "make test-long" and "test-long" in targets
    assert "dvc metrics diff" in commands(
        ci
    ) and "pip-audit --requirement requirements.txt" in commands(ci)


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_and_permissions_minimal(workflow):
    content = yaml.safe_load(workflow.read_text())
    used = [step["uses"] for step in steps(workflow) if "uses" in step]
    assert used and all(re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action) for action in used)
    assert content["permissions"] == {"contents": "read"}
    written = {
        name: job["permissions"] for name, job in content["jobs"].items() if "permissions" in job
    }
    assert set(written) <= {"metrics"}
    for name, permissions in written.items():
        assert permissions == {"contents": "read", "pull-requests": "write"}
        assert "head.repo.full_name == github.repository" in content["jobs"][name]["if"]
    assert all("timeout-minutes" in job for job in content["jobs"].values())
    assert "${{" not in commands(workflow)  # a title in a command would be run


def test_every_entry_installs_the_lock():
    make = (ROOT / "Makefile").read_text()
    assert "-r requirements.txt" in make and "--no-deps --no-build-isolation --editable ." in make
    assert (
        json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["postCreateCommand"]
        == "make setup"
    )
    build = (ROOT / "binder" / "postBuild").read_text()
    assert (
        "--require-hashes --requirement requirements.txt" in build
        and "--no-deps --no-build-isolation --editable ." in build
    )
    colab = "".join(
        "".join(c["source"])
        for c in json.loads((ROOT / "binder" / "colab.ipynb").read_text())["cells"]
    )
    assert "make repro" in colab and "pip install" not in colab
    assert (ROOT / "binder" / "runtime.txt").read_text() == "python-3.11\n"


def test_pre_commit_runs_tools_that_the_dev_extra_installs():
    (repo,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    installed = [re.split("[><=]", name)[0] for name in extras["dev"] + extras["artefact"]]
    assert (
        {hook["entry"].split()[0] for hook in repo["hooks"]}
        == {"ruff", "nbstripout", "mypy"}
        <= set(installed)
    )
    (strip,) = (hook["entry"] for hook in repo["hooks"] if hook["id"] == "nbstripout")
    assert (
        strip == "nbstripout --keep-id"
    )  # or every clone's notebooks get other ids, and every stage is stale


def test_the_long_tests_install_one_quantus():
    """Nothing that the lock has: its opencv-python would overwrite opencv-python-headless."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    assert [name for name in extras["quantus"] if "==" in name] == ["quantus==0.6.0"]
    lock = set(re.findall(r"^([a-z0-9._-]+)==", (ROOT / "requirements.txt").read_text(), re.M))
    assert "opencv-python-headless" in lock and lock.isdisjoint(extras["quantus"])
    rule = re.search(r"^test-long: setup\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)[1]
    install, test = rule.splitlines()
    assert " --no-deps " in install and "$(QUANTUS)" in install
    assert test == "\tpytest $(SEVERAL) -m long"


def test_the_citation_prefers_the_paper():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    paper, readme = citation["preferred-citation"], (ROOT / "README.md").read_text()
    assert citation["license"] == "MIT" and (ROOT / "LICENSE").read_text().startswith("MIT License")
    assert paper["type"] == "conference-paper" and paper["collection-title"] and citation["authors"]
    assert f"doi = {{{paper['doi']}}}" in readme
    assert f"pages = {{{paper['start']}--{paper['end']}}}" in readme
    assert [author["family-names"] for author in paper["authors"]] == [
        "Taimeskhanov",
        "Sicre",
        "Garreau",
    ]
