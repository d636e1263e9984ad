"""Pages as a browser shows them: everything loads, nothing is said on the console, keys work, light and dark."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from html_pages import unloaded
from playwright.sync_api import Page

from segswap.discovery.clusters import CORRESPONDENCES, REGIONS
from segswap.discovery.collection import Collection
from segswap.drawing import write_picture
from segswap.images import decode_image
from segswap.report.clusters import write_clusters_page
from segswap.report.galleries import write_gallery
from segswap.report.page import write_page
from segswap.report.provenance import collect, write_provenance
from segswap.report.times import Cost

SCHEMES = ("light", "dark")


@pytest.fixture(scope="module", params=["1obj", "2obj"])
def gallery(request, tiny_world, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / f"{request.param}.html"
    write_gallery(tiny_world.pairs[request.param], path, 6)
    return path


def brightness(page: Page) -> float:
    """Return the mean grey level of the page's own background."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return float(np.mean([int(value) for value in colour[4:-1].split(",")]))


def contrast(page: Page, selector: str) -> float:
    """Return the contrast ratio (WCAG 2) of an element's text on the page's background."""

    def luminance(colour: str) -> float:
        shares = np.array([int(value) for value in colour[4:-1].split(",")]) / 255
        linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    text = page.evaluate("name => getComputedStyle(document.querySelector(name)).color", selector)
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    low, high = sorted((luminance(text), luminance(back)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_picture_of_a_gallery_loads_and_shows_something(show, gallery, scheme):
    page = show(gallery, scheme)
    assert unloaded(page) == []
    views = page.locator("article:first-of-type figure svg")
    assert views.count() == 10
    for number in range(10):
        # What is on the screen, so also what is shown by reference.
        picture = decode_image(views.nth(number).screenshot())
        assert picture.std() > 10, f"view {number} shows one colour"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_gallery_is_light_or_dark_and_readable_in_both(show, gallery, scheme):
    page = show(gallery, scheme)
    assert (brightness(page) > 128) == (scheme == "light")
    for selector in ("h1", "dt", "dd", "article h2 a", "figcaption", ".note", "summary"):
        assert contrast(page, selector) >= 4.5, selector


def test_keys_move_between_pairs_open_recipes_and_hide_labels(show, gallery):
    page = show(gallery)

    def focused() -> str:
        return page.evaluate("document.activeElement.id")

    keys = page.locator("article").evaluate_all("articles => articles.map(article => article.id)")
    page.keyboard.press("j")
    assert focused() == keys[0]
    page.keyboard.press("j")
    assert focused() == keys[1]
    assert page.locator("article").nth(1).bounding_box()["y"] < 200
    page.keyboard.press("k")
    page.keyboard.press("k")
    assert focused() == keys[0]

    recipe = page.locator("article").nth(0).locator("pre")
    assert not recipe.is_visible()
    page.keyboard.press("r")
    assert recipe.is_visible() and '"source_image_id"' in recipe.inner_text()
    page.keyboard.press("r")
    assert not recipe.is_visible()

    lines = page.locator("article").nth(0).locator(".label").last
    assert lines.is_visible()
    before = lines.locator("..").screenshot()
    page.keyboard.press("l")
    assert not lines.is_visible()
    assert page.locator("article").nth(0).locator("svg").last.screenshot() != before
    page.keyboard.press("l")
    assert lines.is_visible()


def test_a_gallery_can_be_used_with_tab_and_space_alone(show, gallery):
    page = show(gallery)
    reached = set()
    for _ in range(8):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("document.activeElement.tagName"))
        if page.evaluate("document.activeElement.tagName") == "SUMMARY":
            page.keyboard.press("Enter")
    assert {"INPUT", "A", "SUMMARY"} <= reached
    assert page.locator("article details[open]").count() > 0


@pytest.mark.parametrize("width", [360, 800, 1600])
def test_a_gallery_fits_any_window(show, gallery, width):
    page = show(gallery, width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_report_page_is_readable_light_and_dark(show, tiny_world, tmp_path, scheme):
    write_picture(tmp_path / "b.png", np.full((20, 30, 3), 90, np.uint8))
    content = collect({"run": "tiny"}, [tmp_path / "b.png"], tmp_path / "records", {"stage1": Cost(1, 9, 9, 50, 99)})
    write_provenance(content, tmp_path / "p.json", tmp_path / "p.html")
    write_page(
        tmp_path / "page.html",
        "A run",
        provenance=tmp_path / "p.html",
        pictures={"brueghel": tmp_path / "b.png"},
        objects={"train": tiny_world.problems},
        pair_sets={"train, 1obj": tiny_world.pairs["1obj"]},
    )
    page = show(tmp_path / "page.html", scheme)
    assert (brightness(page) > 128) == (scheme == "light")
    for selector in ("h1", "h2", "td", "nav a", "summary"):
        assert contrast(page, selector) >= 4.5, selector
    assert page.locator("img").count() == 1 and unloaded(page) == []
    page.locator("summary").filter(has_text="configuration").click()
    assert page.locator("pre").inner_text().strip() == "run: tiny"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


@pytest.fixture(scope="module")
def clusters_page(tmp_path_factory) -> Path:
    """The page of two clusters in pictures whose names have to be escaped."""
    folder = tmp_path_factory.mktemp("clusters")
    names = ("a & b.jpg", 'the "second".jpg', "c<i>.jpg")
    for number, name in enumerate(names):
        write_picture(folder / name, np.full((80, 120, 3), 60 * number + 40, np.uint8))
    boxes = [(1, names[0], [10, 10, 50, 50]), (1, names[1], [20, 0, 60, 30]), (2, names[1], [60, 40, 120, 80])]
    regions = [
        {"cluster": cluster, "strength": 3.0 / cluster, "image": name, "box": box, "weight": 1.0, "cells": 4}
        for cluster, name, box in [*boxes, (2, names[2], [0, 0, 20, 20])]
    ]
    pairs = [(1, names[0], names[1]), (1, names[0], names[1]), (2, names[1], names[2])]
    correspondences = [
        {"cluster": cluster, "image_1": first, "image_2": second, "cell_1": [0.2, 0.3], "cell_2": [0.3, 0.2 * n]}
        | {"confidence": 0.9, "weight": 0.5}
        for n, (cluster, first, second) in enumerate(pairs)
    ]
    write_clusters_page(
        Collection(folder, names, {"copy.jpg": f"the same picture as {names[0]}"}),
        pa.Table.from_pylist(regions, schema=REGIONS),
        pa.Table.from_pylist(correspondences, schema=CORRESPONDENCES),
        folder / "index.html",
    )
    return folder / "index.html"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_click_on_a_region_shows_the_pairs_of_its_image(show, clusters_page, scheme):
    page = show(clusters_page, scheme)
    assert (brightness(page) > 128) == (scheme == "light")
    assert page.locator("section").count() == 2
    assert page.locator(".strip a").count() == 4
    assert page.locator(".pairs:visible").count() == 0
    page.locator("#cluster-1 .strip a").nth(1).click()
    shown = page.locator(".pairs:visible")
    assert shown.count() == 1 and shown.locator("h3").inner_text() == 'the "second".jpg'
    assert shown.locator("figure").count() == 1
    assert "2 correspondences" in shown.locator("figcaption").inner_text()
    page.keyboard.press("Tab")
    page.locator(".pairs:visible a").click()
    assert page.locator(".pairs:visible").count() == 0, "closed again"
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    assert "copy.jpg" in page.locator("dl").inner_text()


def test_every_picture_of_the_clusters_page_is_drawn(show, clusters_page):
    page = show(clusters_page)
    missing = page.evaluate(
        "[...document.querySelectorAll('use')].map(u => u.getAttribute('href').slice(1))"
        ".filter(id => !document.getElementById(id))"
    )
    assert missing == []
    # A region is drawn: its middle has the colour of its picture.
    region = page.locator("#cluster-2 .strip a svg").first
    shot = decode_image(region.screenshot())
    assert abs(int(shot[shot.shape[0] // 2, shot.shape[1] // 2].mean()) - 100) < 12
