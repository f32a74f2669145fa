"""The site's page to try, photographs and a real network: what stands there is play.json's, drawn in
the figures' colours, by keyboard, on a phone, without a server.
"""

import base64
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from conftest import ROOT
from helpers.played import played
from helpers.site_pages import Browser, Parsed, built, opened
from matplotlib.colors import to_rgb
from PIL import Image

from walls.figures import style
from walls.saliency.activity import upscale

# All share maps of sixty stacks, in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("played")]

SWEEP = (ROOT / "figures" / "sweep.json").read_text(encoding="utf-8")
CHOICES = ("photograph", "place", "hidden", "explained")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """Both tabs, of real files."""
    text = json.dumps(played()[3])
    file = built(tmp_path_factory.mktemp("played"), "viridis", play=text, sweep=SWEEP)
    return json.loads(text), file


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    yield from opened(page[1], tmp_path_factory.mktemp("profile"))


def test_the_page_holds_the_run_and_labels_every_control(page):
    content, file = page
    text = file.read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    assert held["play"] == content and held["sweep"] == json.loads(SWEEP)
    parsed = Parsed(text)
    named = [values["id"] for tag, values in parsed.tags if tag in ("select", "input")]
    labelled = [values["for"] for tag, values in parsed.tags if tag == "label"]
    assert sorted(named) == sorted(labelled) == sorted([*CHOICES, "image", "method", "wall"])
    assert set(parsed.loads) == {"data:,", "style.css"}
    assert not re.search(r"https?://|fetch|XMLHttp|import\(", text)
    assert "walls check NETWORK --images FOLDER" in text and "5 photographs" in parsed.text
    front = (file.parent / "index.html").read_text(encoding="utf-8")
    assert '<p><a href="try.html">Try it</a>' in front


def test_without_either_file_the_page_says_so_or_is_not_there(page, tmp_path):
    alone = built(tmp_path / "sweep", sweep=SWEEP).read_text(encoding="utf-8")
    assert "left nothing to draw in this run" in alone and 'role="tab"' not in alone
    alone = built(tmp_path / "play", play=json.dumps(page[0])).read_text(encoding="utf-8")
    assert 'role="tab"' not in alone and 'id="play"' in alone and 'id="drawn"' not in alone
    none = built(tmp_path / "none")
    assert not none.exists() and "try.html" not in (none.parent / "index.html").read_text()


def shown(browser):
    """What the page says, as text."""
    return browser.run("""({
        hidden: at("rows-hidden").textContent, lies: at("lies").textContent,
        mu: at("activity").textContent, uniform: at("of-uniform").textContent,
        logits: [...at("logits").tBodies[0].rows].map(row => [...row.cells].map(c => c.textContent)),
        moved: at("moved").textContent, size: [at("pair").width, at("pair").height],
    })""")


def expected(content, photograph, place, hidden, explained):
    where = content["places"][place]
    found = where["photographs"][photograph]
    control, method = content["controls"][hidden], content["methods"][explained]
    mu, rows, dead = found["mu"][control][method], where["image_rows"], where["dead_rows"]
    return {
        "hidden": f"{dead} of {rows} rows ({round(100 * dead / rows)}%)",
        "lies": content["photographs"][photograph]["below"][control]["name"],
        "mu": "the map is empty" if mu is None else f"{mu:.1f}",
        "uniform": f"{where['uniform']:.1f}",
        "logits": [[name, f"{value:.3f}"] for name, value in found["logits"]],
        "moved": "They do not move: over the 4 choices of what lies there, the largest change of any "
        f"of the 1000 logits is {found['moved']:g}.",
        "size": [2 * 448 + 16, 2 * rows],
    }


@pytest.mark.browser
def test_the_keyboard_reaches_every_choice(page, browser):
    """A tab's name, its link, then the four choices; each moves what is shown, and nothing else."""
    content, _ = page
    state = dict.fromkeys(CHOICES, 0)
    assert shown(browser) == expected(content, *state.values())
    browser.run("at('tab-photographs').focus()")
    for name in CHOICES:
        browser.press("Tab")
        assert browser.run("document.activeElement.id") == name
        for _ in range(2):
            browser.press("ArrowDown")
            state[name] += 1
            assert shown(browser) == expected(content, *state.values()), state
    browser.run(f"for (const id of {json.dumps(CHOICES)}) at(id).selectedIndex = 0; explain()")


@pytest.mark.browser
def test_the_arrow_keys_change_the_tab(page, browser, tmp_path):
    def tabs(browser):
        return browser.run(
            "[at('photographs').hidden, at('drawn').hidden,"
            "...tabs.map(tab => tab.getAttribute('aria-selected'))]"
        )

    first, second = [False, True, "true", "false"], [True, False, "false", "true"]
    assert tabs(browser) == first
    browser.run("at('tab-photographs').focus()")
    for key, state in (("ArrowRight", second), ("ArrowRight", first), ("ArrowLeft", second)):
        browser.press(key)
        assert tabs(browser) == state
        assert browser.run("document.activeElement.getAttribute('aria-selected')") == "true"
    browser.press("Home")
    assert tabs(browser) == first
    by_address = Browser(page[1].as_uri() + "#drawn", tmp_path / "profile")
    assert tabs(by_address) == second
    by_address.close()


@pytest.mark.browser
def test_it_fits_a_phone_and_makes_no_noise(browser):
    assert browser.run("document.documentElement.scrollWidth") <= 375
    heights = "[...document.querySelectorAll('#play select')].map(e => e.offsetHeight)"
    assert min(browser.run(heights)) >= 32  # a finger's
    assert browser.noise() == []


@pytest.mark.browser
def test_the_maps_are_the_librarys(page, browser):
    """Of 14 × 7 and of 7 × 7 cells."""
    content, _ = page
    for number in (0, 1):
        place = content["places"][number]
        text = place["photographs"][1]["maps"]["another class"]["EigenCAM"]
        shape = place["map_rows"], place["map_columns"]
        size = place["image_rows"], place["image_columns"]
        values = browser.run(
            f"[...upscale(bytes({json.dumps(text)}), {[*shape]}, {[*size]})].map(Math.fround)"
        )
        raw = torch.tensor([*base64.b64decode(text)]).double().view(1, *shape)
        assert np.abs(np.array(values) - upscale(raw, size).flatten().numpy()).max() < 1e-6


@pytest.mark.browser
@pytest.mark.parametrize("place", [0, 1])
def test_the_picture_is_both_parts_and_the_map_over_them(page, browser, place):
    """Left, the seen rows of one photograph and the hidden rows of the other; right, the map."""
    content, _ = page
    where, one = content["places"][place], content["photographs"][1]
    picture = browser.run(f"""
        at("photograph").value = 1, at("hidden").value = "another class", at("place").value = {place},
        at("explained").value = "GradCAM", explain(), at("pair").toDataURL().split(",")[1]
    """)
    drawn = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB"))
    drawn = drawn.astype(float)
    rows, seen = where["image_rows"], where["image_rows"] - where["dead_rows"]

    def jpeg(number):
        stream = io.BytesIO(base64.b64decode(content["pictures"][number]))
        return np.asarray(Image.open(stream).convert("RGB")).astype(float)

    lower = jpeg(one["below"]["another class"]["picture"])
    parts = np.concatenate([jpeg(one["picture"])[:seen], lower if place == 0 else lower[seen:]])
    half = drawn.reshape(rows, 2, -1, 2, 3).mean((1, 3))
    left, right = half[:, :224], half[:, -224:]
    assert np.abs(left[: seen - 1] - parts[: seen - 1]).mean() < 3
    inner = slice(seen + 4, rows - 4)
    hatched = np.abs(left[inner, 4:-4] - parts[inner, 4:-4]).max(2)
    assert np.median(hatched) < 25 < hatched.max()  # lines over it
    edge = np.abs(drawn[2 * seen : 2 * seen + 2] - 255 * np.array(to_rgb(style.DEAD))).max(2)
    assert edge[:, :448].max() <= 2 and edge[:, -448:].max() <= 2
    text = where["photographs"][1]["maps"]["another class"]["GradCAM"]
    raw = torch.tensor([*base64.b64decode(text)]).double()
    raw = raw.view(1, where["map_rows"], where["map_columns"])
    scores = upscale(raw, (rows, 224))[0].numpy()
    laid = 0.6 * 255 * plt.get_cmap("viridis")(scores)[..., :3] + 0.4 * parts
    assert np.abs(right[: seen - 1] - laid[: seen - 1]).mean() < 3
