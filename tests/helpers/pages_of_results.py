"""README.md, ARTIFACT.md, docs/ and the committed metrics, read for tests."""

import json
import re

from conftest import ROOT

from walls.project import documents

README, ARTIFACT, PRESETS = ((ROOT / name).read_text() for name in documents.DOCUMENTS)
YOURS = (ROOT / "docs" / "your-network.md").read_text()


def committed(name, root=ROOT):
    return json.loads((root / "metrics" / f"{name}.json").read_text())


def block(text, name):
    return re.search(
        rf"^<!-- {name} -->\n(.*?)\n?<!-- /{name} -->$", text, re.DOTALL | re.MULTILINE
    )[1]


def cells(text, first):
    """The cells of a table's row that starts with `first`."""
    (row,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in row.strip("|").split("|")]
