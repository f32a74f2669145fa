"""`import walls`: quick, and its names resolved when they are used."""

import json
import sys

import pytest
from conftest import ROOT, run

import walls

SECONDS = 0.3


def test_importing_it_is_quick_and_brings_no_torch():
    """The best of three fresh processes, so that a busy machine is not what is measured."""
    script = (
        "import json, sys, time\n"
        "started = time.perf_counter()\nimport walls\n"
        "print(json.dumps([time.perf_counter() - started, 'torch' in sys.modules, dir(walls)]))\n"
    )
    done = [json.loads(run(ROOT, sys.executable, "-c", script).stdout) for _ in range(3)]
    assert min(seconds for seconds, _, _ in done) < SECONDS
    assert not any(torch for _, torch, _ in done)
    assert all(set(names) >= set(walls.__all__) for _, _, names in done)


def test_every_name_is_there_when_it_is_asked_for():
    assert {"activity", "certify", "dead_zone", "saliency_maps", "upscale"} <= set(walls.__all__)
    for name in walls.__all__:
        found = getattr(walls, name)
        assert callable(found) and found.__name__ == name and found.__module__ == walls._HOMES[name]


def test_what_is_not_there_is_named():
    with pytest.raises(AttributeError, match="'walls' has no attribute 'flies'"):
        _ = walls.flies
