"""Pictures of a match: picture, animation and page."""

from __future__ import annotations

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from html_pages import NASTY, outside, parse, unloaded
from PIL import Image

from segswap.drawing import CYAN
from segswap.geometry import cell_centres
from segswap.images import decode_image
from segswap.matching.alignment import align
from segswap.matching.match import AS_GIVEN, Match, Turn
from segswap.randomness import generator
from segswap.report.match_page import describe_match, match_gif, match_picture, write_match_page

NAMES = ("first.jpg", NASTY)


def picture(number: int, shape: tuple[int, int] = (192, 256)) -> np.ndarray:
    coarse = generator(number, "picture").integers(0, 256, (5, 6, 3), np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


def match(rows: slice = slice(2, 9), turn: Turn = AS_GIVEN) -> Match:
    """Return the match of two pictures of 12 x 16 cells, the same place in both, in some rows."""
    mask = np.zeros((12, 16), np.float32)
    mask[rows, 3:11] = 0.9
    centres = cell_centres((12, 16)).astype(np.float32)
    return Match(31.4, (30.0, 32.8), turn, (mask, mask.copy()), (centres, centres.copy()))


NOTHING = match(slice(0, 0))


def coloured(image: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (np.abs(image.astype(int) - colour) < 12).all(2)


def test_a_match_is_said_in_words():
    assert describe_match(match()) == "Shared: 29.2% of the first and 29.2% of the second picture (score 31.4)."
    turned = describe_match(match(turn=Turn(90, True)))
    assert turned.endswith("found with the second one mirrored and rotated by 90 degrees counter-clockwise.")
    assert describe_match(NOTHING) == "Nothing shared was found (score 31.4)."


@pytest.mark.parametrize("shapes", [((192, 256), (192, 256)), ((96, 300), (400, 100)), ((40, 3000), (30, 20))])
def test_pictures_keep_their_aspect_and_stand_at_one_height(shapes):
    a, b = (np.full((*shape, 3), grey, np.uint8) for shape, grey in zip(shapes, (60, 120), strict=True))
    drawn = match_picture(a, b, NOTHING)
    assert drawn.shape[1] <= 2100 and drawn.shape[0] <= 720
    for grey, shape in zip((60, 120), shapes, strict=True):
        rows, columns = np.nonzero(coloured(drawn, (grey,) * 3))
        # The largest run of the grey is the picture; letters have some, too.
        box = np.bincount(rows).argmax(), np.bincount(columns).argmax()
        height = (np.bincount(columns)).max()
        width = (np.bincount(rows)).max()
        assert coloured(drawn, (grey,) * 3)[box]
        assert width / height == pytest.approx(shape[1] / shape[0], rel=0.1)


def test_what_is_shared_keeps_its_colours_and_lines_join_it():
    a, b = (np.full((192, 256, 3), (200, 40, 40), np.uint8) for _ in range(2))
    plain, drawn = match_picture(a, b, match(), lines=0), match_picture(a, b, match(), lines=9)
    assert coloured(plain, CYAN).sum() > 500, "the contours"
    red = coloured(plain, (190, 48, 46))
    assert 0.1 < red.mean() < 0.4, "what is not shared is faded"
    changed = (plain != drawn).any(2)
    assert 0.005 < changed.mean() < 0.2
    # Lines cross the gap between the pictures, which stand side by side.
    assert changed[:, plain.shape[1] // 2].any()
    assert (match_picture(a, b, match(), lines=9) == drawn).all()


def test_where_nothing_is_shared_the_pictures_stay_as_they_are():
    a = np.full((192, 256, 3), (200, 40, 40), np.uint8)
    drawn = match_picture(a, a, NOTHING)
    assert coloured(drawn, (200, 40, 40)).mean() > 0.85
    assert not coloured(drawn, CYAN).any()
    assert (drawn[-40:] < 100).all(2).any(), "and that is said"


def test_the_animation_goes_from_one_picture_to_the_other_and_back_for_ever():
    a, b = (np.full((192, 256, 3), grey, np.uint8) for grey in (40, 200))
    animation = Image.open(io.BytesIO(match_gif(a, b, align(match(), (256, 192), (256, 192)), NAMES)))
    greys, times = [], []
    for number in range(animation.n_frames):
        animation.seek(number)
        greys.append(np.array(animation.convert("RGB"))[50, 50, 0])
        times.append(animation.info["duration"])
    assert animation.info["loop"] == 0 and animation.size[0] == 480
    top = int(np.argmax(greys))
    assert abs(int(greys[0]) - 40) < 5 and abs(int(greys[top]) - 200) < 5
    assert (np.diff(np.array(greys[: top + 1], int)) > 0).all() and (np.diff(np.array(greys[top:], int)) < 0).all()
    assert times[0] == times[top] == max(times) and len(set(times)) == 2


def test_an_animation_of_a_picture_and_itself_is_written():
    data = match_gif(picture(1), picture(1), align(match(), (256, 192), (256, 192)), NAMES)
    assert decode_image(data).shape[2] == 3


def page_of(folder: Path, found: Match | None = None, pictures: tuple[np.ndarray, np.ndarray] | None = None) -> Path:
    path, found, pictures = folder / "index.html", found or match(), pictures or (picture(1), picture(2))
    sizes = [shown.shape[1::-1] for shown in pictures]
    write_match_page(path, pictures, NAMES, found, align(found, *sizes), {"score": "31 & more"}, lines=9)
    return path


def test_the_page_is_whole_and_refers_to_nothing_beyond_itself(tmp_path):
    page = parse(page_of(tmp_path))
    assert outside(page) == []
    assert NASTY in page.whole_text and "31 & more" in page.whole_text
    assert page.tags.count("circle") == 18 and "112 of 112 correspondences agree" in page.whole_text


def test_where_no_alignment_is_possible_the_page_says_so(tmp_path):
    few = match(slice(2, 3))
    few.masks[0][2, 5:], few.masks[1][:] = 0, 0
    page = parse(page_of(tmp_path, few))
    assert "Not possible: 2 cells correspond, too few to lay one picture over the other" in page.whole_text
    assert page.tags.count("button") == 0 and page.tags.count("circle") == 4
    page = parse(page_of(tmp_path, NOTHING))
    assert "Nothing shared was found" in page.whole_text
    assert page.tags.count("input") == 0 and page.tags.count("circle") == 0


def opacity(page) -> float:
    return float(page.evaluate("getComputedStyle(document.getElementById('second')).opacity"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_slider_fades_between_the_pictures(show, tmp_path, scheme):
    a, b = (np.full((192, 256, 3), grey, np.uint8) for grey in (40, 200))
    page = show(page_of(tmp_path, pictures=(a, b)), scheme)
    assert unloaded(page) == []

    def grey() -> float:
        return float(decode_image(page.locator(".stage").screenshot())[40:60, 40:60].mean())

    assert opacity(page) == 0.5 and abs(grey() - 120) < 6
    page.locator("#fade").focus()
    page.keyboard.press("Home")
    assert opacity(page) == 0 and abs(grey() - 40) < 4
    page.keyboard.press("End")
    assert opacity(page) == 1 and abs(grey() - 200) < 4
    page.keyboard.press("ArrowLeft")
    assert opacity(page) == 0.99
    assert page.locator("#fade").get_attribute("aria-valuetext") == "1 % first, 99 % second picture"
    back = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(back[4:-1].split(",")[0]) > 128) == (scheme == "light")


def test_keys_and_buttons_show_one_picture_or_blink(show, tmp_path):
    page = show(page_of(tmp_path))
    page.clock.install()
    for key, expected in (("1", 0), ("2", 1)):
        page.keyboard.press(key)
        assert opacity(page) == expected
    blink = page.locator("#blink")
    page.keyboard.press("b")
    assert blink.get_attribute("aria-pressed") == "true" and opacity(page) == 0
    page.clock.run_for(1000)
    assert opacity(page) == 1
    page.clock.run_for(1000)
    assert opacity(page) == 0
    page.locator("#only-100").click()
    page.clock.run_for(5000)
    assert blink.get_attribute("aria-pressed") == "false" and opacity(page) == 1
    blink.click()
    assert opacity(page) == 0
    label = page.locator(".label")
    assert label.is_visible()
    page.keyboard.press("l")
    assert not label.is_visible()


@pytest.mark.parametrize("found", [match(), NOTHING], ids=["match", "nothing"])
@pytest.mark.parametrize("width", [400, 1280])
def test_the_page_fits_any_window(show, tmp_path, width, found):
    page = show(page_of(tmp_path, found, (picture(1, (700, 1900)), picture(2, (1500, 300)))), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for element in page.locator("img").all():
        box = element.bounding_box()
        shape = element.evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert box["width"] / box["height"] == pytest.approx(shape[0] / shape[1], rel=0.02)
