"""The site: it needs no other host, everything it names is there, and every formula, row and
verdict is on it.
"""

import csv
import html
import json
import re
import subprocess

import pandas as pd
import pytest
from conftest import ROOT, copy_tree
from helpers.site_pages import CHROMIUM, HEADLESS, Parsed

from walls.project import site

NAMES = [
    "index.html",
    "figures.html",
    "sweep.html",
    *(path.stem + ".html" for path in sorted((ROOT / "rendered").glob("*.ipynb"))),
]
# In every page, laid out as on a phone: images that aren't there, formulas without a size, what is
# wider than the screen.
HARNESS = """<!doctype html><title>.</title><body><script>
const found = {}, names = %s;
for (const name of names) {
  const frame = document.createElement("iframe");
  frame.style.cssText = "width:375px;height:667px";
  frame.onload = () => {
    const page = frame.contentDocument, all = selector => [...page.querySelectorAll(selector)];
    found[name] = {
      images: all("img").filter(image => !image.naturalWidth).map(image => image.src),
      formulas: all("math").length,
      flat: all("math").filter(math => !math.getBoundingClientRect().height).length,
      width: page.documentElement.scrollWidth,
      sorted: all("#table1 button").map(button => (button.click(), page.querySelector("#table1 tbody th").textContent)),
    };
    if (Object.keys(found).length === names.length) document.body.textContent = "RESULT" + JSON.stringify(found) + "END";
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
            {"prev", "next"} - {"index.html": {"prev"}, "figures.html": {"next"}}.get(name, set())
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
    formula = site.mathml(
        r"\mathbb E[\mathbf{GC}'] \sim \mathcal N(0, \widehat{h'}) \begin{cases}a\\b\end{cases}"
    )
    assert all(
        part in formula
        for part in ("𝔼", "𝐆𝐂", "𝒩", "mover", "mtable", '<mi>h</mi><mo lspace="0" rspace="0">′')
    )
    assert re.search(
        r"<msup><mrow><mo [^>]*>\)</mo><mspace/></mrow><mn>2", site.mathml(r"\big(B\big)^2")
    )
    with pytest.raises(ValueError, match=r"formula: got .*nonsense"):
        site.mathml(r"\nonsense x")


def test_links_to_files_the_site_lacks_are_named_only():
    shown = site.markdown(
        "[a](2_wall.ipynb#x) [b](../src/walls/cams.py) [c](https://doi.org/1) [d](#e)"
    )
    assert (
        re.findall(r'href="([^"]*)"', shown) == ["2_wall.html#x", "https://doi.org/1", "#e"]
        and " b " in shown
    )


def test_the_table_has_every_row_and_the_ledger_every_verdict(folder):
    index = (folder / "index.html").read_text(encoding="utf-8")
    body = re.search(r'id="table1">.*?<tbody>(.*?)</tbody>', index, re.DOTALL)[1]
    rows = list(csv.DictReader((ROOT / "figures" / "table1.csv").open(encoding="utf-8")))
    methods = list(dict.fromkeys(row["method"] for row in rows))
    assert re.findall(r'<th scope="row">(.*?)</th>', body) == methods
    for row in rows:
        assert f"{float(row['mean']):.1f} ± {float(row['std']):.1f}" in body
    ledger = re.findall(r'<span class="verdict [\w-]+">([\w ]+)</span> (.*?) <span', index)
    claims = json.loads((ROOT / "metrics" / "claims.json").read_text())
    assert [(v, html.unescape(c).lower()) for v, c in ledger] == [
        (c["verdict"], c["claim"].lower()) for c in claims
    ]


@pytest.mark.browser
@pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium here: the pages were checked, but not opened in a browser"
)
def test_in_a_browser_without_a_network(folder, pages, tmp_path):
    harness = tmp_path / "harness.html"
    harness.write_text(HARNESS % (json.dumps(NAMES), folder.as_uri() + "/"))
    command = [
        *HEADLESS,
        "--enable-logging=stderr",
        "--allow-file-access-from-files",
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=20000",
        "--dump-dom",
        harness.as_uri(),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert ":CONSOLE" not in done.stderr, done.stderr[-2000:]
    result = re.search(r"RESULT(.*)END", done.stdout)
    assert result, done.stderr[-2000:]
    found = json.loads(html.unescape(result[1]))
    for name in NAMES:
        assert (
            found[name]["images"] == [] and found[name]["flat"] == 0 and found[name]["width"] <= 375
        ), (name, found[name])
        assert found[name]["formulas"] == sum(tag == "math" for tag, _ in pages[name].tags)
    table = pd.read_csv(ROOT / "figures" / "table1.csv")
    table = table[table["dataset"] == "stack-mix"].set_index("method")["mean"]
    assert found["index.html"]["sorted"][:2] == [table.index.min(), table.idxmax()]
