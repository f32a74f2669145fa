"""The site: it needs no other host, everything it names is there, and every formula, row and
verdict is on it.
"""

import ast
import csv
import html
import importlib
import json
import re
import subprocess

import nbformat
import pandas as pd
import pytest
from conftest import ROOT, copy_tree
from helpers.site_pages import CHROMIUM, HEADLESS, Parsed

from walls.pipeline import log
from walls.project import origins, quoted, site, site_cells, site_text

NAMES = [
    "index.html",
    "results.html",
    "methods.html",
    "figures.html",
    "sources.html",
    "try.html",
    *(path.stem + ".html" for path in sorted((ROOT / "rendered").glob("*.ipynb"))),
]
WIDTHS = (375, 768, 1280)
# In every page, laid out as on a phone, a tablet and a desk: images that aren't there, formulas
# without a size, what is wider than the screen, with every menu of the navigation open, too.
HARNESS = """<!doctype html><title>.</title><body><script>
const found = {}, names = %s, widths = %s;
const wide = page => page.documentElement.scrollWidth;
for (const name of names) for (const width of widths) {
  const frame = document.createElement("iframe");
  frame.style.cssText = `width:${width}px;height:667px`;
  frame.onload = () => {
    const page = frame.contentDocument, all = selector => [...page.querySelectorAll(selector)];
    const menus = all("nav.pages details").map(menu => { menu.open = true; return wide(page); });
    found[name + " " + width] = {
      images: all("img").filter(image => !image.naturalWidth).map(image => image.src),
      formulas: all("math").length,
      flat: all("math").filter(math => !math.getBoundingClientRect().height).length,
      width: Math.max(wide(page), ...menus),
      dark: getComputedStyle(page.body).backgroundColor,
      cut: all("#table1").map(table => table.scrollWidth - table.parentElement.clientWidth),
      sorted: all(".sortable button").map(button => (button.click(), page.querySelector(".sortable tbody th").textContent)),
    };
    if (Object.keys(found).length === names.length * widths.length) document.body.textContent = "RESULT" + JSON.stringify(found) + "END";
  };
  frame.src = "%s" + name;
  document.body.append(frame);
}
</script>"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The site of the committed run."""
    target = tmp_path_factory.mktemp("site") / "site"
    site.build(ROOT, target)
    return target


@pytest.fixture(scope="module")
def pages(folder):
    return {path.name: Parsed(path.read_text(encoding="utf-8")) for path in folder.glob("*.html")}


def test_a_page_for_every_notebook_and_twice_the_same(folder, pages, tmp_path):
    assert set(pages) == set(NAMES)
    site.build(ROOT, tmp_path / "again")
    for path in folder.rglob("*.*"):
        assert path.read_bytes() == (tmp_path / "again" / path.relative_to(folder)).read_bytes(), (
            path.name
        )


@pytest.mark.slow
def test_a_run_without_images_to_classify(tmp_path):
    """As with presets/authors.yaml: no accuracy, and no sentence about it."""
    project = copy_tree(tmp_path / "project")
    train = json.loads((project / "metrics" / "train.json").read_text())
    none = {which: scores | {"top1": None, "top5": None} for which, scores in train.items()}
    (project / "metrics" / "train.json").write_text(json.dumps(none))
    site.build(project, tmp_path / "site")
    text = (tmp_path / "site" / "index.html").read_text()
    assert (
        "It still classifies" not in text
        and "stays bit-identical.\n" in text
        and "have this activity" in text
    )
    assert "See Through Walls</h1>" in text


def test_nothing_is_loaded_from_elsewhere(folder, pages):
    for name, page in pages.items():
        assert not [
            url for url in page.loads if re.match(r"(\w+:)?//|\w+:(?!,$)", url) and url != "data:,"
        ], name
        assert {url for url in page.links if "//" in url} <= {
            "https://doi.org/10.1007/978-3-031-70368-3_20"
        }, name
    assert not re.search(r"url\(|@import|//", (folder / "style.css").read_text())


def test_every_link_and_image_leads_somewhere(folder, pages):
    for name, page in pages.items():
        for url in filter(lambda url: "//" not in url and url != "data:,", page.links + page.loads):
            file, _, anchor = url.partition("#")
            assert (folder / (file or name)).is_file(), (name, url)
            assert not anchor or anchor in pages[file or name].ids, (name, url)


def test_every_page_has_a_title_a_way_on_and_described_images(pages):
    last = max(NAMES, key=lambda name: pages["index.html"].links.index(name))
    for name, page in pages.items():
        tags = [tag for tag, _ in page.tags]
        assert tags.count("h1") == tags.count("title") == tags.count("main") == 1, name
        assert {url for url in page.links if url.endswith(".html") and "#" not in url} >= set(
            pages
        ), name
        images = [values for tag, values in page.tags if tag == "img"]
        assert all(
            len(values["alt"]) > 9 and values["width"] and values["height"] for values in images
        ), name
        rels = {values.get("rel") for tag, values in page.tags if tag == "a"}
        assert rels >= (
            {"prev", "next"} - {"index.html": {"prev"}, last: {"next"}}.get(name, set())
        ), name


def test_every_formula_is_mathml(pages):
    for path in (ROOT / "rendered").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        text = "\n\n".join(
            "".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown"
        )
        formulas = re.findall(r"\$\$.+?\$\$|\$[^$]+\$", re.sub(r"`[^`]*`", "", text), re.DOTALL)
        page = pages[path.stem + ".html"]
        assert sum(tag == "math" for tag, _ in page.tags) == len(formulas), path.name
        assert "$" not in page.text and not re.search(r"\\[a-zA-Z]", page.text), path.name


def test_a_formula_keeps_its_letters():
    formula = site_text.mathml(
        r"\mathbb E[\mathbf{GC}'] \sim \mathcal N(0, \widehat{h'}) \begin{cases}a\\b\end{cases}"
    )
    assert all(
        part in formula
        for part in ("𝔼", "𝐆𝐂", "𝒩", "mover", "mtable", '<mi>h</mi><mo lspace="0" rspace="0">′')
    )
    assert re.search(
        r"<msup><mrow><mo [^>]*>\)</mo><mspace/></mrow><mn>2", site_text.mathml(r"\big(B\big)^2")
    )
    with pytest.raises(ValueError, match=r"formula: got .*nonsense"):
        site_text.mathml(r"\nonsense x")


def test_links_to_files_the_site_lacks_are_named_only():
    shown = site_text.markdown(
        "[a](2_wall.ipynb#x) [b](../src/walls/cams.py) [c](https://doi.org/1) [d](#e)"
    )
    assert (
        re.findall(r'href="([^"]*)"', shown) == ["2_wall.html#x", "https://doi.org/1", "#e"]
        and " b " in shown
    )


def test_the_table_has_every_row_and_the_ledger_every_verdict(folder):
    index = (folder / "results.html").read_text(encoding="utf-8")
    body = re.search(r'id="table1">.*?<tbody>(.*?)</tbody>', index, re.DOTALL)[1]
    rows = list(csv.DictReader((ROOT / "figures" / "table1.csv").open(encoding="utf-8")))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    assert re.findall(r'<th scope="row">(.*?)</th>', body) == methods
    for row in rows:
        assert f"{float(row['mean']):.1f} ± {float(row['std']):.1f}" in body
    ledger = re.findall(r'<p><span class="verdict [\w-]+">([\w ]+)</span> (.*?) <span', index)
    ledger = [(verdict, re.sub(r"<[^>]+>", "", text)) for verdict, text in ledger]
    claims = json.loads((ROOT / "metrics" / "claims.json").read_text())
    assert [(v, html.unescape(c).lower()) for v, c in ledger] == [
        (c["verdict"], c["claim"].lower()) for c in claims
    ]


@pytest.mark.slow
def test_the_front_page_is_notebook_0_without_its_code(tmp_path):
    """Title and question, what it shows and says; and the paper's own network below."""
    project = copy_tree(tmp_path / "project")
    said = nbformat.v4.new_output("execute_result", {"text/markdown": "*A map, 71.3.* So."})
    pixel = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    drawn = nbformat.v4.new_output("display_data", {"image/png": pixel})
    cells = [
        nbformat.v4.new_markdown_cell("# 0. Start here\n\n**Is it so?** Yes."),
        nbformat.v4.new_code_cell("seed = 0"),
        nbformat.v4.new_code_cell("figure = draw()", outputs=[drawn]),
        nbformat.v4.new_code_cell("caption()", outputs=[said]),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), project / "rendered" / "0_start.ipynb")
    site.build(project, tmp_path / "site")
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert front.count("<h1") == 1 and "See Through Walls</h1>" in front
    assert "<strong>Is it so?</strong> Yes" in front and "<em>A map, 71.3.</em> So." in front
    assert 'alt="A map, 71.3. So."' in front and "seed" not in front.partition('id="found"')[0]
    behind = (tmp_path / "site" / "0_start.html").read_text(encoding="utf-8")
    assert "seed" in behind and "0. Start here</h1>" in behind
    rows = pd.read_csv(ROOT / "figures" / "table1.csv").set_index(["method", "dataset"])
    table = re.search(r'<table class="short">.*?</table>', front, re.DOTALL)[0]
    lines = {
        re.search(r"<th[^>]*>(.*?)</th>", line)[1]: re.findall(r"<td>(.*?)</td>", line)
        for line in re.findall(r'<tr><th scope="row">.*?</tr>', table)
    }
    for method, line in lines.items():
        mix, paper, gen, _ = (re.sub("<.*?>", "", one) for one in line)
        assert mix.startswith(f"{rows.loc[(method, 'stack-mix'), 'mean']:.1f} ±")
        assert gen.startswith(f"{rows.loc[(method, 'stack-gen'), 'mean']:.1f} ±")
        reported = rows.loc[(method, "stack-mix"), "paper_mean"]
        assert paper.startswith("—" if pd.isna(reported) else f"{reported:.1f} ±")
    assert list(lines) == ["GradCAM", "HiResCAM", "uniform map"]
    train = json.loads((ROOT / "metrics" / "train.json").read_text())
    for scores in train.values():
        assert f"{100 * scores['top1']:.1f}" in front


def unlinked(fragment):
    """The numbers in a piece of HTML that are in no link."""
    outside = re.sub(r"<a .*?</a>", "", fragment, flags=re.DOTALL)
    return re.findall(r"\d[\d.,]*", html.unescape(re.sub(r"<[^>]+>", " ", outside)))


def aims(fragment, sources):
    """{what each link to the page of sources says: the text of the place that it leads to}."""
    found = []
    for target, text in re.findall(
        r'<a class="number" href="sources.html#([^"]+)">(.*?)</a>', fragment
    ):
        place = re.search(rf'<(td|tr|h2) id="{re.escape(target)}">(.*?)</\1>', sources, re.DOTALL)
        assert place, target
        found.append((html.unescape(text), html.unescape(re.sub(r"<[^>]+>", " ", place[2]))))
    return found


@pytest.fixture(scope="module")
def sources(folder):
    return (folder / "sources.html").read_text(encoding="utf-8")


def test_every_number_of_table_1_leads_to_its_cell(folder, sources):
    """Which holds that number, in full; on the page of results and in notebook 7."""
    results = (folder / "results.html").read_text(encoding="utf-8")
    table = re.search(r'id="table1">.*?<tbody>(.*?)</tbody>', results, re.DOTALL)[1]
    seventh = (folder / "7_paper.html").read_text(encoding="utf-8")
    tables = [
        one.partition("<tbody>")[2]
        for one in re.findall(r"<table>.*?</table>", seventh, re.DOTALL)
        if "raw (STACK-MIX)" in one
    ]
    assert len(tables) == 2  # the paper's methods, and those that open on request
    printed = "".join(tables)
    for body, columns in ((table, 3), (printed, 4)):
        assert unlinked(body) == []
        found = aims(body, sources)
        rows = pd.read_csv(ROOT / "figures" / "table1.csv")
        papers = rows["paper_mean"].notna().sum()
        assert len(found) == (columns - 1) * len(rows) + papers
        for text, value in found:
            assert re.match(r"[\d.]+", text)[0] == f"{float(value):.1f}"


def test_every_number_of_notebook_9s_table_leads_to_its_key(folder, sources):
    ninth = (folder / "9_networks.html").read_text(encoding="utf-8")
    (table,) = (
        one
        for one in re.findall(r"<table>.*?</table>", ninth, re.DOTALL)
        if "<th>verdict</th>" in one
    )
    body = table.partition("<tbody>")[2]
    report = json.loads((ROOT / "metrics" / "networks.json").read_text())["efficientnet-lite0"]
    assert unlinked(re.sub(r"<th.*?</th>", "", body)) == []
    found = aims(body, sources)
    assert len(found) == len(report["activity"]) + len(report["verdicts"])
    for text, value in found:
        assert float(re.match(r"[\d.]+", text)[0]) == pytest.approx(float(value), abs=0.051)


def test_every_number_of_the_ledger_leads_to_its_claim(folder, sources):
    results = (folder / "results.html").read_text(encoding="utf-8")
    claims = json.loads((ROOT / "metrics" / "claims.json").read_text())
    items = re.findall(r"<li>\n(<p><span class=\"verdict.*?)</li>", results, re.DOTALL)
    assert len(items) == len(claims)
    for item, claim in zip(items, claims, strict=True):
        said = re.sub(r'<span class="quiet">.*?</span>', "", item)  # its place in the paper
        assert unlinked(said) == [], claim["id"]
        for text, row in aims(said, sources):
            assert text in row or text in claim["claim"], claim["id"]


def test_a_number_that_no_file_holds_is_no_link():
    found = origins.Origins(ROOT)
    table = (
        "<table><thead><tr><th></th><th>same class</th></tr></thead><tbody>"
        "<tr><th>GradCAM</th><td>68.2 [64.4, 70.9]</td></tr>"
        "<tr><th>GradCAM</th><td>68.3 [64.4, 70.9]</td></tr></tbody></table>"
    )
    linked = found.linked(table)
    assert linked.count("<a ") == 1 and "#networks-0-0-mean" in linked
    assert "<td>68.3 [64.4, 70.9]</td>" in linked
    assert found.linked("<table><tr><td>1</td></tr></table>").count("<a ") == 0
    assert found.linked("no table") == "no table"


def equal(shown, value, share=False):
    """Whether a printed number is a file's value, rounded as it is; its sign stands outside."""
    digits = len(shown.rstrip("%").partition(".")[2])
    return shown.rstrip("%") == f"{abs(float(value)) * (100 if share else 1):.{digits}f}"


def test_the_first_lines_say_it_with_links(folder, sources):
    """GradCAM's µ on a real network and on [VGG], the dead zone's share, and the limits."""
    front = (folder / "index.html").read_text(encoding="utf-8")
    short = re.search(r'<ul class="in-short">(.*?)</ul>', front, re.DOTALL)[1]
    assert "Limits" in short and 'href="#what-this-does-not-show"' in short
    assert unlinked(re.sub("µ×100|VGG16|lite0", "", short)) == []
    (report,) = json.loads((ROOT / "metrics" / "networks.json").read_text()).values()
    means = {(row["method"], row["control"]): row["mean"] for row in report["activity"]}
    wall = json.loads((ROOT / "metrics" / "wall.json").read_text())
    table = pd.read_csv(ROOT / "figures" / "table1.csv").set_index(["dataset", "method"])
    paper, here = table.loc[("stack-mix", "GradCAM"), ["paper_mean", "mean"]]
    even = table.loc[("stack-mix", "uniform map"), "mean"]
    same, another = (means["GradCAM", control] for control in ("same class", "another class"))
    rows = [wall["dead_rows"], wall["image_rows"], wall["dead_share"]]
    expected = [same, another, report["uniform"], *rows, paper, here, even]
    found = aims(short, sources)
    assert len(found) == 9
    for (shown, text), value in zip(found, expected, strict=True):
        share = shown.endswith("%")
        assert equal(shown, value, share) and equal(shown, text, share), shown


def test_the_front_pages_captions_and_verdict_lead_to_notebook_9s_numbers(folder, sources):
    """Those that its file holds: not the one photograph's, no count and no height."""
    front = (folder / "index.html").read_text(encoding="utf-8").partition('id="found"')[0]
    first, *_ = re.findall(r'<div class="caption">(.*?)</div>', front, re.DOTALL)
    verdict = re.search(r'<pre class="verdict-text[^>]*>(.*?)</pre>', front, re.DOTALL)[1]
    (report,) = json.loads((ROOT / "metrics" / "networks.json").read_text()).values()
    means = {(row["method"], row["control"]): row["mean"] for row in report["activity"]}
    controls = ("same class", "another class", "noise", "grey")
    expected = [means["GradCAM", control] for control in controls]
    expected += [means["HiResCAM", "same class"], report["uniform"]]
    for part, values in ((first, [report["uniform"]]), (verdict, expected)):
        found = aims(part, sources)
        assert len(found) == len(values)
        for (shown, text), value in zip(found, values, strict=True):
            assert equal(shown, value) and equal(shown, text)
    rows = [str(report["image_rows"] // 2), str(report["image_rows"])]
    assert set(rows) < set(unlinked(verdict)) and set(rows) < set(unlinked(first))


def test_notebook_7s_sentences_and_captions_lead_to_their_numbers(folder, sources):
    seventh = (folder / "7_paper.html").read_text(encoding="utf-8")
    outputs = re.findall(r'<pre class="output[^>]*>(.*?)</pre>', seventh, re.DOTALL)
    control = pd.read_csv(ROOT / "figures" / "control.csv")
    control = control.set_index(["dataset", "method", "control"]).abs()
    (lines,) = (one.splitlines() for one in outputs if " instead: " in one)
    for line in lines[:2]:
        dataset, rows = line.partition(":")[0].lower(), []
        for name in re.findall(r"(no animal|another class|grey) instead", line):
            row = control.loc[dataset, "GradCAM", name]
            rows += [control.loc[(dataset, "GradCAM", "same class"), "mean"], row["mean"]]
            rows += [row["difference"], row["difference_high"], row["difference_low"]]
        if "of its mass" in line:
            rows += list(control.loc[dataset, "GradCAM", "no animal"][-4:])
        found = aims(line, sources)
        assert len(found) == len(rows) >= 10
        for (shown, text), value in zip(found, rows, strict=True):
            assert equal(shown, value) and equal(shown, text), (dataset, shown)
    assert len(aims(lines[2], sources)) == 3  # notebook 9's means
    (history,) = (one for one in outputs if "masked_train_loss" in one)
    last = pd.read_csv(ROOT / "figures" / "fig5.csv").iloc[-1]
    found = aims(history, sources)
    assert len(found) == len(last) - 1
    for (shown, text), value in zip(found, last[1:], strict=True):
        assert equal(shown, value) and equal(shown, text)
    dark = re.findall(r'HiResCAM[^<]{3,12}<a [^>]*#claim-hirescam-dark">0</a> on every', seventh)
    assert len(dark) == 2


def test_a_number_in_a_sentence_is_linked_where_its_words_and_its_value_agree():
    linked = quoted.Quoted(origins.Origins(ROOT)).linked
    said = "efficientnet-lite0: GradCAM {} (same class), 6.9 ({}); HiResCAM 0.0 whatever lies there"
    assert linked(said.format("68.2", "another class")).count("<a ") == 3
    assert linked(said.format("68.3", "another class")).count("<a ") == 2  # a wrong value
    assert linked(said.format("68.2", "grey")).count("<a ") == 2  # another one's value
    control = pd.read_csv(ROOT / "figures" / "control.csv")
    rows = control[(control["dataset"] == "stack-gen") & (control["method"] == "GradCAM")]
    rows = rows.set_index("control")
    same, row = rows.loc["same class"], rows.loc["no animal"]
    without = f"GradCAM, no animal instead: {same['mean']:.1f} → {row['mean']:.1f} "
    without += f"({-row['difference']:+.1f} [{-row['difference_high']:+.1f}, "
    for wrong in (
        "GradCAM++ 68.2 (same class)",
        "68.2 (same class)",
        "STACK-MIX: " + without,  # STACK-GEN's numbers
        "a map that is the same everywhere 49.1",
        "Of 20 photographs, 2 show it",
    ):
        assert linked(wrong) == wrong
    assert linked(f"STACK-GEN: {without}+{10 - row['difference_low']:.1f}]").count("<a ") == 4


def test_the_page_of_sources_names_stage_cell_function_and_parameters(folder, pages, sources):
    lock = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    for stage, file in log.executed(ROOT).items():
        section = re.search(rf'id="stage-{re.escape(stage)}">(.*?)</section>', sources, re.DOTALL)
        if f"\n  {stage}:\n" not in lock:  # test_project.py says so
            continue
        assert f'href="{file.stem}.html"' in section[1]
        assert "<code>seed: 0</code>" in section[1], stage
    for cell in re.findall(r'href="([^"]+)">this cell', sources):
        page, _, anchor = cell.partition("#")
        assert anchor in pages[page].ids
    assert sources.count("this cell</a>") == len(origins.WRITTEN)
    for _, _, function in origins.WRITTEN.values():
        module, _, name = function.rpartition(".")
        assert callable(getattr(importlib.import_module(module), name)) and function in sources
    after = re.search(r'id="stage-paper">(.*?)</section>', sources, re.DOTALL)[1]
    assert 'href="#stage-cams@stack-mix"' in after and 'href="#stage-networks"' in after


def test_every_figure_leads_to_its_cell_and_its_function(folder, pages):
    """A cell that shows it; a function that there is."""
    text = (folder / "figures.html").read_text(encoding="utf-8")
    drawn = re.findall(r'<figure class="drawing" id="([\w-]+)">(.*?)</figure>', text, re.DOTALL)
    assert len(drawn) == len(list((ROOT / "figures").glob("*.png")))
    for name, figure in drawn:
        page, cell, function = re.search(
            r'href="([^"#]+)#(cell-\d+)">its cell</a> calls <code>([\w.]+)<', figure
        ).groups()
        own = (folder / page).read_text(encoding="utf-8")
        shown = re.search(rf'<figure class="cell" id="{cell}">(.*?)</figure>', own, re.DOTALL)[1]
        assert f'src="figures/{name}.png"' in shown, name
        module, _, called = function.rpartition(".")
        assert callable(getattr(importlib.import_module(module), called)), function
        assert "sources.html#stage-" in figure, name


def test_a_picture_is_the_one_that_its_cell_saves():
    """Not one that the cell only names, as a folder."""
    source = 'folder = runs("networks")\nfigure = style.save(plots.maps(one), folder, "fig1")'
    (name, function), *others = site_cells._drawings(source).items()
    assert (name, ast.unparse(function), others) == ("fig1", "plots.maps", [])
    later = 'drawn = plots.curves(a) if a else plots.none()\nfigure = save(drawn, b, "sweep")'
    assert ast.unparse(site_cells._drawings(later)["sweep"]) == "plots.curves"
    assert site_cells._drawings('one = start(paths.runs("networks"), a, "b")') == {}


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: the pages were checked, but not opened in a browser"
)
def test_in_a_browser_without_a_network(folder, pages, tmp_path, scheme):
    harness = tmp_path / "harness.html"
    names, widths = json.dumps(NAMES), json.dumps(WIDTHS)
    harness.write_text(HARNESS % (names, widths, folder.as_uri() + "/"))
    command = [
        *HEADLESS,
        "--enable-logging=stderr",
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--blink-settings=preferredColorScheme={int(scheme == 'light')}",
        "--virtual-time-budget=60000",
        "--dump-dom",
        harness.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ":CONSOLE" not in done.stderr, done.stderr[-2000:]
    result = re.search(r"RESULT(.*)END", done.stdout)
    assert result, done.stderr[-2000:]
    found = json.loads(html.unescape(result[1]))
    for name in NAMES:
        for width in WIDTHS:
            one = found[f"{name} {width}"]
            assert one["images"] == [] and one["flat"] == 0 and one["width"] <= width, (name, one)
            assert one["formulas"] == sum(tag == "math" for tag, _ in pages[name].tags)
            assert (one["dark"] == "rgb(23, 25, 29)") == (scheme == "dark")
    assert found["results.html 1280"]["cut"] == [0]  # the table, of its box
    table = pd.read_csv(ROOT / "figures" / "table1.csv")
    table = table[table["dataset"] == "stack-mix"].set_index("method")["mean"]
    every = pd.read_csv(ROOT / "showcase" / "methods" / "methods.csv")
    brightest = every.loc[every["same class"].idxmax(), "method"]
    assert found["methods.html 375"]["sorted"][2] == brightest  # methods, networks, same class
    assert found["results.html 375"]["sorted"][:2] == [table.index.min(), table.idxmax()]
