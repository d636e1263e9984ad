"""Lists of pairs: what is read, and what is refused by its line."""

from __future__ import annotations

import pytest

from segswap.errors import InputError
from segswap.matching.pair_list import read_pairs


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "more").mkdir()
    for name in ("a.jpg", "b, c.jpg", "more/é.jpg", "d.jpg"):
        (tmp_path / name).touch()
    return tmp_path


def write(folder, text: str, encoding: str = "utf-8"):
    (folder / "pairs.csv").write_bytes(text.encode(encoding))
    return folder / "pairs.csv"


def test_paths_are_relative_to_the_list_and_names_are_given_or_numbers(folder, monkeypatch):
    monkeypatch.chdir("/")
    pairs = read_pairs(write(folder, 'name,a,b\none,a.jpg,"b, c.jpg"\n\n,a.jpg,more/é.jpg\n'))
    assert [(pair.line, pair.name) for pair in pairs] == [(2, "one"), (4, "0002")]
    assert [pair.a for pair in pairs] == [folder / "a.jpg"] * 2
    assert [pair.b for pair in pairs] == [folder / "b, c.jpg", folder / "more/é.jpg"]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("text", ["a,b\na.jpg,d.jpg\n", "a;b\r\na.jpg;d.jpg\r\n", "note,b,a\nsee below,d.jpg,a.jpg"])
def test_what_spreadsheets_write_is_read(folder, text, encoding):
    (pair,) = read_pairs(write(folder, text, encoding))
    assert (pair.a.name, pair.b.name, pair.name) == ("a.jpg", "d.jpg", "0001")


def test_other_pairs_of_the_same_pictures_are_no_repetition(folder):
    assert len(read_pairs(write(folder, "a,b\na.jpg,d.jpg\nd.jpg,a.jpg\na.jpg,a.jpg\n"))) == 3


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: expected a header with the columns a,b .* found nothing"),
        ("a.jpg,d.jpg\n", "line 1: expected a header with the columns a,b .* found a.jpg, d.jpg"),
        ("a,b\n", "no pair in it"),
        ("a,b\na.jpg,d.jpg\na.jpg\n", "line 3: column b is empty"),
        ("a,b\n,a.jpg\n", "line 2: column a is empty"),
        ("a,b\na.jpg,gone.jpg\n", "line 2: gone.jpg: no such file; paths are relative"),
        ("a,b\na.jpg,more\n", "line 2: more: no such file"),
        ("a,b\na.jpg,d.jpg\na.jpg,more/../d.jpg\n", "line 3: the pair a.jpg, d.jpg is in line 2 already"),
        ("a,b,name\na.jpg,d.jpg,x\nd.jpg,a.jpg,X\n", "line 3: name 'X' is in line 2 already"),
        ("a,b,name\na.jpg,d.jpg,0002\nd.jpg,a.jpg,\n", "line 3: name '0002' is in line 2 already"),
        ("a,b,name\na.jpg,d.jpg,x/y\n", "line 2: name 'x/y': expected a plain file name"),
        ("a,b,name\na.jpg,d.jpg,..\n", "line 2: name '..': expected a plain file name"),
    ],
)
def test_what_is_wrong_is_said_with_its_line(folder, text, said):
    with pytest.raises(InputError, match=rf"pairs\.csv: {said}"):
        read_pairs(write(folder, text))


def test_what_is_no_list_is_refused(folder):
    with pytest.raises(InputError, match="not UTF-8 text"):
        read_pairs(write(folder, "a,b\né.jpg,a.jpg", "latin-1"))
    with pytest.raises(InputError, match="cannot be opened"):
        read_pairs(folder / "none.csv")
    with pytest.raises(InputError, match="cannot be opened"):
        read_pairs(folder)
