"""The site's page on which one moves the wall by hand: keyboard, numbers, colours, a phone's width,
without a server.
"""

import base64
import io
import json
import re

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import make_tiny
from helpers.site_pages import Parsed, built, opened
from matplotlib.colors import to_rgb
from PIL import Image

from walls.figures import style
from walls.network import geometry
from walls.saliency.activity import activity, upscale
from walls.sweep import heads
from walls.sweep import page as sweep_page

METHODS = ("GradCAM", "HiResCAM")


def heights(images: int = 2) -> list[heads.Height]:
    """Random maps at every height, the last image's of the last method empty."""
    features, random = make_tiny(wall_rows=0).features, torch.Generator().manual_seed(0)
    found = []
    for rows in geometry.every_wall(features, 224):
        zone = geometry.dead_zone(features, 224, rows)
        maps = {method: torch.rand(images, 14, 14, generator=random) ** 3 for method in METHODS}
        maps["HiResCAM"][-1] = 0
        measured = pd.DataFrame(
            {"predicted": image, "method": method, "mu": float(mu)}
            for method, raw in maps.items()
            for image, mu in enumerate(activity(upscale(raw, 224), zone.dead_rows))
        )
        found.append(heads.Height(zone, {"top1": round(rows / 14.3, 4)}, measured, maps))
    return found


@pytest.fixture(scope="module", params=["magma", "viridis"])
def page(request, tmp_path_factory):
    """A page whose every number is known: its content, its file and its 256 colours."""
    grey = torch.full((2, 3, 224, 224), 128, dtype=torch.uint8)
    text = sweep_page.page(heights(), grey, ["</script> cat", "dog"], {0: "cat", 1: "dog"}, 9)
    file = built(tmp_path_factory.mktemp("swept"), request.param, sweep=text)
    return json.loads(text), file, plt.get_cmap(request.param)(np.arange(256))[:, :3]


def test_the_page_holds_the_run_and_asks_for_nothing_else(page):
    content, file, colours = page
    text = file.read_text(encoding="utf-8")
    held = json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])
    look = held.pop("look")
    shown = bytes.fromhex(look.pop("colours"))
    assert np.array_equal(list(shown), np.rint(255 * colours).astype(int).flatten())
    assert look == {"dead": style.DEAD} and held == {"sweep": content}
    parsed = Parsed(text)
    named = {values["id"] for tag, values in parsed.tags if tag in ("select", "input")}
    labelled = {values["for"] for tag, values in parsed.tags if tag == "label"}
    assert named == labelled == {"image", "method", "wall"}
    assert set(parsed.loads) == {"data:,", "style.css"}
    assert not re.search(r"https?://|fetch|XMLHttp|import\(", text)
    assert "try.html" in Parsed((file.parent / "index.html").read_text(encoding="utf-8")).links


def test_a_skipped_sweep_is_a_sentence(tmp_path):
    why, nothing = "Skipped: no images to train on.", torch.empty(0, 3, 8, 8)
    file = built(tmp_path, sweep=sweep_page.page([], nothing, [], {}, 9, why))
    parsed = Parsed(file.read_text(encoding="utf-8"))
    assert why in parsed.text and not [tag for tag, _ in parsed.tags if tag == "script"]


@pytest.fixture(scope="module")
def browser(page, tmp_path_factory):
    yield from opened(page[1], tmp_path_factory.mktemp("profile"))


def shown(browser) -> dict[str, str]:
    names = ("rows", "dead", "mu", "uniform", "mean", "predicted", "top1")
    return browser.run(
        f"Object.fromEntries({json.dumps(names)}.map(id => [id, at(id).textContent]))"
    )


def expected(content: dict, height: dict, method: str, image: int) -> dict[str, str]:
    mu, dead = height["mu"][method][image], height["dead_rows"]
    return {
        "rows": f"{height['wall_rows']} of 14 rows",
        "dead": f"{dead} of 224 rows ({100 * dead / 224:.0f}%)",
        "mu": "the map is empty" if mu is None else f"{mu:.1f}",
        "uniform": f"{height['uniform']:.1f}",
        "mean": f"{height['mean'][method]:.1f}",
        "predicted": ("cat", "dog")[image],
        "top1": f"{100 * height['top1']:.1f}%",
    }


@pytest.mark.browser
def test_the_arrow_keys_move_the_wall(page, browser):
    content, *_ = page
    by_rows = {height["wall_rows"]: height for height in content["heights"]}
    assert shown(browser) == expected(content, by_rows[9], "GradCAM", 0)
    before = "at('canvas').closest('form').previousElementSibling"
    browser.run(f"{before}.querySelector('a').focus()")
    visited = []
    for _ in range(3):
        browser.press("Tab")
        visited.append(browser.run("document.activeElement.id"))
    assert visited == ["wall", "image", "method"]
    browser.run("at('wall').focus()")
    keys = ("ArrowRight", "ArrowRight", "End", "ArrowRight", "Home", "ArrowUp")
    for key, rows in zip(keys, (10, 11, 13, 13, 6, 7), strict=True):
        browser.press(key)
        assert shown(browser) == expected(content, by_rows[rows], "GradCAM", 0), rows
        said = browser.run("document.activeElement.getAttribute('aria-valuetext')")
        assert said == f"{rows} of 14 rows"
    for name, method, image in (("method", "HiResCAM", 0), ("image", "HiResCAM", 1)):
        browser.run(f"at('{name}').focus()")
        browser.press("ArrowDown")
        assert shown(browser) == expected(content, by_rows[7], method, image)
    browser.run("for (const id of ['image', 'method']) at(id).value = at(id).options[0].value")


@pytest.mark.browser
def test_it_fits_a_phone_and_makes_no_noise(browser):
    assert browser.run("document.documentElement.scrollWidth") <= 375
    sizes = browser.run(
        "[...document.querySelectorAll('#sweep select, #sweep input')]"
        ".map(e => e.getBoundingClientRect().height)"
    )
    assert min(sizes) >= 32  # a finger's
    assert browser.noise() == []


@pytest.mark.browser
def test_the_maps_are_the_librarys(page, browser):
    content, *_ = page
    found = browser.run(
        "sweep.heights.map(h => [...upscale(bytes(h.maps.GradCAM[1]), [14, 14], [224, 224])])"
    )
    for height, values, raw in zip(content["heights"], found, heights(), strict=True):
        ours = upscale(raw.maps["GradCAM"], 224)[1].numpy()
        apart = np.abs(np.array(values).reshape(224, 224) - ours).max()
        assert apart <= 1 / 255, height["wall_rows"]
    exact = torch.randint(0, 256, (1, 14, 14), generator=torch.Generator().manual_seed(1))
    values = browser.run(f"[...upscale({exact.flatten().tolist()}, [14, 14], [224, 224])]")
    assert np.abs(np.array(values) - upscale(exact.double(), 224).flatten().numpy()).max() < 1e-12
    assert set(browser.run("[...upscale(new Uint8Array(196), [14, 14], [224, 224])]")) == {0}


@pytest.mark.browser
def test_the_picture_is_the_map_over_the_image_and_the_dead_zone_moves(page, browser):
    content, _, colours = page
    dead_red = np.rint(255 * np.array(to_rgb(style.DEAD)))
    for index, height in enumerate(content["heights"]):
        picture = browser.run(f"""
            at("image").value = 0, at("method").value = "GradCAM", at("wall").value = {index};
            show(), at("canvas").toDataURL().split(",")[1]
        """)
        drawn = Image.open(io.BytesIO(base64.b64decode(picture))).convert("RGB")
        drawn = np.asarray(drawn).astype(int)
        edge = 2 * (224 - height["dead_rows"])
        red = np.abs(drawn - dead_red).max(2) <= 2
        assert red[edge : edge + 2].all() and not red[: edge - 1].any() and red[-2:].all()
        scores = upscale(heights()[index].maps["GradCAM"], 224)[0].numpy()
        laid = 0.6 * 255 * colours[np.rint(255 * scores).astype(int)] + 0.4 * 128
        assert np.abs(drawn[: edge - 1 : 2, ::2] - laid[: edge // 2]).mean() < 2
