"""The site: what was found, and the rendered notebooks, as static pages.

They open from the disk, offline.

Formulas become MathML while building, so the pages need no other host, no font and, but for sorting
a table and the page to try, no script.
"""

import csv
import json
import re
import shutil
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jinja2
import yaml

from walls.figures.style import DEAD, heat_colours
from walls.paper.table1 import UNIFORM, spread
from walls.project import method_table, origins
from walls.project.origins import Origins, activity_id, line_id, numbers
from walls.project.quoted import Quoted
from walls.project.site_cells import MEMBERS, Drawn, Page, Site, add_page, network, size
from walls.project.site_text import slug
from walls.saliency.controls import CONTROLS

TEMPLATES = Path(__file__).with_name("templates")
COPIED = (".png", ".pdf", ".csv", ".tex")


TRY = "try.html"
FIRST = "0_start"  # the notebook that the front page is made from
STORY = "GradCAM"  # the method that its first lines are about
UNDRAWN = Drawn("", "", "", 0, "")


@dataclass
class Figure:
    """One file of `figures/`, and where it is drawn."""

    name: str
    files: list[str]
    width: int
    height: int
    drawn: Drawn
    stage: str


def sortable_table(path: Path) -> dict:
    """Table 1, a row a method and a group of columns a dataset.

    A cell is the text to show, the number to sort by, and the number's id on the page of sources.
    """
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    datasets = list(dict.fromkeys(row["dataset"] for row in rows))
    methods: dict[str, dict] = {row["method"]: {} for row in rows}
    blank = ("—", -1.0, "")
    for number, row in enumerate(rows, 2):
        mean, std, low, high, paper, paper_std = (
            float(row[key] or "nan")
            for key in ("mean", "std", "ci_low", "ci_high", "paper_mean", "paper_std")
        )
        ours = (spread(mean, std), mean, line_id(number, "mean"))
        interval = (f"{low:.1f} – {high:.1f}", low, line_id(number, "ci_low"))
        theirs = (spread(paper, paper_std), paper, line_id(number, "paper_mean"))
        found = [ours, interval, theirs if row["paper_mean"] else blank]
        methods[row["method"]][row["dataset"]] = found
    return {
        "datasets": [MEMBERS.get(name, name) for name in datasets],
        "rows": [
            (method, [cell for d in datasets for cell in found.get(d, [blank] * 3)])
            for method, found in methods.items()
        ],
    }


def gallery(site: Site, folder: Path) -> list[Figure]:
    """The figures in the paper's order, then the others, with the notebooks' captions."""
    names = sorted(
        {path.stem for path in folder.glob("*.png")},
        key=lambda name: (not re.fullmatch(r"fig\d+", name), name),
    )
    stages = {stage.page: stage.name for stage in site.origins.stages.values()}
    found = []
    for name in names:
        files = sorted(path.name for path in folder.glob(f"{name}.*") if path.suffix in COPIED[1:])
        drawn = site.drawn.get(name, UNDRAWN)
        shape = size((folder / f"{name}.png").read_bytes())
        found.append(Figure(name, files, *shape, drawn, stages.get(drawn.page, "")))
    return found


def menu(pages: list[Page], methods: bool) -> list[tuple[str, list[tuple[str, str]]]]:
    """The navigation: groups of pages, each a file and its title, in reading order.

    `methods`: whether there is a table of every method.
    """
    groups: dict[str, list[tuple[str, str]]] = {"The paper": [], "Beyond the paper": []}
    further, code = [], []
    for page in pages:
        number, one = page.file[0], (page.file, page.title)
        if page.file == f"{FIRST}.html":
            code.append((page.file, f"{page.title} (with its code)"))
        elif re.search(r"-\d+\.html$", page.file):
            further.append(one)
        else:
            groups["The paper" if "1" <= number <= "7" else "Beyond the paper"].append(one)
    every = [(method_table.FILE, "Every method")] if methods else []
    groups["Results"] = [*RESULTS[:1], *every, *RESULTS[1:], *code]
    if further:
        groups["Further networks"] = further
    return [(name, group) for name, group in groups.items() if group]


RESULTS = [
    ("results.html", "Table 1 and the claims"),
    ("figures.html", "Figures"),
    (origins.PAGE, "Where the numbers come from"),
]


def front(pages: list[Page]) -> Page | None:
    """Notebook 0 for the front page, which has a title of its own; None where it wasn't run."""
    found = next((page for page in pages if page.file == f"{FIRST}.html"), None)
    if found is None:
        return None
    first = re.sub(r"<h1.*?</h1>", "", found.cells[0]["html"])
    return replace(found, cells=[found.cells[0] | {"html": first}, *found.cells[1:]])


def tries(root: Path) -> dict[str, Any]:
    """What the page to try draws from: what notebooks 9 and 8 left for it, as far as it is there.

    `play`: photographs and a real network; `sweep`: drawn animals; `look`: the figures' colours.
    Empty where neither is there.
    """
    files = {name: root / "figures" / f"{name}.json" for name in ("play", "sweep")}
    found = {
        name: json.loads(file.read_text(encoding="utf-8"))
        for name, file in files.items()
        if file.is_file()
    }
    if found:
        chosen = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
        found["look"] = {"colours": heat_colours(chosen["heat"]), "dead": DEAD}
    return found


def in_short(origins: Origins) -> dict[str, Any]:
    """GradCAM's µ×100 for the first lines of the front page, each with its link.

    `real`: the first network in use, its name and its means by what lies in the hidden part;
    `paper` and `here`: STACK-MIX, in the paper and with the network trained here. `uniform` and
    `even`: of a map that is the same everywhere, behind the one wall and behind the other. Empty
    where it wasn't measured.
    """
    keys = ("name", "uniform", "paper", "here", "even")
    found: dict[str, Any] = {**dict.fromkeys(keys, ""), "real": {}}
    for name, report in list(origins.networks.items())[:1]:
        found["name"] = name
        found["uniform"] = numbers(f"{report['uniform']:.1f}", "networks-0-uniform")
        for place, row in enumerate(report["activity"]):
            if row["method"] == STORY and row["mean"] is not None:
                target = activity_id(0, place, "mean")
                found["real"][row["control"]] = numbers(f"{row['mean']:.1f}", target)
    sought = {STORY: {"paper": "paper_mean", "here": "mean"}, UNIFORM: {"even": "mean"}}
    for line, row in enumerate(origins.table1, 2):
        wanted = sought.get(row["method"], {}) if row["dataset"] == "stack-mix" else {}
        for key, column in wanted.items():
            if row[column]:
                found[key] = numbers(f"{float(row[column]):.1f}", line_id(line, column))
    return found


def written_by(site: Site) -> dict[str, dict[str, Any]]:
    """For each file on the page of sources its stage, notebook's cell and function."""
    found = {}
    for file, (stage, mark, function) in origins.WRITTEN.items():
        page = next((p for p in site.pages if p.file == site.origins.stages[stage].page), None)
        cells = [cell for cell in page.cells if mark in cell.get("source", "")] if page else []
        place = f"{page.file}#cell-{cells[0]['number']}" if page and cells else ""
        found[file] = {"stage": stage, "place": place, "function": function}
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
    found = Origins(root)
    site = Site(found, Quoted(found))
    for path in notebooks:
        add_page(site, path, {file.stem: size(file.read_bytes()) for file in figures.glob("*.png")})
    metrics = {
        path.stem: json.loads(path.read_text(encoding="utf-8"))
        for path in sorted((root / "metrics").glob("*.json"))
    }
    tried = tries(root)
    if tried:
        site.pages.append(Page(TRY, "Try it", "What does a map show of what is hidden?", []))
    methods = method_table.methods(root)
    groups = menu(site.pages, bool(methods["rows"]))
    shared = {
        "pages": site.pages,
        "groups": groups,
        "methods": methods,
        "controls": CONTROLS,
        "figures": gallery(site, figures),
        "origins": site.origins,
        "written": written_by(site),
        "start": front(site.pages),
        "short": in_short(site.origins),
        "tried": tried,
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
    environment.filters |= {"slug": slug, "numbers": numbers}
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
    order = [("index.html", "See Through Walls"), *(one for _, group in groups for one in group)]
    cells = {page.file: page for page in site.pages}
    for number, (file, title) in enumerate(order):
        ends = {"previous": number - 1, "following": number + 1}
        around = {key: order[i] if 0 <= i < len(order) else None for key, i in ends.items()}
        page = cells.get(file)
        template = environment.get_template("page.html" if page and page.cells else file)
        written.append(target / file)
        own = {"file": file, "title": page.title if page else title, "page": page}
        written[-1].write_text(template.render(shared | around | own), encoding="utf-8")
    return written


def reading_order(path: Path) -> tuple:
    """By number; of sisters, the paper's own first: the masked network, STACK-MIX.

    Those of further networks (4_train-masked-1) come after all first ones.
    """
    number, _, member = path.stem.partition("-")
    kind, which = network(member)
    return number, which, [*MEMBERS].index(kind) if kind in MEMBERS else -1
