"""YOLO's outlines become rows of the object table; lines that are none are named with file and line."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from segswap.errors import InputError
from segswap.files import read_json
from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.objects import ObjectTable
from segswap.pairs.yolo import build_yolo_table, read_class_names

SETTINGS = ObjectSettings(min_area_share=0.01, max_area_share=0.9, max_bad_share=0.5)
BOX = "0.25 0.2 0.75 0.2 0.75 0.6 0.25 0.6"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three photos of 80 x 60 pixels, the last one lying on its side, with an object each."""
    for name in ("images", "labels"):
        (tmp_path / name).mkdir()
    for number in (1, 2, 3):
        exif = Image.Exif()
        exif[0x0112] = 6 if number == 3 else 1
        Image.new("RGB", (80, 60), "grey").save(tmp_path / f"images/{number}.jpg", exif=exif)
        (tmp_path / f"labels/{number}.txt").write_text(f"{number} {BOX}\n")
    (tmp_path / "names.txt").write_text("ape\nbee\ncat\ndog\n")
    return tmp_path


def build(folder: Path, names: str | None = None, settings: ObjectSettings = SETTINGS) -> tuple[ObjectTable, Any]:
    """Build the table; return it and what was left out."""
    table, problems = folder / "table.parquet", folder / "problems.json"
    known = folder / names if names else None
    build_yolo_table(folder / "images", folder / "labels", known, table, problems, settings)
    return ObjectTable.read(table), read_json(problems)


def test_outlines_are_masks_in_the_pixels_of_the_photo_as_it_is_shown(folder):
    table, problems = build(folder)
    assert problems["objects_per_category"] == {"class 1": 1, "class 2": 1, "class 3": 1}
    for image, (width, height) in ((1, (80, 60)), (2, (80, 60)), (3, (60, 80))):
        assert table.image_shape(image) == (height, width)
        expected = np.zeros((height, width), np.uint8)
        expected[height // 5 : height * 3 // 5, width // 4 : width * 3 // 4] = 1
        (row,) = table.objects_in(image)
        np.testing.assert_array_equal(table.mask(row), expected)
        assert table.row_of(image, table.annotation_of(row)) == row


def test_outlines_of_stored_pixels_are_turned_with_the_photo(folder):
    shown = {row: build(folder)[0].mask(row) for row in range(3)}
    table, problems = build(folder, settings=dataclasses.replace(SETTINGS, frame="stored"))
    assert problems["images_turned"] == ["3.jpg: EXIF orientation 6"] and problems["annotations_broken"] == []
    expected = np.zeros((60, 80), np.uint8)
    expected[12:36, 20:60] = 1
    assert table.image_shape(3) == (80, 60)
    np.testing.assert_array_equal(table.mask(2), np.rot90(expected, -1))
    for row in (0, 1):
        np.testing.assert_array_equal(table.mask(row), shown[row])


def test_classes_beyond_64_bits_are_numbered(folder):
    (folder / "labels/2.txt").write_text(f"{10**30} {BOX}\n")
    table, problems = build(folder)
    assert table.categories.tolist() == [1, 2, 3] and problems["objects_per_category"][f"class {10**30}"] == 1


LINES = st.one_of(
    st.binary(max_size=40),
    st.text(max_size=20).map(lambda text: text.encode("utf-8", "replace")),
    st.lists(
        st.one_of(st.integers().map(str), st.floats().map(str), st.floats(0, 1).map(str), st.just("9" * 5000)),
        max_size=9,
    ).map(lambda words: " ".join(words).encode()),
)


@given(st.lists(LINES, max_size=5), st.sampled_from([None, "stored", "shown"]))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_lines_are_each_is_a_row_or_named_or_counted(folder, little_memory, lines, frame):
    (folder / "labels/2.txt").write_bytes(b"\n".join(lines))
    table, problems = build(folder, settings=ObjectSettings(0.01, 0.9, 1.0, frame))
    rows = problems["objects"]
    assert problems["annotations_listed"] == rows + len(problems["annotations_broken"]) + sum(
        problems["left_out"].values()
    )
    assert rows >= 2 and all(table.mask(row).any() for row in range(rows))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("names.txt", "ape\nbee \ncat\ndog\n\n"),
        ("data.yaml", "path: /data\nnames: [ape, bee, cat, dog]\n"),
        ("data.yml", "names:\n  0: ape\n  1: bee\n  2: cat\n  3: dog\n"),
    ],
)
def test_classes_are_named_by_a_list_or_by_the_file_of_the_data_set(folder, name, content):
    (folder / name).write_text(content)
    _, problems = build(folder, name)
    assert problems["objects_per_category"] == {"bee": 1, "cat": 1, "dog": 1}
    assert problems["categories_without_objects"] == ["ape"]


@pytest.mark.parametrize(
    "content",
    [
        *(None, "nc: 80\n", "names: 80\n", "names: {a: ape}\n", "- ape\n", "names: [\n", b"\xff\xfe"),
        *("names: [[ape]]\n", "names: [null]\n", "names: {.inf: ape}\n", 'names: ["\\ud800"]\n', "[" * 500),
        "\n".join(["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40)), "names: [*a39]"]),
    ],
    ids=lambda content: repr(content)[:30],
)
def test_a_file_without_names_is_an_error_that_names_it(tmp_path, content, little_memory):
    path = tmp_path / "data.yaml"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=r"data\.yaml: no names of classes .*expected a text file"):
        read_class_names(path)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 0.5 0.5 0.2 0.2", "a box"),
        ("1 0.5 0.5 0.2", "found 4 numbers"),
        (f"1 {BOX} 0.5", "found 10 numbers"),
        (f"one {BOX}", "'one'"),
        (f"1 {BOX[:-3]}x", "'x'"),
        (f"-1 {BOX}", "numbered from 0"),
        (f"9 {BOX}", "class 9 has no name in"),
        (f"1 {BOX[:-3]}1.5", "coordinate 1.5 is no share"),
        (f"1 {BOX[:-3]}nan", "coordinate nan is no share"),
        (f"1 {BOX[:-3]}-0.1", "coordinate -0.1 is no share"),
        ("1 0.5 0.5 0.5 0.5 0.5 0.5", "no pixel"),
    ],
)
def test_a_line_that_is_no_outline_is_named_with_file_and_line(folder, line, reason):
    (folder / "labels/2.txt").write_text(f"\n2 {BOX}\n{line}\n")
    table, problems = build(folder, "names.txt")
    (named,) = problems["annotations_broken"]
    assert named["annotation_id"] == "2.txt:3" and reason in named["reason"]
    assert problems["objects"] == 3 and problems["annotations_listed"] == 4
    assert len(table.objects_in(2)) == 1
    with pytest.raises(InputError, match=r"labels: 1 of 4 annotations are broken \(first: .*2\.txt:3.*max_bad_share"):
        build(folder, "names.txt", ObjectSettings(0.01, 0.9, 0.1))


def test_labels_of_a_detector_are_refused_in_words(folder):
    for path in (folder / "labels").iterdir():
        path.write_text("1 0.5 0.5 0.2 0.2\n")
    with pytest.raises(InputError, match=r"3 of 3 annotations are broken .*a box .*labels for segmentation"):
        build(folder)


def test_photos_and_labels_need_each_other_as_far_as_yolo_wants_it(folder):
    (folder / "labels/2.txt").unlink()
    (folder / "labels/classes.txt").write_text("ape\n")
    (folder / "labels/9.txt").write_text(f"1 {BOX}\n")
    (folder / "images/1.jpg").write_bytes(b"no picture")
    _, problems = build(folder, settings=ObjectSettings(0.01, 0.9, 0.6))
    assert problems["images_listed"] == 4 and problems["objects"] == 1
    first, second = sorted(problems["images_missing"])
    assert first.startswith("1.jpg: 10 bytes that do not decode") and second == "9.*"
    with pytest.raises(InputError, match=r"2 of the 4 images .*are missing or do not open"):
        build(folder, settings=ObjectSettings(0.01, 0.9, 0.4))


def test_a_missing_folder_is_named(folder):
    (folder / "labels").rename(folder / "moved")
    with pytest.raises(InputError, match=r"labels: no such folder; expected the folder of YOLO's label files"):
        build(folder)


def test_bytes_that_are_no_text_are_named_as_lines(folder):
    (folder / "labels/2.txt").write_bytes(bytes(range(128, 256)))
    _, problems = build(folder)
    assert [entry["annotation_id"] for entry in problems["annotations_broken"]] == ["2.txt:1"]


def test_real_outlines_become_a_table(shared, tmp_path):
    folder = shared / "data/photos/coco128_seg"
    paths = tmp_path / "table.parquet", tmp_path / "problems.json"
    build_yolo_table(
        folder / "images/train2017", folder / "labels/train2017", None, *paths, ObjectSettings(1e-9, 1.0, 0.02)
    )
    problems = read_json(paths[1])
    assert problems["annotations_broken"] == [] and problems["annotations_listed"] == problems["objects"] == 929
    # Two labels are of photos that are not there, and two photos have none.
    assert problems["images_listed"] == 130 and problems["images_missing"] == ["000000000656.*", "000000000659.*"]
    table = ObjectTable.read(paths[0])
    assert len(table.image_ids) == 126
    close = []
    for image in table.image_ids.tolist():
        lines = (folder / "labels/train2017" / table.file_name(image)).with_suffix(".txt").read_text().splitlines()
        outlines = [np.array(line.split()[1:], float).reshape(-1, 2) for line in lines]
        shares = sorted(abs(area(outline)) for outline in outlines)
        masks = sorted(table.mask(row).mean() for row in table.objects_in(image))
        close += [abs(mask - share) < 0.004 for mask, share in zip(masks, shares, strict=True)]
    # An outline of several parts crosses itself, and its formula's area is not that of its mask.
    assert np.mean(close) > 0.95


def area(polygon: np.ndarray) -> float:
    """Return the area of a polygon (n, 2), by the shoelace formula."""
    x, y = polygon.T
    return 0.5 * float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))
