"""Names of files that are not UTF-8, or that readers of lists, pages and addresses could mistake; names in lists."""

from __future__ import annotations

import json
import os
import shutil
import sys
from html import escape
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_folders import SIDE, draw_picture, make_model, write_folder

from segswap import cli, program
from segswap.benchmarks import brueghel
from segswap.files import content_key, read_json, write_json
from segswap.images import UnreadableImage, encode_jpeg, read_image
from segswap.models.checkpoint import save_checkpoint
from segswap.names import as_text, from_text, is_utf8
from segswap.pairs.objects import ObjectTable
from segswap.pairs.render import Photos
from segswap.pairs.segments import SegmentSettings, build_segment_table
from segswap.pairs.yolo import read_yolo
from segswap.search.index import open_index
from segswap.server.app import create_app

LATIN = os.fsdecode(b"m\xfcller.jpg")
SHOWN = r"m\udcfcller.jpg"
STRANGE = (
    LATIN, "a,b{1..3}.jpg", "new\nline.jpg", "qu\"o'te<b>.jpg", "#50% off?.jpg", "\ufeffmark.jpg", "back\\slash.jpg",
    "blank.jpg ", "e\u0301.jpg", SHOWN, "x" * 250 + ".jpg", "-o.jpg",
)  # fmt: skip
FILE_NAMES = st.binary(min_size=1).map(os.fsdecode)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_folder(tmp_path_factory.mktemp("strange"), dict.fromkeys(STRANGE))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.pt"
    save_checkpoint(path, make_model(), {"stage": 1, "image_size": SIDE})
    return path


@pytest.fixture
def segswap(monkeypatch, checkpoint, tmp_path):
    """A function that runs a command and returns its exit status, or what it says when it fails."""

    def run(command: str, *arguments: object) -> int | str | None:
        words = ["segswap", command, "--checkpoint", checkpoint, "-o", tmp_path / "out", *arguments]
        monkeypatch.setattr("sys.argv", [str(word) for word in words])
        with pytest.raises(SystemExit) as left:
            cli.main()
        return left.value.code

    return run


@given(name=FILE_NAMES)
def test_every_name_comes_back_from_its_text(name):
    text = as_text(name)
    assert is_utf8(text) and from_text(text) == name
    text.encode()


@given(a=FILE_NAMES, b=FILE_NAMES)
def test_texts_of_different_names_differ(a, b):
    assert (as_text(a) == as_text(b)) == (a == b)


@pytest.mark.parametrize("name", ["plain.jpg", "é 花.png", "back\\slash.jpg", "\ufeffmark.jpg"])
def test_a_name_that_is_utf8_is_its_own_text(name):
    assert as_text(name) == name


def test_names_that_look_escaped_are_told_from_those_that_are():
    assert as_text(LATIN) == SHOWN != as_text(SHOWN)


@given(name=FILE_NAMES)
def test_json_keeps_every_name(name, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "names.json"
    write_json(path, {name: name})
    path.read_bytes().decode("utf-8")
    assert read_json(path) == {name: name}


def test_keys_of_names_differ():
    assert content_key(LATIN) != content_key(SHOWN)


def test_json_with_a_byte_order_mark_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(tmp_path / "a.json") == {"a": 1}


def test_programs_print_every_name(monkeypatch, capfdbinary):
    with open(1, "w", encoding="utf-8", closefd=False) as output:
        monkeypatch.setattr(sys, "stdout", output)
        with pytest.raises(SystemExit) as left:
            program.run(lambda: print(LATIN))
    assert left.value.code == 0 and capfdbinary.readouterr().out.decode() == SHOWN + "\n"


@pytest.mark.parametrize("query", [LATIN, "new\nline.jpg", "#50% off?.jpg"])
def test_search_uses_pictures_of_all_names(segswap, folder, tmp_path, query):
    flags = ("--store", tmp_path / "store", "--side", SIDE, "--keep-self")
    assert segswap("search", "--query", folder / query, "--folder", folder, *flags) == 0
    results = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))
    assert {hit["image"] for hit in results["queries"][0]["hits"]} == set(STRANGE) and not results["left_out"]
    page = (tmp_path / "out/index.html").read_text(encoding="utf-8")
    table = (tmp_path / "out/results.csv").read_text(encoding="utf-8")
    assert SHOWN in page and SHOWN in table and escape("qu\"o'te<b>.jpg") in page and "<b>.jpg" not in page


def test_match_takes_and_shows_such_a_name(segswap, folder, tmp_path, capsys):
    assert segswap("match", folder / LATIN, folder / "new\nline.jpg", "--page", "--gif") == 0
    assert read_json(tmp_path / "out/match.json")["first"]["file"] == str(folder / LATIN)
    assert SHOWN in (tmp_path / "out/index.html").read_text(encoding="utf-8")


def test_discover_uses_pictures_of_all_names(segswap, folder, tmp_path):
    assert segswap("discover", folder, "--side", SIDE, "--mask-threshold", 0, "--min-share", 0, "--clusters", 4) == 0
    assert set(read_json(tmp_path / "out/images.json")["images"]) == set(STRANGE)
    shown = set(pq.read_table(tmp_path / "out/regions.parquet")["image"].to_pylist())
    assert shown and shown <= {as_text(name) for name in STRANGE}


def test_photos_of_all_names_are_cut_from(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number, name in enumerate(STRANGE):
        picture = draw_picture(number, size=(160, 120))
        picture[30:90, 40:110] = (250, 20 * number, 10)
        (photos / name).write_bytes(encode_jpeg(picture))
    settings = SegmentSettings(
        longer_side=160, scales=(100,), sigma=0.8, min_area_share=0.05, max_area_share=0.9, max_border_share=0.9,
        min_solidity=0.3, min_inscribed=0.05, max_overlap=0.8, max_bad_share=0.0,
    )  # fmt: skip
    build_segment_table(photos, tmp_path / "objects.parquet", tmp_path / "problems.json", settings)
    table = ObjectTable.read(tmp_path / "objects.parquet")
    assert len(table.image_ids) == len(STRANGE)
    opened = Photos(table, photos)
    for image, name in zip(table.image_ids, sorted(STRANGE), strict=True):
        assert np.array_equal(opened.read(int(image)), read_image(photos / name))


def test_serve_shows_pictures_of_all_names(folder, tmp_path):
    strange = tmp_path / LATIN
    shutil.copytree(folder, strange)
    model = make_model()
    client = create_app(model, open_index(strange, model, tmp_path / "store"), sides=(SIDE, SIDE)).test_client()
    assert SHOWN in client.get("/", base_url="http://localhost").get_data(as_text=True)
    listed = client.get("/api/folder", base_url="http://localhost").get_json()["pictures"]
    assert {picture["name"] for picture in listed} == set(STRANGE)
    for picture in listed:
        assert client.get(f"/thumbnail/{picture['number']}", base_url="http://localhost").status_code == 200


@pytest.mark.parametrize("name", ["x" * 300 + ".jpg", "nul\0.jpg", "\ud800.jpg"])
def test_what_can_be_no_name_is_an_unreadable_picture(tmp_path, name):
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_image(f"{tmp_path}/{name}")


# Lists

NFC, NFD = "\u00e9t\u00e9.jpg", "e\u0301te\u0301.jpg"


def test_paintings_are_found_in_another_normal_form(tmp_path):
    images = write_folder(tmp_path / "images", {NFD: None, "b.jpg": None})
    labels = {"hand": [{"query": [NFC, [0, 0, 9, 9]], "gt": [["b.jpg", [0, 0, 9, 9]]]}]}
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    assert [query.image for query in brueghel.load(images, tmp_path / "labels.json").queries] == [NFD]


def test_labels_of_photos_are_found_in_another_normal_form_and_read_with_a_mark(tmp_path):
    images = write_folder(tmp_path / "images", {NFD: None, "b.jpg": None})
    labels = tmp_path / "labels"
    labels.mkdir()
    (labels / NFC).with_suffix(".txt").write_text("\ufeff0 0.1 0.1 0.9 0.1 0.9 0.9\n", encoding="utf-8")
    (labels / "._b.txt").write_bytes(b"\0\5\x16\7")
    (tmp_path / "classes.txt").write_text("\ufeffcat\n", encoding="utf-8")
    found = read_yolo(images, labels, tmp_path / "classes.txt")
    assert [entry["image_id"] for entry in found.entries] == [2] and not found.broken
    assert found.categories == {0: "cat"} and len(found.photos) == 2
