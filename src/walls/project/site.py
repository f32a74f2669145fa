"""The site: what was found, and the rendered notebooks, as static pages.

They open from the disk, offline.

Formulas become MathML while building, so the pages need no other host, no font and, but for sorting
a table and moving the wall, no script.
"""

import base64
import csv
import html
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import jinja2
import nbformat
import yaml
from math_core import LatexError, LatexToMathML
from nbconvert.filters.markdown_mistune import IPythonRenderer, MarkdownWithMath
from nbformat import NotebookNode
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from walls.figures.style import DEAD, heat_colours

TEMPLATES = Path(__file__).with_name("templates")
COPIED = (".png", ".pdf", ".csv", ".tex")
MEMBERS = {
    "masked": "behind the wall",
    "baseline": "no wall",
    "stack-mix": "STACK-MIX",
    "stack-gen": "STACK-GEN",
}
LATEX = LatexToMathML(fancy_error=False)


@dataclass
class Page:
    """One rendered notebook as a page.

    A page has its file, its title, the question that it answers, and its cells as HTML.
    """

    file: str
    title: str
    question: str
    cells: list[dict]


@dataclass
class Figure:
    """One file of `figures/`, with the caption under it in the notebook that draws it."""

    name: str
    files: list[str]
    width: int
    height: int
    caption: str = ""
    alt: str = ""
    page: str = ""


@dataclass
class Site:
    """Everything the templates show."""

    pages: list[Page] = field(default_factory=list)
    images: dict[str, bytes] = field(default_factory=dict)
    captions: dict[str, tuple[str, str, str]] = field(default_factory=dict)


class Renderer(IPythonRenderer):
    """Markdown to HTML.

    Formulas as MathML, links between notebooks as links between pages, tables in a scrolling box.
    """

    def inline_math(self, body: str) -> str:
        """A formula in the line; a long one may become a line of its own on a narrow screen."""
        formula = mathml(body)
        return f'<span class="long">{formula}</span>' if len(plain(formula)) > 24 else formula

    def block_math(self, body: str) -> str:
        """A displayed formula; a block of its own, so that it scrolls where it is too wide.

        Its number, a `\\tag`, stands beside it.
        """
        number = re.search(r"\\tag\{(\w+)\}", body)
        formula = mathml(body.replace(number[0], "") if number else body, display=True)
        beside = f'<span class="number">({number[1]})</span>' if number else ""
        return f'<span class="display" tabindex="0">{formula}{beside}</span>'

    def latex_environment(self, name: str, body: str) -> str:
        """A displayed environment."""
        return self.block_math(f"\\begin{{{name}}}{body}\\end{{{name}}}")

    def heading(self, text: str, level: int, **attrs) -> str:
        """A heading that can be linked to."""
        return f'<h{level} id="{slug(plain(text))}">{text}</h{level}>\n'

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """A link to another page or another host.

        Files that the site doesn't hold are named without a link.
        """
        notebook = re.fullmatch(r"(?:\./)?([\w-]+)\.ipynb(#.*)?", url)
        if notebook:
            url = f"{notebook[1]}.html{notebook[2] or ''}"
        elif not url.startswith(("https://", "#")):
            return text
        return super().link(text, url, title)

    def table(self, text: str) -> str:
        """A table in a box of its own."""
        return f'<div class="scroll" tabindex="0"><table>{text}</table></div>\n'


def mathml(latex: str, display: bool = False) -> str:
    """A formula as MathML; ValueError where it can't be converted."""
    try:
        converted = LATEX.convert_with_local_state(latex.strip(), displaystyle=display)
    except LatexError as error:
        raise ValueError(f"formula: got {latex.strip()}; {error}") from None
    # Browsers stretch a tall bracket that carries an exponent wrongly, unless something stands
    # beside it.
    converted = re.sub(
        r"<(msu[bp]+)>(<mo minsize[^>]*>[^<]*</mo>)", r"<\1><mrow>\2<mspace/></mrow>", converted
    )
    # Fonts draw a prime raised already; as a superscript it would be tiny.
    return re.sub(
        r"<msup>(<mi>[^<]*</mi>)<mo>′</mo></msup>",
        r'<mrow>\1<mo lspace="0" rspace="0">′</mo></mrow>',
        converted,
    )


def markdown(text: str) -> str:
    """A notebook's Markdown as HTML; no line breaks between a formula and the comma after it."""
    rendered = MarkdownWithMath(renderer=Renderer(escape=False)).render(text)
    rendered = re.sub(r"</math></span>([.,;:)”]+)", r"</math>\1</span>", rendered)
    return re.sub(
        r"(<math>(?:(?!</?math).)*</math>)([.,;:)”]+)(?!</span>)",
        r'<span class="joined">\1\2</span>',
        rendered,
    )


def plain(fragment: str) -> str:
    """The text of a piece of HTML, on one line."""
    return " ".join(html.unescape(re.sub(r"<[^>]+>", "", fragment)).split())


def slug(text: str) -> str:
    """A heading's text as an id."""
    return "-".join(re.findall(r"\w+", text.lower()))


def size(png: bytes) -> tuple[int, int]:
    """Width and height of a PNG, from its header."""
    return int.from_bytes(png[16:20], "big"), int.from_bytes(png[20:24], "big")


def caption(cell: NotebookNode | None) -> str:
    """The caption that a Markdown cell under a figure opens with, as HTML.

    It is the first paragraph, in italics.
    """
    first = (
        cell.source.strip().split("\n\n")[0]
        if cell is not None and cell.cell_type == "markdown"
        else ""
    )
    return (
        re.sub(r"^<p>|</p>$", "", markdown(first).strip())
        if first.startswith("*") and first[1:2] != "*"
        else ""
    )


def add_page(site: Site, path: Path, figures: dict[str, tuple[int, int]]) -> None:
    """Turn a rendered notebook into a page; its images and its figures' captions go to the site's.

    What a cell draws and saves is shown as the file in `figures` (name: width, height), which is
    finer.
    """
    notebook = nbformat.read(path, as_version=4)
    tags = [set(cell.metadata.get("tags", [])) for cell in notebook.cells]
    injected = any("injected-parameters" in found for found in tags)
    page = Page(f"{path.stem}.html", *heading(notebook, path.stem), cells=[])
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            page.cells.append({"kind": "text", "html": markdown(cell.source)})
        elif cell.cell_type == "code" and not (injected and "parameters" in tags[number]):
            following = notebook.cells[number + 1] if number + 1 < len(notebook.cells) else None
            below = caption(following)
            drawn = [name for name in re.findall(r'"([\w-]+)"', cell.source) if name in figures]
            pictures = [
                i for i, output in enumerate(cell.outputs) if "image/png" in output.get("data", {})
            ]
            # A cell's last names are those of its drawings, in order.
            saved = dict(zip(reversed(pictures), reversed(drawn), strict=False))
            if saved and below:
                site.captions[drawn[-1]] = (below, plain(below), page.file)
            style = (
                "verdict-text"
                if notebook.cells[number - 1].source.rstrip().endswith("## Verdict")
                else "output"
            )
            label = (
                "The parameters of this run"
                if tags[number] & {"injected-parameters", "parameters"}
                else ""
            )
            outputs = []
            for i, output in enumerate(cell.outputs):
                if i in saved:
                    outputs.append(
                        image_html(f"figures/{saved[i]}.png", figures[saved[i]], plain(below))
                    )
                else:
                    outputs.append(
                        output_html(site, output, f"{path.stem}-{number}-{i}", plain(below), style)
                    )
            page.cells.append(
                {"kind": "code", "label": label, "html": code(cell.source), "outputs": outputs}
            )
    site.pages.append(page)


def heading(notebook: NotebookNode, stem: str) -> tuple[str, str]:
    """A notebook's title, told apart from its sister's, and its question (both as plain text)."""
    first = notebook.cells[0].source
    title = re.search(r"^# (.+)$", first, re.MULTILINE)[1]
    question = re.search(r"\*\*(.+?\?)\*\*", first, re.DOTALL)
    kind, network = _network(stem.partition("-")[2])
    member = MEMBERS.get(kind, kind) + (f", network {network}" if network else "")
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
        sentences = any(len(plain(cell)) > 40 for cell in re.findall(r"<t[hd].*?</t[hd]>", table))
        return f'<div class="scroll{" sentences" if sentences else ""}" tabindex="0">{table}</div>'
    text = html.escape((data.get("text/plain") or output.text).rstrip(), quote=False)
    columns = re.search(r"\S  +\S|^ ", text, re.MULTILINE)
    return f'<pre class="{style}{"" if columns else " sentences"}" tabindex="0">{text}</pre>'


def image_html(src: str, size: tuple[int, int], alt: str) -> str:
    """An image that opens in full where it is pressed."""
    alt = html.escape(alt or "What the code above draws")
    image = f'<img src="{src}" width="{size[0]}" height="{size[1]}" alt="{alt}">'
    return f'<a class="full" href="{src}">{image}</a>'


def sortable_table(path: Path) -> dict:
    """Table 1, a row a method and a group of columns a dataset.

    A cell is a pair: the text to show, the number to sort by.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods = {row["method"]: {} for row in rows}
    for row in rows:
        mean, std, low, high, paper, paper_std = (
            float(row[key] or "nan")
            for key in ("mean", "std", "ci_low", "ci_high", "paper_mean", "paper_std")
        )
        reported = (f"{paper:.1f} ± {paper_std:.1f}", paper) if row["paper_mean"] else ("—", -1.0)
        ours = [(f"{mean:.1f} ± {std:.1f}", mean), (f"{low:.1f} – {high:.1f}", low)]
        methods[row["method"]][row["dataset"]] = [*ours, reported]
    blank = [("—", -1.0)] * 3
    return {
        "datasets": [MEMBERS.get(name, name) for name in datasets],
        "rows": [
            (method, [cell for d in datasets for cell in found.get(d, blank)])
            for method, found in methods.items()
        ],
    }


def gallery(site: Site, folder: Path) -> list[Figure]:
    """The figures in the paper's order, then the others, with the notebooks' captions."""
    names = sorted(
        {path.stem for path in folder.glob("*.png")},
        key=lambda name: (not re.fullmatch(r"fig\d+", name), name),
    )
    found = []
    for name in names:
        files = sorted(path.name for path in folder.glob(f"{name}.*") if path.suffix in COPIED[1:])
        text, alt, page = site.captions.get(name, ("", f"Figure {name}", ""))
        found.append(
            Figure(name, files, *size((folder / f"{name}.png").read_bytes()), text, alt, page)
        )
    return found


def build(root: Path, target: Path) -> list[Path]:
    """Build the site of the project at `root` into `target`; the pages written.

    Raises ValueError where a formula can't be converted or there is nothing to show.
    """
    figures, notebooks = (
        root / "figures",
        sorted((root / "rendered").glob("*_*.ipynb"), key=reading_order),
    )
    if not notebooks:
        raise ValueError("rendered/ holds no notebook; run `dvc repro` first")
    site = Site()
    for path in notebooks:
        add_page(site, path, {file.stem: size(file.read_bytes()) for file in figures.glob("*.png")})
    metrics = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((root / "metrics").glob("*.json"))
    }
    if (figures / "sweep.json").is_file():
        site.pages.append(
            Page(
                "sweep.html",
                "Every wall at once, by hand",
                "What happens to a map when the wall moves?",
                [],
            )
        )
        metrics["sweep"] = json.loads((figures / "sweep.json").read_text(encoding="utf-8"))
        chosen = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        metrics["sweep"] |= {"colours": heat_colours(chosen["heat"]), "dead": DEAD}
    drawn = gallery(site, figures)
    shared = {
        "pages": site.pages,
        "figures": drawn,
        "table": sortable_table(figures / "table1.csv"),
        "verdicts": Counter(claim["verdict"] for claim in metrics["claims"]),
        **metrics,
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters["slug"] = slug
    shutil.rmtree(target, ignore_errors=True)
    (target / "images").mkdir(parents=True)
    shutil.copyfile(TEMPLATES / "style.css", target / "style.css")
    shutil.copytree(
        figures,
        target / "figures",
        ignore=lambda _, names: [n for n in names if not n.endswith(COPIED)],
    )
    for name, png in site.images.items():
        (target / name).write_bytes(png)
    written = []
    order = ["index.html", *(page.file for page in site.pages), "figures.html"]
    titles = ["See Through Walls", *(page.title for page in site.pages), "Figures"]
    for number, file in enumerate(order):
        ends = {"previous": number - 1, "following": number + 1}
        around = {
            key: (order[i], titles[i]) if 0 <= i < len(order) else None for key, i in ends.items()
        }
        page = site.pages[number - 1] if 0 < number <= len(site.pages) else None
        template = environment.get_template("page.html" if page and page.cells else file)
        written.append(target / file)
        rendered = template.render(shared | around, file=file, title=titles[number], page=page)
        written[-1].write_text(rendered, encoding="utf-8")
    return written


def reading_order(path: Path) -> tuple:
    """By number; of sisters, the paper's own first: the masked network, STACK-MIX.

    Those of further networks (4_train-masked-1) come after all first ones.
    """
    number, _, member = path.stem.partition("-")
    kind, network = _network(member)
    return number, network, [*MEMBERS].index(kind) if kind in MEMBERS else -1


def _network(member: str) -> tuple[str, int]:
    """A notebook's member and the number of its network: masked-1 is (masked, 1), masked 0."""
    found = re.fullmatch(r"(.+)-(\d+)", member)
    return (found[1], int(found[2])) if found else (member, 0)
