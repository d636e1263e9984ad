"""The page of ``segswap serve``, used in a browser as people would: with a mouse, a finger, and the keyboard alone."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import DETAIL, draw_folder, equal_finder, make_app
from test_browser import contrast

from segswap.images import decode_image
from segswap.models.segswap import SegSwap
from segswap.server.listening import listen, make_server, url

REFUSED = "Failed to load resource: the server responded with a status of 4"
CUT_OFF = "Failed to load resource: net::"
"""What Chromium itself writes to the console where the server refuses something, and where it does not answer."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_folder(tmp_path_factory.mktemp("served") / "my paintings")


@pytest.fixture(scope="module")
def model() -> SegSwap:
    return equal_finder()


@pytest.fixture(scope="module")
def address(folder, model) -> str:
    listening = listen("127.0.0.1", 0)
    server = make_server(make_app(folder, folder.parent / "store", model), listening)
    threading.Thread(target=server.run, daemon=True).start()
    return url(listening)


@pytest.fixture
def visit(browser, address) -> Iterator:
    """A function that opens the page; at the end nothing else was asked for, and the console is empty."""
    said, contexts = [], []

    def opened(view: str = "", width: int = 1280, scheme: str = "light", touch: bool = False, cut_off: bool = False):
        size = {"width": width, "height": 900}
        context = browser.new_context(color_scheme=scheme, viewport=size, has_touch=touch, reduced_motion="reduce")
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(20_000)
        expected = CUT_OFF if cut_off else REFUSED
        page.on("console", lambda message: None if message.text.startswith(expected) else said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        own = (address, "data:")
        page.on("request", lambda request: None if request.url.startswith(own) else said.append(f"asked {request.url}"))
        page.goto(f"{address}/{view}")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert said == []


def compare(page, *paths: Path) -> None:
    for number, path in enumerate(paths):
        page.locator("#compare input[type=file]").nth(number).set_input_files(path)
    page.locator("#compare .main:enabled").click()
    page.locator("#compare .stage > svg").wait_for()


def choose_query(page, name: str = "a.png") -> None:
    page.locator("#search .from-folder").click()
    page.locator(f".thumbnails button[title='{name}']").click()
    page.locator(".canvas > svg").wait_for()


def fields(page) -> list[float]:
    return [float(page.locator(f"[name={name}]").input_value()) for name in ("left", "top", "width", "height")]


def corners(page, box: tuple[int, int, int, int]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return where the corners of a box of the 96 pixel picture lie in the window."""
    canvas = page.locator(".canvas > svg")
    canvas.scroll_into_view_if_needed()
    shown = canvas.bounding_box()
    scale = shown["width"] / 96
    x1, y1, x2, y2 = (value * scale for value in box)
    return (shown["x"] + x1, shown["y"] + y1), (shown["x"] + x2, shown["y"] + y2)


def drag(page, start: tuple[float, float], end: tuple[float, float]) -> None:
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(*end, steps=4)
    page.mouse.up()


def scrolls_sideways(page) -> bool:
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")


def test_two_uploads_show_what_they_share(visit, folder):
    page = visit()
    assert page.locator("#compare .main").is_disabled()
    compare(page, folder / "a.png", folder / "b.png")
    assert (
        page.locator("#compare .verdict").inner_text() == "They share 44 % of the first and 44 % of the second picture."
    )
    assert page.locator("#compare .contour").count() == 2 and page.locator("#compare .line").count() == 16
    assert page.evaluate("document.activeElement.className") == "result"
    # The veil and the lines are drawn, and can be taken away.
    stage = page.locator("#compare .stage > svg")
    shots = [stage.screenshot()]
    for name in ("Lines", "Shared parts"):
        page.get_by_role("checkbox", name=name).uncheck()
        shots.append(stage.screenshot())
    brightness = [decode_image(shot).mean() for shot in shots]
    assert brightness[2] > brightness[1] + 15 and shots[0] != shots[1]


def test_a_line_stands_out_under_the_mouse_and_by_arrow_keys(visit, folder):
    page = visit()
    compare(page, folder / "a.png", folder / "b.png")
    end = page.locator("#compare .line circle").first.bounding_box()
    page.mouse.move(end["x"] + 2, end["y"] + 2)
    assert page.locator("#compare .lines.one .line.on").count() == 1
    page.mouse.move(2, 2)
    assert page.locator("#compare .lines.one").count() == 0
    page.locator("#compare .stage > svg").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert page.get_by_text("Line 2 of 16").is_visible()


def test_the_pictures_fade_into_each_other(visit, folder):
    page = visit()
    compare(page, folder / "a.png", folder / "b.png")
    slider = page.get_by_label("Fade from the first")
    over = page.locator(".over")
    slider.focus()
    page.keyboard.press("Home")
    first = over.screenshot()
    page.keyboard.press("End")
    assert slider.get_attribute("aria-valuetext") == "0 % first, 100 % second picture"
    assert over.screenshot() != first
    assert page.evaluate(
        "[...document.querySelectorAll('.over img')].every(image => image.complete && image.naturalWidth > 0)"
    )


def test_a_picture_can_be_dropped(visit, folder):
    page = visit()
    data = base64.b64encode((folder / "c.png").read_bytes()).decode()
    transfer = page.evaluate_handle(
        """data => { const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(data), c => c.charCodeAt())], "dropped.png"));
        return transfer; }""",
        data,
    )
    page.locator("#compare .drop").first.dispatch_event("drop", {"dataTransfer": transfer})
    page.get_by_text("dropped.png").wait_for()
    assert page.locator("#compare .size").first.inner_text().startswith("96 ")


def test_a_detail_in_a_box_is_found_and_leads_to_its_match(visit):
    page = visit("#search")
    assert page.locator("#search .main").is_disabled()
    choose_query(page)
    drag(page, *corners(page, DETAIL))
    assert fields(page) == pytest.approx([16, 16, 64, 64], abs=1)
    page.get_by_role("button", name="Search 5 pictures").click()
    cards = page.locator("#search .card")
    cards.first.wait_for()
    assert page.locator("#search .verdict").first.inner_text() == "Found at 1 place" and cards.count() == 4
    assert "b.png" in cards.first.inner_text() and cards.locator(".above").count() == 1
    assert cards.first.locator(".contour").count() == cards.first.locator(".box").count() == 1
    cards.first.click()
    detail = page.locator("#search .detail")
    detail.locator(".line").first.wait_for()
    assert detail.locator(".line").count() == 16 and not cards.first.is_visible()
    page.get_by_role("button", name="All results").click()
    assert cards.first.is_visible() and page.evaluate("document.activeElement.className") == "card"
    cards.first.click()
    page.get_by_role("button", name="Compare the whole pictures").click()
    page.locator("#compare .stage > svg").wait_for()
    assert [page.locator("#compare .name").nth(n).inner_text() for n in (0, 1)] == ["a.png", "b.png"]
    page.go_back()
    assert detail.is_visible()


def test_a_box_is_moved_and_pulled_by_the_mouse_and_stays_inside(visit):
    page = visit("#search")
    choose_query(page)
    drag(page, *corners(page, (10, 10, 50, 40)))
    before = fields(page)
    drag(page, corners(page, (30, 25, 30, 25))[0], corners(page, (40, 45, 40, 45))[0])
    assert fields(page) == pytest.approx([before[0] + 10, before[1] + 20, before[2], before[3]], abs=1.5)
    drag(page, corners(page, (60, 60, 60, 60))[0], corners(page, (80, 70, 80, 70))[0])
    assert fields(page) == pytest.approx([20, 30, 60, 40], abs=2)
    drag(page, corners(page, (50, 50, 50, 50))[0], corners(page, (300, 300, 300, 300))[0])
    assert fields(page) == pytest.approx([36, 56, 60, 40], abs=2)
    page.get_by_role("button", name="Whole picture").click()
    assert fields(page) == [0, 0, 96, 96] and page.locator(".canvas .frame").count() == 0


def test_everything_can_be_done_with_the_keyboard_alone(visit):
    page = visit("#search")

    def reach(selector: str) -> None:
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("selector => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"{selector} cannot be reached")

    reach("#search .from-folder")
    page.keyboard.press("Enter")
    page.locator(".thumbnails button").first.wait_for()
    reach(".thumbnails button")
    page.keyboard.press("Enter")
    page.locator(".canvas > svg").wait_for()
    reach(".canvas > svg")
    page.keyboard.press("ArrowLeft")  # the first key puts a box in the middle
    assert fields(page) == [24, 24, 48, 48]
    for key in ["Control+ArrowLeft"] * 8 + ["Control+ArrowUp"] * 8 + ["Shift+ArrowRight", "Shift+ArrowDown"] * 8:
        page.keyboard.press(key)
    assert fields(page) == [16, 16, 64, 64]
    reach("[name=left]")
    page.keyboard.press("Control+a")
    page.keyboard.type("900")
    page.keyboard.press("Tab")
    assert fields(page) == [32, 16, 64, 64], "held inside"
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("16")
    reach("#search .main")
    page.keyboard.press("Enter")
    page.locator("#search .card").first.wait_for()
    assert page.locator("#search .verdict").first.inner_text() == "Found at 1 place"
    reach(".card")
    page.keyboard.press("Enter")
    assert page.locator("#search .detail .verdict").inner_text() == "b.png"


def test_a_box_is_what_is_typed_in_any_order(visit):
    page = visit("#search")
    choose_query(page)
    for order in ((0, 1, 2, 3), (3, 1, 2, 0)):
        page.get_by_role("button", name="Whole picture").click()
        for wanted in ([16, 30, 64, 50], [50, 60, 46, 36], [0, 5, 96, 20]):
            for number in order:
                page.locator(f"[name={('left', 'top', 'width', 'height')[number]}]").fill(str(wanted[number]))
                page.keyboard.press("Tab")
            assert fields(page) == wanted
    page.locator("[name=left]").fill("40")
    page.keyboard.press("Tab")
    assert fields(page) == [40, 5, 56, 20], "held inside"


def test_a_box_is_drawn_with_a_finger(visit):
    page = visit("#search", width=400, touch=True)
    page.locator("#search .from-folder").tap()
    page.locator(".thumbnails button").first.tap()
    page.locator(".canvas > svg").wait_for()
    (x1, y1), (x2, y2) = corners(page, DETAIL)
    session = page.context.new_cdp_session(page)
    for kind, points in (
        ("touchStart", [(x1, y1)]),
        ("touchMove", [(x2 - 9, y2)]),
        ("touchMove", [(x2, y2)]),
        ("touchEnd", []),
    ):
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]})
    assert fields(page) == pytest.approx([16, 16, 64, 64], abs=1.5)


@pytest.mark.parametrize("width", [360, 800])
def test_it_fits_any_window(visit, folder, width):
    page = visit(width=width)
    assert not scrolls_sideways(page)
    compare(page, folder / "a.png", folder / "d.png")
    assert not scrolls_sideways(page)
    page.get_by_role("link", name="Search a folder").click()
    choose_query(page, "e & <i>.png")
    assert not scrolls_sideways(page)
    page.locator("#search .main").click()
    page.locator("#search .card").first.wait_for()
    assert not scrolls_sideways(page)
    page.locator("#search .card").first.click()
    assert not scrolls_sideways(page)


def test_what_cannot_be_used_is_said_with_the_remedy(visit, folder, tmp_path):
    page = visit()
    (tmp_path / "notes.txt").write_text("no picture")
    choice = page.locator("#compare .choice").first
    choice.locator("input").set_input_files(tmp_path / "notes.txt")
    error = choice.get_by_role("alert")
    error.wait_for()
    assert "notes.txt: not a picture of a known format; expected JPEG" in error.inner_text()
    (tmp_path / "large.png").write_bytes(b"\x89PNG" + bytes(41_000_000))
    choice.locator("input").set_input_files(tmp_path / "large.png")
    page.get_by_text("large.png: 41.0 MB; at most 40 MB are taken").wait_for()
    choice.locator("input").set_input_files(folder / "a.png")
    choice.get_by_text("a.png").wait_for()
    assert not error.is_visible() and page.locator("#compare .main").is_disabled()


def test_a_server_that_has_ended_is_said(visit, folder):
    page = visit(cut_off=True)
    page.route("**/api/**", lambda route: route.abort())
    page.locator("#compare input[type=file]").first.set_input_files(folder / "a.png")
    page.get_by_text("The server does not answer. Is “segswap serve” still running").wait_for()


def test_who_waits_is_told_for_what(visit, folder, model):
    pages = [visit(), visit()]
    model.matcher.free.clear()
    try:
        for page, words in zip(pages, ("Comparing… ", "Waiting: 1 other computation first…"), strict=True):
            for number, name in enumerate("ab"):
                page.locator("#compare input[type=file]").nth(number).set_input_files(folder / f"{name}.png")
            page.locator("#compare .main:enabled").click()
            page.get_by_text(words).wait_for()
            assert page.locator("#compare .main").is_disabled()
    finally:
        model.matcher.free.set()
    for page in pages:
        page.locator("#compare .stage > svg").wait_for()
        assert page.locator("#compare .status").inner_text().startswith("Done in ")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_readable_light_and_dark(visit, folder, scheme):
    page = visit(scheme=scheme)
    shot = decode_image(page.screenshot())
    assert (shot.mean() > 128) == (scheme == "light") and shot.std() > 8
    compare(page, folder / "a.png", folder / "b.png")
    for selector in ("h1", ".lead", "#compare .verdict", "#compare .facts", ".chosen .name", "footer"):
        assert contrast(page, selector) >= 4.5, selector
