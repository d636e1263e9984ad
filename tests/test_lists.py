"""Lists of names as people write them."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.lists import Pictures, read_names, shown, stem

COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "plä tze/bü.jpg") for form in ("NFC", "NFD"))


@pytest.mark.parametrize(
    "data",
    [
        b"a.jpg\nb c.jpg\n",
        b"\xef\xbb\xbfa.jpg\r\nb c.jpg\r\n",
        b"./a.jpg  \n\t b c.jpg\t\n\n",
        b".\\a.jpg\rb c.jpg\r",
        "a.jpg\r\nb c.jpg\r\n".encode("utf-16"),
        "\ufeffa.jpg\nb c.jpg".encode("utf-16-be"),
    ],
)
def test_marks_blanks_and_line_ends_are_no_part_of_names(tmp_path, data):
    (tmp_path / "list.txt").write_bytes(data)
    assert read_names(tmp_path / "list.txt") == ("a.jpg", "b c.jpg")


def test_only_line_ends_end_a_line(tmp_path):
    """Not what else ends a line in a text: names may hold it."""
    (tmp_path / "list.txt").write_text("a\u2028b.jpg\nc\x0bd\x85.jpg\n", encoding="utf-8")
    assert read_names(tmp_path / "list.txt") == ("a\u2028b.jpg", "c\x0bd\x85.jpg")


@pytest.mark.parametrize(
    "names",
    [["ä.jpg", "b.jpg "], [["ä.jpg"], ["b.jpg"]], ["ä.jpg".encode(), b"b.jpg"], np.array(["ä.jpg", "b.jpg"], ">U5")],
)
def test_arrays_of_text_and_of_bytes_are_lists(tmp_path, names):
    np.save(tmp_path / "list.npy", np.array(names))
    assert read_names(tmp_path / "list.npy") == ("ä.jpg", "b.jpg")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1.0, 2.0]), "an array of float64; expected names"),
        (np.array([b"\xff.jpg"]), "names that are no text"),
        (np.array([0x110000, 0x61], "<u4").view("<U1"), "names that are no text"),
        (np.array([0xDC80, 0x61], "<u4").view("<U1"), "names that are no text"),
        (np.array(["a.jpg", None], object), "not readable as a plain numpy array"),
        (np.array([], "U3"), "an empty list"),
        (np.array(["a", "b", "a"]), "names 'a' more than once"),
    ],
)
def test_arrays_that_are_no_lists_are_errors(tmp_path, array, message):
    np.save(tmp_path / "list.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=message):
        read_names(tmp_path / "list.npy")


def test_other_text_is_an_error_that_names_the_line(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a.jpg\nb.jpg\nc\xfc.jpg\n")
    with pytest.raises(InputError, match=r"list\.txt, line 3: not UTF-8 text .* save the list as UTF-8"):
        read_names(tmp_path / "list.txt")


def test_pictures_are_found_under_names_as_people_write_them(tmp_path):
    for on_disk, listed in ((COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)):
        folder = tmp_path / f"{len(on_disk)}"
        (folder / on_disk).parent.mkdir(parents=True)
        (folder / on_disk).write_bytes(b"")
        (folder / "ends in a blank .jpg ").write_bytes(b"")
        (folder / "a\\b.jpg").write_bytes(b"")
        pictures = Pictures(folder)
        for name in (on_disk, listed, listed.replace("/", "\\"), f"./{listed}"):
            assert (folder / pictures.find(name)).samefile(folder / on_disk)
        assert pictures.find("ends in a blank .jpg") == "ends in a blank .jpg "
        assert pictures.find("a\\b.jpg") == "a\\b.jpg", "the very name comes first"
        assert pictures.find("plätze/bü.jpg") is None and pictures.find("none/a.jpg") is None
        assert pictures.find("plä tze") is None, "a folder is no picture"


def test_another_suffix_of_the_stem_is_found_when_it_is_asked_for(tmp_path):
    (tmp_path / "03814").mkdir()
    for name in ("a_1.5.png", "a_1.csv", "b.JPEG", "c.png", "c.webp", "d.jpg"):
        (tmp_path / "03814" / name).write_bytes(b"")
    (tmp_path / "03814" / "e.png").mkdir()
    pictures = Pictures(tmp_path)
    assert pictures.find("03814/a_1.5.jpg") is None
    assert pictures.find_stem("03814/a_1.5.jpg") == "03814/a_1.5.png"
    assert pictures.find_stem("03814/b") == "03814/b.JPEG"
    assert pictures.find_stem("03814/a_1.jpg") is None and pictures.find_stem("03814/e.jpg") is None
    with pytest.raises(InputError, match=r"'c\.jpg' is not there, 'c\.png' and 'c\.webp' are"):
        pictures.find_stem("03814/c.jpg")


@given(st.text(max_size=300))
def test_no_name_is_too_strange_to_be_looked_for(tmp_path_factory, name):
    folder = Path(tmp_path_factory.getbasetemp()) / "names"
    folder.mkdir(exist_ok=True)
    (folder / "a.jpg").touch()
    assert Pictures(folder).find(name) in (None, name) or name.replace("\\", "/").strip().endswith("a.jpg")
    assert stem(stem(name) + ".png") == stem(name) or not stem(name)
    shown(name)


def test_a_message_shows_the_difference_that_cannot_be_seen():
    assert shown("Platz.jpg") == "'Platz.jpg'" and shown("東京 1.jpg") == "'東京 1.jpg'"
    for name in ("a\u200b.jpg", "a\u00a0b.jpg", "u\u0308.jpg", "a\ufeff.jpg"):
        assert ascii(name) in shown(name)
