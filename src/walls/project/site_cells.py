"""A rendered notebook as a page: its cells as HTML, its pictures as files."""

import ast
import base64
import html
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from walls.project.origins import Origins
from walls.project.quoted import Quoted
from walls.project.site_text import markdown, plain

MEMBERS = {
    "masked": "behind the wall",
    "baseline": "no wall",
    "stack-mix": "STACK-MIX",
    "stack-gen": "STACK-GEN",
}
SAVING = ("save", "save_sheet", "drawn")  # functions that write a figure by its name


@dataclass
class Page:
    """One rendered notebook as a page.

    A page has its file, its title, the question that it answers, and its cells as HTML.
    """

    file: str
    title: str
    question: str
    cells: list[dict]


@dataclass(frozen=True)
class Drawn:
    """Where a figure is drawn: its caption (HTML, and as plain text), page, cell and function."""

    caption: str
    alt: str
    page: str
    cell: int
    function: str


@dataclass
class Site:
    """What the notebooks' pages give: themselves, their pictures, where each figure is drawn."""

    origins: Origins
    quoted: Quoted
    pages: list[Page] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    drawn: dict[str, Drawn] = field(default_factory=dict)


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def caption(cell: NotebookNode | None) -> str:
    """The caption that the cell under a figure opens with, as HTML.

    It is the first paragraph, in italics: of a Markdown cell, or of what a code cell shows as such.
    """
    text = ""
    if cell is not None and cell.cell_type == "markdown":
        text = cell.source
    elif cell is not None and cell.cell_type == "code":
        text = next(filter(None, map(_said, cell.outputs)), "")
    first = text.strip().split("\n\n")[0]
    italic = first.startswith("*") and first[1:2] != "*"
    return re.sub(r"^<p>|</p>$", "", markdown(first).strip()) if italic else ""


def _said(output: NotebookNode) -> str:
    """What a code cell shows as Markdown."""
    return output.get("data", {}).get("text/markdown", "")


def add_page(site: Site, path: Path, figures: dict[str, tuple[int, int]]) -> None:
    """Turn a rendered notebook into a page; its images and its figures' captions go to the site's.

    What a cell draws and saves is shown as the file in `figures` (name: width, height), which is
    finer.
    """
    notebook = nbformat.read(path, as_version=4)
    tags = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    injected = any("injected-parameters" in found for found in tags)
    page = Page(f"{path.stem}.html", *heading(notebook, path.stem), cells=[])
    modules = _imported(notebook)
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            text = site.quoted.linked(markdown(cell.source))
            page.cells.append({"kind": "text", "html": text})
        elif cell.cell_type == "code" and not (injected and "parameters" in tags[number]):
            following = notebook.cells[number + 1] if number + 1 < len(notebook.cells) else None
            below = site.quoted.linked(caption(following))
            drawn = _drawings(cell.source)
            names = [name for name in drawn if name in figures]
            pictures = [
                i for i, output in enumerate(cell.outputs) if "image/png" in output.get("data", {})
            ]
            # A cell's last names are those of its drawings, in order.
            saved = dict(zip(reversed(pictures), reversed(names), strict=False))
            for name in saved.values():
                own = below if name == names[-1] else ""
                function = _dotted(drawn[name], modules)
                site.drawn[name] = Drawn(own, plain(own), page.file, number, function)
            verdict = notebook.cells[number - 1].source.rstrip().endswith("## Verdict")
            given = tags[number] & {"injected-parameters", "parameters"}
            outputs = []
            for i, output in enumerate(cell.outputs):
                if i in saved:
                    source = f"figures/{saved[i]}.png"
                    outputs.append(image_html(source, figures[saved[i]], plain(below)))
                else:
                    style = "verdict-text" if verdict else "output"
                    name = f"{path.stem}-{number}-{i}"
                    outputs.append(output_html(site, output, name, plain(below), style))
            shown = {"kind": "code", "number": number, "source": cell.source, "outputs": outputs}
            label = "The parameters of this run" if given else ""
            page.cells.append(shown | {"label": label, "html": code(cell.source)})
    site.pages.append(page)


def _imported(notebook: NotebookNode) -> dict[str, str]:
    """What the notebook's code calls each thing that it imports from, {name: dotted name}."""
    found = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            for node in ast.walk(ast.parse(cell.source)):
                if isinstance(node, ast.ImportFrom):
                    for alias in node.names:
                        found[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    return found


def _drawings(source: str) -> dict[str, ast.expr]:
    """What a cell saves as figures, in order: {name: the function that draws it}.

    Calls SAVING(figure, …, "name"): style.save, style.save_sheet, sections.drawn. The figure is
    another call, that function itself, or what the cell assigned such a call to before.
    """
    nodes = list(ast.walk(ast.parse(source)))
    given = {
        node.targets[0].id: node.value
        for node in sorted(
            (node for node in nodes if isinstance(node, ast.Assign)), key=lambda node: -node.lineno
        )
        if isinstance(node.targets[0], ast.Name)
    }
    found: dict[str, ast.expr] = {}
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: call.lineno):
        last = call.args[-1] if len(call.args) > 2 else None
        saves = ast.unparse(call.func).rpartition(".")[2] in SAVING
        if saves and isinstance(last, ast.Constant) and isinstance(last.value, str):
            first = call.args[0]
            if isinstance(first, ast.Name):
                first = given.get(first.id, first)
            if isinstance(first, ast.IfExp):  # where there is nothing to draw, it says so
                first = first.body
            found[last.value] = first.func if isinstance(first, ast.Call) else first
    return found


def _dotted(function: ast.expr, modules: dict[str, str]) -> str:
    """A function's dotted name, by what the notebook imports; nothing for one of its own."""
    start, _, rest = ast.unparse(function).partition(".")
    return ".".join(filter(None, [modules[start], rest])) if start in modules else ""


def heading(notebook: NotebookNode, stem: str) -> tuple[str, str]:
    """A notebook's title, told apart from its sister's, and its question (both as plain text)."""
    first = notebook.cells[0].source
    title = re.search(r"^# (.+)$", first, re.MULTILINE)[1]
    question = re.search(r"\*\*(.+?\?)\*\*", first, re.DOTALL)
    kind, which = network(stem.partition("-")[2])
    member = MEMBERS.get(kind, kind) + (f", network {which}" if which else "")
    return title + (f" ({member})" if member else ""), " ".join(
        question[1].split()
    ) if question else ""


def code(source: str) -> str:
    """Python as HTML, without the marks that only the tests read."""
    shown = re.sub(r"^# (NBVAL_CHECK_OUTPUT|Parameters)\n", "", source)
    return highlight(shown, PythonLexer(), HtmlFormatter(nowrap=True)).rstrip()


def output_html(
    site: Site, output: NotebookNode, name: str, alt: str, style: str = "output"
) -> str:
    """One output of a cell as HTML, printed text in `style`; images go to the site's files."""
    data = output.get("data", {})
    if "image/png" in data:
        site.images[f"images/{name}.png"] = png = base64.b64decode(data["image/png"])
        return image_html(f"images/{name}.png", size(png), alt)
    if "text/html" in data:
        bare = r'<style.*?</style>|</?div>|\s(?:border|style|class)="[^"]*"'
        table = re.sub(bare, "", data["text/html"], flags=re.DOTALL).strip()
        link = site.origins.linked
        table = re.sub(r"<table>.*?</table>", lambda at: link(at[0]), table, flags=re.DOTALL)
        sentences = any(len(plain(cell)) > 40 for cell in re.findall(r"<t[hd].*?</t[hd]>", table))
        return f'<div class="scroll{" sentences" if sentences else ""}" tabindex="0">{table}</div>'
    if _said(output):
        return f'<div class="caption">{site.quoted.linked(markdown(_said(output)))}</div>'
    text = html.escape((data.get("text/plain") or output.text).rstrip(), quote=False)
    columns = re.search(r"\S  +\S|^ ", text, re.MULTILINE)
    style += "" if columns else " sentences"
    return f'<pre class="{style}" tabindex="0">{site.quoted.linked(text)}</pre>'


def image_html(src: str, size: tuple[int, int], alt: str) -> str:
    """An image that opens in full where it is pressed."""
    alt = html.escape(alt or "What the code above draws")
    image = f'<img src="{src}" width="{size[0]}" height="{size[1]}" alt="{alt}">'
    return f'<a class="full" href="{src}">{image}</a>'


def network(member: str) -> tuple[str, int]:
    """A notebook's member and the number of its network: masked-1 is (masked, 1), masked 0."""
    found = re.fullmatch(r"(.+)-(\d+)", member)
    return (found[1], int(found[2])) if found else (member, 0)
