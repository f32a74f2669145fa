"""Data that lies beside the project on some machines."""

import pytest
from conftest import ROOT


def shared(name):
    file = ROOT.parent / "shared" / "data" / name
    if not file.is_file():
        pytest.skip(f"no {name} beside the project")
    return file
