"""The documents' generated blocks: this run's numbers in README, ARTIFACT, docs, the showcases.

A block stands between `<!-- NAME -->` and `<!-- /NAME -->`; BLOCKS says who writes it.
"""

import re
from collections.abc import Callable
from pathlib import Path

from walls.base import paths
from walls.base.files import whole
from walls.pipeline import log
from walls.project import blocks, method_table

DOCUMENTS = ("README.md", "ARTIFACT.md", "docs/presets.md")
Maker = Callable[[Path], str]  # of the folder whose results it shows
MARKER = re.compile(r"^<!-- (/?)([\w-]+) -->$", re.MULTILINE)
BLOCKS: dict[str, Maker] = {
    "real": blocks.real,
    "first": blocks.first,
    "limits": blocks.limits,
    "networks": blocks.networks,
    "methods": method_table.block,
    "summary": blocks.headline,
    "results": blocks.results,
    "presets": blocks.presets,
    "claims": blocks.claims,
    "ten": blocks.ten,
    "showcase": blocks.showcase,
}
KNOWN = (*BLOCKS, "run")  # `record` writes the last


def fill() -> None:
    """Write the blocks of README.md, ARTIFACT.md, docs/ and the showcases' pages anew.

    The record of the run stays: `record` alone writes it.
    """
    root = paths.root()
    pages = {root / name: root for name in DOCUMENTS}  # and the folder whose results it shows
    pages |= {page: page.parent for page in sorted(root.glob("showcase/*/README.md"))}
    texts = {}
    for page, results in pages.items():
        text, name = page.read_text(encoding="utf-8"), page.relative_to(root).as_posix()
        texts[page] = filled(text, results, name)
    for page, text in texts.items():
        _write(text, page)


def record() -> None:
    """Make the last run the committed one: its machine and times, in ARTIFACT.md.

    Raises ValueError unless the log holds every stage of the run that lies in `runs/`.
    """
    page = paths.root() / "ARTIFACT.md"
    content = log.table()
    if content is None:
        raise ValueError(
            "the log of this run is not whole; takes a `dvc repro --force` on one machine"
        )
    _write(
        filled(
            page.read_text(encoding="utf-8"), page.parent, page.name, {"run": lambda _: content}
        ),
        page,
    )


def _write(text: str, page: Path) -> None:
    with whole(page) as partial:
        partial.write_text(text, encoding="utf-8")


def filled(
    text: str, root: Path, name: str = "the text", makers: dict[str, Maker] | None = None
) -> str:
    """A document's text with its blocks written anew by `makers` (BLOCKS); the others stay.

    Raises ValueError for a marker without generator, without its other half, or inside another
    block.
    """
    opened = None
    for slash, block in MARKER.findall(text):
        if block not in KNOWN:
            raise ValueError(f"{name}: nothing writes the block {block}; takes {', '.join(KNOWN)}")
        if bool(slash) != (opened is not None) or (slash and block != opened):
            raise ValueError(
                f"{name}: the block {opened or block} is not "
                "closed, or not opened; takes a pair of markers"
            )
        opened = None if slash else block
    if opened:
        raise ValueError(
            f"{name}: the block {opened} is not closed, or not opened; takes a pair of markers"
        )

    def written(match: re.Match) -> str:
        maker = (makers or BLOCKS).get(match[1])
        if maker is None:
            return match[0]
        content = maker(root)
        return f"<!-- {match[1]} -->\n{content}\n<!-- /{match[1]} -->"

    return re.sub(
        r"^<!-- ([\w-]+) -->$.*?^<!-- /\1 -->$", written, text, flags=re.DOTALL | re.MULTILINE
    )
