"""What others made: exact versions by hash, no pickles, no network, no telemetry."""

import ast
import configparser
import re
import socket
import subprocess
import sys

import pytest
from conftest import ROOT, run
from helpers.imports import notebook_source

MODULES = sorted(ROOT.glob("src/walls/**/*.py"))
CODE = [*MODULES, *sorted(ROOT.glob("benchmarks/**/*.py")), *sorted(ROOT.glob("notebooks/*.ipynb"))]
PICKLERS = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}


def unhashed(lock: str) -> list[str]:
    """The lines of a lock that aren't a requirement of one exact version with its hashes."""
    entries = [
        line
        for line in lock.replace("\\\n", " ").splitlines()
        if line.strip() and not line.lstrip().startswith("#")
    ]
    exact = re.compile(
        r"[a-z0-9][a-z0-9._-]*==[^\s;*]+( ; [^#]+?)?(\s+--hash=sha256:[0-9a-f]{64})+\s*"
    )
    return [line.split(" --hash")[0] for line in entries if not exact.fullmatch(line)]


def unpickling(source: str) -> list[str]:
    """Where Python source reads a pickle, which may hold code: its modules, torch.load unless it
    refuses, numpy, pandas.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found += [
                f"import {alias.name}"
                for alias in node.names
                if alias.name.split(".")[0] in PICKLERS
            ]
        elif isinstance(node, ast.ImportFrom):
            names = {alias.name for alias in node.names}
            bare = node.module in ("torch", "pandas") and names & {"load", "read_pickle"}
            found += (
                [f"from {node.module} import"]
                if (node.module or "").split(".")[0] in PICKLERS or bare
                else []
            )
        elif isinstance(node, ast.Call):
            options = {option.arg: getattr(option.value, "value", None) for option in node.keywords}
            called = ast.unparse(node.func)
            if (
                called == "torch.load" and options.get("weights_only") is not True
            ) or called.endswith("read_pickle"):
                found.append(called)
            elif options.get("allow_pickle"):
                found.append(f"{called}, allow_pickle")
    return found


def test_every_requirement_has_one_version_and_its_hashes():
    lock = (ROOT / "requirements.txt").read_text()
    assert lock.count("==") > 100 and unhashed(lock) == []
    good = "a-b==1.0 ; python_version < '3.12' \\\n    --hash=sha256:" + "0" * 64
    assert unhashed(good) == []
    options = [f"--{'-'.join(words)} example" for words in (("index", "url"), ("find", "links"))]
    named = ("a==1.0", "a>=1.0 --hash=sha256:" + "0" * 64, "a==1.0 --hash=md5:" + "0" * 32)
    for bad in (*named, *options, "a @ file:///a", "-e ."):
        assert unhashed(f"{good}\n{bad}\n"), bad


def test_all_of_ours_is_looked_at():
    """Every room's modules, the benchmarks and the notebooks."""
    rooms = {path.parent.name for path in (ROOT / "src" / "walls").glob("*/__init__.py")}
    assert len(rooms) > 10 and {path.parent.name for path in CODE} >= rooms | {"notebooks"}


@pytest.mark.parametrize("path", CODE, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_of_ours_reads_a_pickle(path):
    assert unpickling(notebook_source(path) if path.suffix == ".ipynb" else path.read_text()) == []


def test_what_reads_a_pickle_is_found():
    assert (
        unpickling("torch.load(p, weights_only=True); np.load(p); json.load(f); pd.read_csv(p)")
        == []
    )
    for bad in (
        "import pickle",
        "from joblib import load",
        "import dill as d",
        "torch.load(p)",
        "torch.load(p, 'cpu')",
        "torch.load(p, weights_only=False)",
        "torch.load(p, weights_only=safe)",
        "pd.read_pickle(p)",
        "np.load(p, allow_pickle=True)",
        "from torch import load",
        "import torch.nn, pickle.x",
    ):
        assert len(unpickling(bad)) == 1, bad


@pytest.mark.parametrize("host", ["192.0.2.1", "2001:db8::1"])  # addresses that documents use
def test_the_tests_reach_no_network(host):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
        with (
            socket.socket(family, kind) as out,
            pytest.raises(OSError, match=f"take no network: {host}"),
        ):
            out.connect((host, 80))
    with (
        socket.socket(family, socket.SOCK_DGRAM) as out,
        pytest.raises(OSError, match="take no network"),
    ):
        out.sendto(b"", (host, 53))
    with pytest.raises(OSError, match=r"take no network: example\.org"):
        socket.getaddrinfo("example.org", 443)


def test_this_machine_is_reached():
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.create_connection(server.getsockname()[:2], 5),
    ):
        assert socket.getaddrinfo("localhost", 80)


def test_nor_do_the_processes_they_start(tmp_path):
    ask = "import socket; socket.create_connection(('192.0.2.1', 80), 5)"
    ours = run(tmp_path, sys.executable, "-c", ask, check=False)
    bare = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True)
    for done in (ours, bare):
        assert done.returncode == 1 and "tests take no network: 192.0.2.1" in done.stderr


@pytest.mark.bulk
def test_an_import_asks_nobody_and_tells_nobody(monkeypatch):
    """Every module of ours, in a fresh process: it looks for no other, not even on this machine,
    and telemetry is off.
    """
    for name in ("DO_NOT_TRACK", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.delenv(name, raising=False)
    names = [
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in MODULES
        # Which are the command itself, and an adapter of what the lock doesn't hold.
        if path.name not in ("__main__.py", "quantus.py")
    ]
    script = f"""
import sys
asked = []
events = ("socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, args: asked.append(event) if event in events else None)
import importlib
for name in {names}:
    importlib.import_module(name)
from huggingface_hub.constants import HF_HUB_DISABLE_TELEMETRY
print(asked, HF_HUB_DISABLE_TELEMETRY)
"""
    assert len(names) > 50 and run(ROOT, sys.executable, "-c", script).stdout == "[] True\n"


def test_the_tools_tell_nobody():
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc" / "config")
    assert config["core"]["analytics"] == config["core"]["check_update"] == "false"
    assert "--disable-pip-version-check" in (ROOT / "Makefile").read_text()
