"""From COCO annotations to the object table."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from segswap.errors import InputError
from segswap.files import read_json
from segswap.geometry import mask_box
from segswap.images import read_image
from segswap.pairs.annotation_masks import decode_segmentation, encode_segmentation
from segswap.pairs.annotations import FRAMES, ObjectSettings
from segswap.pairs.coco import build_object_table, read_coco
from segswap.pairs.objects import SCHEMA, ObjectTable

SETTINGS = ObjectSettings(min_area_share=0.01, max_area_share=0.6, max_bad_share=0.4)
SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
OTHER = [50.0, 30.0, 80.0, 30.0, 80.0, 50.0, 50.0, 50.0]


def rle_numbers(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask as COCO does by hand: lengths of runs, column by column, zeros first."""
    counts, value, length = [], 0, 0
    for pixel in mask.ravel(order="F"):
        if pixel != value:
            counts, value, length = [*counts, length], pixel, 0
        length += 1
    return {"size": list(mask.shape), "counts": [*counts, length]}


def rle_string(mask: np.ndarray) -> dict[str, Any]:
    """Encode a mask with pycocotools' compressed run lengths, as JSON can hold them."""
    encoded = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": list(mask.shape), "counts": encoded["counts"].decode()}


def blocks(*corners: tuple[int, int, int, int]) -> np.ndarray:
    """Return a mask, uint8 (60, 100), of boxes (x1, y1, x2, y2)."""
    mask = np.zeros((60, 100), np.uint8)
    for x1, y1, x2, y2 in corners:
        mask[y1:y2, x1:x2] = 1
    return mask


class Coco:
    """A small COCO data set under construction: four images of 100 x 60 pixels with a square each."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = root / "images"
        self.images.mkdir()
        self.content: dict[str, Any] = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": 100, "height": 60} for n in range(1, 5)],
            "categories": [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}, {"id": 11, "name": "unicorn"}],
            "annotations": [],
        }
        for image in self.content["images"]:
            self.draw(image["file_name"])
            self.add([SQUARE], image_id=image["id"])

    def draw(self, name: str, size: tuple[int, int] = (100, 60), orientation: int | None = None) -> None:
        """Write a photo of a size (width, height), as it is stored, with an EXIF orientation or none."""
        exif = Image.Exif()
        if orientation:
            exif[ExifTags.Base.Orientation] = orientation
        Image.new("RGB", size, "grey").save(self.images / name, exif=exif)

    def add(self, segmentation: Any, image_id: int = 1, category_id: int = 7, **more: Any) -> int:
        """Add an annotation and return its id."""
        number = len(self.content["annotations"]) + 100
        self.content["annotations"].append(
            {"id": number, "image_id": image_id, "category_id": category_id, "segmentation": segmentation, **more}
        )
        return number

    def build(self, settings: ObjectSettings = SETTINGS) -> tuple[ObjectTable, dict[str, Any]]:
        """Build the table; return it and what was left out."""
        (self.root / "coco.json").write_text(json.dumps(self.content))
        paths = [self.root / name for name in ("coco.json", "images", "objects.parquet", "problems.json")]
        build_object_table(*paths, settings)
        return ObjectTable.read(paths[2]), read_json(paths[3])


def rows_of(coco: Coco) -> list[dict[str, Any]]:
    """Return the rows of the table that was built last."""
    return pq.read_table(coco.root / "objects.parquet").to_pylist()


@pytest.fixture
def coco(tmp_path) -> Coco:
    return Coco(tmp_path)


# Segmentations


@pytest.mark.parametrize("encode", [rle_numbers, rle_string])
@pytest.mark.parametrize("corners", [[(10, 10, 30, 30)], [(0, 0, 5, 5), (90, 50, 100, 60)], [(0, 0, 100, 60)]])
def test_both_run_length_encodings_decode_to_the_mask(encode, corners):
    mask = blocks(*corners)
    np.testing.assert_array_equal(decode_segmentation(encode(mask), 60, 100), mask)


def test_polygon_parts_are_joined():
    joined = decode_segmentation([SQUARE, OTHER], 60, 100)
    first, second = (decode_segmentation([part], 60, 100) for part in (SQUARE, OTHER))
    np.testing.assert_array_equal(joined, first | second)
    assert joined.sum() == 20 * 20 + 30 * 20


@pytest.mark.parametrize(
    "segmentation",
    [
        [],
        [[]],
        [[1.0, 2.0, 3.0, 4.0]],
        [[*SQUARE, 5.0]],
        [SQUARE, []],
        "polygon",
        None,
        {"counts": [6000]},
        {"size": [60, 100], "counts": [100, 200]},
        {"size": [100, 60], "counts": [100, 5900]},
        {"size": [60, 100], "counts": [6000]},
        [[500.0, 500.0, 600.0, 500.0, 600.0, 600.0]],
        [[10, 10, 30, 10, 30, True]],
        [[10, 10, 30, 10, 30, "30"]],
        [[10, 10, 30, 10, 30, None]],
        [[[10, 10], [30, 10], [30, 30], [10, 30], [10, 20], [10, 10]]],
        SQUARE,
        ["polygon"],
        [{"x": 1}],
        [[10, 10, 2.0e8, 3.5e8, 30, 30, 10, 30]],
        [[10, 10, 30, 10, math.nan, 30]],
        [[10, 10, 30, 10, math.inf, 30]],
        [[10, 10, 30, 10, -math.inf, 30]],
        [[10, 10, 30, 10, 10**400, 30]],
        [[1e12, 1e12, 1e12 + 50, 1e12, 1e12, 1e12 + 50]],
        [[0, 0, 100, 60, 0, 60, 100, 0] * 30_000],
        {"size": [60, 100], "counts": [-100, 200, 5900]},
        {"size": [60, 100], "counts": [100, -200, 6100]},
        {"size": [60, 100], "counts": [100, 200.5, 5699.5]},
        {"size": [60, 100], "counts": [True, 5999]},
        {"size": [60, 100], "counts": ["100", "5900"]},
        {"size": [60, 100], "counts": [100, None]},
        {"size": [60, 100], "counts": []},
        {"size": [60, 100], "counts": [1 << 70, -(1 << 70), 100, 5900]},
        {"size": [60, 100], "counts": ""},
        {"size": [60, 100], "counts": "\0"},
        {"size": [60, 100], "counts": "é€"},
        {"size": [60, 100], "counts": "\ud800"},
        {"size": [60, 100], "counts": "o" * 50},
        {"size": [60, 100], "counts": 7},
        {"size": [60, 100], "counts": {}},
        {"size": None, "counts": [100, 5900]},
        {"size": "60", "counts": [100, 5900]},
        {"size": [10**9, 10**9], "counts": [0, 10**18]},
    ],
    ids=lambda segmentation: repr(segmentation)[:60],
)
def test_what_is_no_mask_of_the_image_is_refused(segmentation, little_memory):
    with pytest.raises(ValueError):
        decode_segmentation(segmentation, 60, 100)


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 1)))
def test_run_lengths_of_any_mask_decode_to_the_mask(mask):
    assume(mask.any())
    for encoded in (rle_numbers(mask), rle_string(mask), encode_segmentation(mask)):
        np.testing.assert_array_equal(decode_segmentation(encoded, *mask.shape), mask)


@given(st.integers(0, 2**32 - 1), st.data())
def test_run_lengths_that_end_early_or_late_or_are_changed_are_refused_or_fill_the_mask(seed, data):
    """pycocotools would leave the rest of the mask as its memory was, or write behind it."""
    encoded = rle_string(np.random.default_rng(seed).random((9, 7)) < 0.3)
    text = encoded["counts"]
    cut = data.draw(st.integers(0, len(text)))
    changed = text[:cut] + data.draw(st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=5))
    changed += data.draw(st.sampled_from(["", text[cut:]]))
    try:
        mask = decode_segmentation({**encoded, "counts": changed}, 9, 7)
    except ValueError:
        return
    # Only what stands for the same lengths, or others that fill the mask exactly, is a mask.
    again = rle_string(mask)
    np.testing.assert_array_equal(decode_segmentation(again, 9, 7), mask)
    assert changed != text[:cut] or changed == text or not text[cut:].strip("0")


@given(st.lists(st.floats(-300, 400), min_size=6, max_size=12).filter(lambda part: len(part) % 2 == 0))
def test_what_lies_outside_the_photo_is_cut_off(part):
    """The mask is that part of a larger photo's mask, on which the whole outline lies."""
    wide = [number + 300 for number in part]
    larger = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects([wide], 700, 700)))[300:360, 300:400]
    try:
        mask = decode_segmentation([part], 60, 100)
    except ValueError:
        mask = np.zeros((60, 100), np.uint8)
    assert (mask != larger).mean() < 0.02


# The table


def test_rows_hold_what_the_mask_says_not_what_the_annotation_claims(coco):
    coco.add(rle_numbers(blocks((0, 20, 40, 50))), image_id=2, category_id=9, area=1, bbox=[0, 0, 1, 1])
    table, _ = coco.build()
    rows = pq.read_table(coco.root / "objects.parquet").to_pylist()
    assert pq.read_schema(coco.root / "objects.parquet").names == SCHEMA.names
    row = next(row for row in rows if row["category"] == "dog")
    assert (row["area"], row["bbox"]) == (40 * 30, [0.0, 20.0, 40.0, 30.0])
    assert row["touches_border"]
    assert not next(row for row in rows if row["image_id"] == 1)["touches_border"]
    assert (row["file_name"], row["width"], row["height"], row["category_id"]) == ("2.jpg", 100, 60, 9)
    np.testing.assert_array_equal(
        table.mask(table.row_of(row["image_id"], row["annotation_id"])), blocks((0, 20, 40, 50))
    )


def test_rows_do_not_depend_on_the_order_of_the_annotations(coco):
    coco.add([OTHER], image_id=3)
    coco.build()
    first = (coco.root / "objects.parquet").read_bytes()
    coco.content["annotations"].reverse()
    coco.build()
    assert (coco.root / "objects.parquet").read_bytes() == first


def test_crowds_are_kept_and_never_offered(coco):
    crowd = coco.add(rle_numbers(blocks((0, 0, 90, 60))), image_id=2, category_id=9, iscrowd=1)
    table, problems = coco.build()
    assert problems["crowds"] == 1
    assert problems["objects"] == 4
    row = table.row_of(2, crowd)
    assert row not in table.objects_in(2)
    assert 9 not in table.categories
    # Their category counts as present in the image.
    np.testing.assert_array_equal(table.categories_in(2), [7, 9])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"segmentation": [[]]}, "three"),
        ({"category_id": 12345}, "12345"),
        ({"image_id": 999}, "999"),
        ({"segmentation": None}, "neither"),
        ({"segmentation": {"size": [60, 100], "counts": [6000]}}, "no pixel"),
    ],
)
def test_broken_annotation_is_skipped_and_named(coco, change, reason):
    number = coco.add([OTHER])
    coco.content["annotations"][-1].update(change)
    table, problems = coco.build()
    assert [entry["annotation_id"] for entry in problems["annotations_broken"]] == [number]
    assert reason in problems["annotations_broken"][0]["reason"]
    assert problems["objects"] == 4
    with pytest.raises(KeyError):
        table.row_of(1, number)


def test_annotation_without_a_mask_is_skipped_and_named(coco):
    number = coco.add([OTHER])
    del coco.content["annotations"][-1]["segmentation"]
    _, problems = coco.build()
    assert problems["annotations_broken"][0]["annotation_id"] == number


def test_too_many_broken_annotations_are_an_error_that_counts_them(coco):
    coco.add([[]])
    with pytest.raises(InputError, match=r"1 of 5 annotations are broken.*max_bad_share"):
        coco.build(ObjectSettings(0.01, 0.6, max_bad_share=0.1))


def test_missing_image_is_named_and_its_objects_are_left_out(coco):
    (coco.images / "3.jpg").unlink()
    table, problems = coco.build()
    assert problems["images_missing"] == ["3.jpg"]
    assert problems["left_out"] == {"image missing": 1}
    assert 3 not in table.image_ids


def test_too_many_missing_images_are_an_error_that_names_folder_and_first(coco):
    for number in (2, 3):
        (coco.images / f"{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"images: 2 of the 4 images.*first: 2\.jpg.*max_bad_share"):
        coco.build()


def test_unreadable_photo_is_named_and_its_objects_are_left_out(coco):
    (coco.images / "3.jpg").write_bytes(b"no picture")
    table, problems = coco.build()
    (named,) = problems["images_missing"]
    assert named.startswith("3.jpg: 10 bytes that do not decode as a picture")
    assert problems["left_out"] == {"image unreadable": 1}
    assert 3 not in table.image_ids
    (coco.images / "2.jpg").write_bytes(b"")
    with pytest.raises(
        InputError, match=r"images: 2 of the 4 images .* missing or do not open \(first: 2\.jpg: 0 bytes"
    ):
        coco.build()


def test_photo_of_another_size_than_annotated_is_named_with_each_of_its_annotations(coco):
    coco.draw("2.jpg", (50, 30))
    second = coco.add([OTHER], image_id=2)
    table, problems = coco.build()
    reason = "2.jpg has 50 x 30 pixels, annotated are 100 x 60"
    assert problems["annotations_broken"] == [{"annotation_id": n, "reason": reason} for n in (101, second)]
    assert table.image_ids.tolist() == [1, 3, 4] and problems["images_missing"] == []
    with pytest.raises(InputError, match=r"2 of 5 annotations are broken \(first: .*2\.jpg has 50 x 30.*max_bad_share"):
        coco.build(ObjectSettings(0.01, 0.6, max_bad_share=0.3))


@pytest.mark.parametrize("size", [(100, 60), (80, 80)])
@pytest.mark.parametrize("frame", FRAMES)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_lie_on_their_objects_in_either_frame_whatever_the_orientation(coco, orientation, frame, size):
    """Square photos, and orientations 2 to 4, keep their size: nothing but the frame tells where the object is."""
    pixels = np.full((size[1], size[0], 3), 90, np.uint8)
    pixels[10:30, 15:55] = 250
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    Image.fromarray(pixels).save(coco.images / "2.jpg", exif=exif, quality=100)
    shown = read_image(coco.images / "2.jpg")[..., 0] > 170
    drawn = shown if frame == "shown" else pixels[..., 0] > 170
    x1, y1, x2, y2 = mask_box(drawn)
    coco.content["images"][1].update(width=drawn.shape[1], height=drawn.shape[0])
    coco.content["annotations"][1]["segmentation"] = [[x1, y1, x2, y1, x2, y2, x1, y2]]
    coco.add(rle_numbers(drawn.astype(np.uint8)), image_id=2, category_id=9)
    table, problems = coco.build(dataclasses.replace(SETTINGS, frame=frame))
    assert problems["annotations_broken"] == [] and problems["frame"] == frame
    assert problems["images_turned"] == ([f"2.jpg: EXIF orientation {orientation}"] if orientation > 1 else [])
    assert table.image_shape(2) == shown.shape
    rows = table.objects_in(2)
    assert len(rows) == 2 and all((table.mask(row) == shown).mean() > 0.995 for row in rows)
    bounds = mask_box(table.mask(rows[0]))
    assert pq.read_table(coco.root / "objects.parquet").to_pylist()[rows[0]]["bbox"] == [
        *bounds[:2], bounds[2] - bounds[0], bounds[3] - bounds[1],
    ]  # fmt: skip


def test_photos_without_an_orientation_have_the_segmentation_of_the_annotations(coco):
    coco.draw("2.jpg", (100, 60), 3)
    coco.build()
    kept = {row["image_id"]: json.loads(row["segmentation"]) for row in rows_of(coco)}
    assert kept[1] == kept[3] == kept[4] == [SQUARE] and kept[2]["size"] == [60, 100]


@pytest.mark.parametrize(
    ("frame", "annotated", "reason"),
    [
        (
            None,
            (60, 100),
            r"2\.jpg has 100 x 60 as stored, 60 x 100 as shown \(EXIF orientation 6\) pixels.* to shown if",
        ),
        ("stored", (60, 100), r"annotated are 60 x 100; set the key 'frame' of this source to shown"),
        ("shown", (100, 60), r"annotated are 100 x 60; set the key 'frame' of this source to stored"),
        ("stored", (50, 30), r"\(EXIF orientation 6\) pixels, annotated are 50 x 30$"),
        ("shown", (50, 30), r"\(EXIF orientation 6\) pixels, annotated are 50 x 30$"),
    ],
)
def test_a_size_that_is_not_the_frames_is_an_error_that_says_exif(coco, frame, annotated, reason):
    coco.draw("2.jpg", (100, 60), 6)
    coco.content["images"][1].update(width=annotated[0], height=annotated[1])
    settings = dataclasses.replace(SETTINGS, frame=frame)
    (named,) = coco.build(settings)[1]["annotations_broken"]
    assert named["annotation_id"] == 101 and re.search(reason, named["reason"])
    with pytest.raises(InputError, match=r"1 of 4 annotations are broken .*EXIF orientation 6"):
        coco.build(dataclasses.replace(settings, max_bad_share=0.1))


def test_a_photo_that_has_lost_its_orientation_is_named(coco):
    coco.content["images"][1].update(width=60, height=100)
    (named,) = coco.build()[1]["annotations_broken"]
    assert named["reason"].endswith("(width and height exchanged, as of a photo that has lost its EXIF orientation)")


def test_a_frame_of_another_name_is_refused():
    with pytest.raises(InputError, match=r"frame: 'turned'; expected one of stored, shown"):
        ObjectSettings(0.01, 0.6, 0.4, "turned")


@pytest.mark.parametrize("also_in_a_photo", [False, True])
def test_annotation_ids_that_repeat_never_give_a_mask_of_another_object(coco, also_in_a_photo):
    """Converters number the annotations of every photo from 1; a recipe names its object by that number."""
    for entry in coco.content["annotations"]:
        x = 10 * entry["image_id"]
        entry.update(id=1, segmentation=[[x, 10, x + 40, 10, x + 40, 40, x, 40]])
    if also_in_a_photo:
        coco.add([OTHER], image_id=4)
        coco.content["annotations"][-1]["id"] = 1
    table, problems = coco.build()
    assert problems["annotations_broken"] == [] and problems["objects"] == 4 + also_in_a_photo
    for image in range(1, 5):
        for row in table.objects_in(image):
            assert table.row_of(image, table.annotation_of(row)) == row
        assert table.mask(table.objects_in(image)[0]).argmax(1).max() == 10 * image


def test_two_images_with_one_id_are_an_error_that_names_both(coco):
    coco.content["images"].append({"id": 3, "file_name": "other.jpg", "width": 100, "height": 60})
    with pytest.raises(
        InputError, match=r"coco\.json: 3\.jpg and other\.jpg both have the image id 3.*several sources"
    ):
        coco.build()
    # An image that is listed twice is one.
    coco.content["images"][-1]["file_name"] = "3.jpg"
    assert coco.build()[1]["objects"] == 4


def change_ids(coco: Coco, images: Any = None, annotations: Any = None, categories: Any = None) -> None:
    """Replace ids, and what refers to them, by what functions make of them."""
    for entry in coco.content["annotations"]:
        entry["id"] = annotations(entry["id"]) if annotations else entry["id"]
        entry["image_id"] = images(entry["image_id"]) if images else entry["image_id"]
        entry["category_id"] = categories(entry["category_id"]) if categories else entry["category_id"]
    for key, change in (("images", images), ("categories", categories)):
        for entry in coco.content[key]:
            entry["id"] = change(entry["id"]) if change else entry["id"]


IDS = {
    "text": lambda number: f"a{number}",
    "digits": str,
    "mixed": lambda number: number if number % 2 else str(number),
    "beyond 64 bits": lambda number: number + (1 << 100),
    "fractions": lambda number: number + 0.5,
    "halves of characters": lambda number: f"\ud800{number}",
}


@pytest.mark.parametrize("which", ["images", "annotations", "categories"])
@pytest.mark.parametrize("change", IDS)
def test_ids_of_any_kind_are_numbered_by_the_table(coco, change, which):
    coco.add([OTHER], image_id=4, category_id=9)
    expected = [(row["file_name"], row["category"], row["bbox"]) for row in (coco.build(), rows_of(coco))[1]]
    change_ids(coco, **{which: IDS[change]})
    table, problems = coco.build()
    rows = rows_of(coco)
    assert [(row["file_name"], row["category"], row["bbox"]) for row in rows] == expected
    assert problems["annotations_broken"] == [] and problems["objects"] == 5
    for number, row in enumerate(rows):
        assert table.row_of(row["image_id"], row["annotation_id"]) == number


def test_ids_that_are_numbers_of_the_table_stay_as_they_are(coco):
    change_ids(coco, images=lambda n: -n, annotations=lambda n: n - (1 << 63), categories=lambda n: n * 10)
    coco.build()
    rows = rows_of(coco)
    assert [(row["image_id"], row["category_id"]) for row in rows] == [(-n, 70) for n in (4, 3, 2, 1)]
    assert [row["annotation_id"] for row in rows] == [n - (1 << 63) for n in (103, 102, 101, 100)]


@pytest.mark.parametrize("value", ["absent", None, True, [1], {"a": 1}, math.nan, math.inf])
def test_an_annotation_without_a_usable_id_of_its_own_is_used(coco, value):
    for entry in coco.content["annotations"]:
        entry["id"] = value
        if value == "absent":
            del entry["id"]
    table, problems = coco.build()
    assert problems["objects"] == 4 and problems["annotations_broken"] == []
    assert [table.annotation_of(row) for row in range(4)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "name"), [("absent", "number 5 of the list"), (None, "number 5 of the list"), ("a\ud800", "'a\\ud800'"),
                        ("x7", "x7"), (1 << 100, 1 << 100), (-3, -3), (1.5, 1.5), (True, "True"), ([1], "[1]")]
)  # fmt: skip
def test_a_broken_annotation_is_named_by_its_id_as_it_is(coco, value, name):
    coco.add([[]])
    coco.content["annotations"][-1]["id"] = value
    if value == "absent":
        del coco.content["annotations"][-1]["id"]
    assert [entry["annotation_id"] for entry in coco.build()[1]["annotations_broken"]] == [name]


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("value", [None, True, "1", "7", 8.5, -1, 1 << 100, math.nan, [], {}, [1], "absent"])
def test_a_reference_to_nothing_is_skipped_and_named(coco, key, value):
    number = coco.add([OTHER])
    coco.content["annotations"][-1][key] = value
    if value == "absent":
        del coco.content["annotations"][-1][key]
    _, problems = coco.build()
    (named,) = problems["annotations_broken"]
    assert named["annotation_id"] == number and named["reason"].startswith(f"unknown or absent {key} ")


@pytest.mark.parametrize("entry", [None, 5, "annotation", [], [1, 2]])
def test_what_is_no_annotation_is_named_by_its_place(coco, entry):
    coco.content["annotations"].insert(1, entry)
    (named,) = coco.build()[1]["annotations_broken"]
    assert named["annotation_id"] == "number 2 of the list" and "is no annotation" in named["reason"]


@pytest.mark.parametrize("value", ["0", "false", 2, math.nan, [], {}])
def test_a_crowd_that_is_neither_one_nor_none_is_named(coco, value):
    coco.add([OTHER], iscrowd=value)
    assert "iscrowd is" in coco.build()[1]["annotations_broken"][0]["reason"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"id": None}, "expected an image with a number or text as 'id'"),
        ({"id": True}, "expected an image with a number or text as 'id'"),
        ({"id": [3]}, "expected an image with a number or text as 'id'"),
        ({"file_name": None}, "the file_name of image 3 is None"),
        ({"file_name": ""}, "the file_name of image 3 is ''"),
        ({"file_name": "\ud800.jpg"}, "the file_name of image 3 is '\\ud800.jpg'"),
        ({"width": "wide"}, "width and height of 3.jpg are 'wide' and 60"),
        ({"height": math.inf}, "width and height of 3.jpg are 100 and inf"),
        ({"height": None}, "width and height of 3.jpg are 100 and None"),
    ],
)
def test_what_is_no_photo_is_named_with_the_missing_ones(coco, change, reason):
    coco.content["images"][2].update(change)
    _, problems = coco.build()
    (named,) = problems["images_missing"]
    assert named.startswith("number 3 of the list: ") and reason in named
    assert problems["images_listed"] == 4 and problems["objects"] == 3
    with pytest.raises(InputError, match=r"1 of the 4 images .*first: number 3 of the list"):
        coco.build(dataclasses.replace(SETTINGS, max_bad_share=0.1))


@pytest.mark.parametrize("name", ["a\0b.jpg", "x" * 5000, "no/such/folder.jpg", ".", "1.jpg/2.jpg"])
def test_a_name_that_no_photo_has_is_a_missing_one(coco, name):
    coco.content["images"][2]["file_name"] = name
    assert len(coco.build()[1]["images_missing"]) == 1


def test_sizes_of_photos_that_are_not_there_take_no_memory(coco, little_memory):
    coco.content["images"][2].update(file_name="none.jpg", width=10**9, height=10**9)
    coco.content["images"][3].update(width=10**9, height=10**9)
    _, problems = coco.build()
    assert problems["left_out"] == {"image missing": 1}
    assert "annotated are 1000000000 x 1000000000" in problems["annotations_broken"][0]["reason"]


def test_two_categories_with_one_id_are_an_error_that_names_both(coco):
    coco.content["categories"].append({"id": 9, "name": "wolf"})
    with pytest.raises(InputError, match=r"coco\.json: dog and wolf both have the category id 9"):
        coco.build()
    coco.content["categories"][-1]["name"] = "dog"
    assert coco.build()[1]["objects"] == 4


@pytest.mark.parametrize(
    "category",
    [
        *(None, 7, {}, {"id": 1}, {"name": "a"}, {"id": None, "name": "a"}, {"id": [], "name": "a"}),
        *({"id": 1, "name": 5}, {"id": 1, "name": "\ud800"}),
    ],
)
def test_what_is_no_category_is_an_error_that_names_its_place(coco, category):
    coco.content["categories"].append(category)
    with pytest.raises(
        InputError, match=r"coco\.json: number 4 of 'categories' is .*expected a number or text as 'id'"
    ):
        coco.build()


@pytest.mark.parametrize("text", ["[" * 100_000, '{"images": ' + "9" * 5000 + "}", '{"images": ['])
def test_a_file_that_cannot_be_read_as_json_is_an_error_that_names_it(coco, text):
    (coco.root / "bad.json").write_text(text)
    with pytest.raises(InputError, match=r"bad\.json: not readable as JSON"):
        read_coco(coco.root / "bad.json")


@pytest.mark.parametrize(("corners", "reason"), [((0, 0, 5, 5), "too small"), ((0, 0, 100, 50), "too large")])
def test_object_outside_the_area_bounds_is_counted(coco, corners, reason):
    coco.add(rle_numbers(blocks(corners)))
    _, problems = coco.build()
    assert problems["left_out"] == {reason: 1}


def test_category_without_objects_is_listed(coco):
    coco.add([OTHER], category_id=9)
    _, problems = coco.build()
    assert problems["categories_without_objects"] == ["unicorn"]
    assert problems["objects_per_category"] == {"cat": 4, "dog": 1}


def test_data_without_a_usable_object_is_an_error(coco):
    with pytest.raises(InputError, match="no usable object among 4 annotations"):
        coco.build(ObjectSettings(min_area_share=0.5, max_area_share=0.6, max_bad_share=0.4))


@pytest.mark.parametrize("content", [{}, [], {"images": []}, {"images": [], "annotations": []}, {"images": [1]}])
def test_json_of_another_layout_is_an_error_that_names_the_file(coco, content):
    coco.content = copy.deepcopy(content)
    with pytest.raises(InputError, match=r"coco\.json: not a COCO annotation file"):
        coco.build()


def test_nothing_is_written_when_the_input_is_bad(coco):
    coco.content = {}
    with pytest.raises(InputError):
        coco.build()
    assert sorted(path.name for path in coco.root.iterdir()) == ["coco.json", "images"]


# Whatever stands in the file

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 1 << 31, 1 << 63, 10**30, 10**400, 1, 2, 7, 9, 60, 100]),
    st.floats(),
    st.sampled_from([2.0e8, 1e308, -0.0, 0.5]),
    st.text(st.characters(), max_size=5),
    st.sampled_from(["1", "1.jpg", "2.jpg", "..", "/", "\0", "\ud800", "PPY0", "oooooooo"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=8),
        st.dictionaries(st.sampled_from(["id", "size", "counts", "x"]), inner, max_size=3),
    ),
    max_leaves=10,
)


def places_in(value: Any) -> list[tuple[Any, Any]]:
    """Return every place of a JSON value: what holds it, and key or index there."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, inner in items for place in [(value, key), *places_in(inner)]]


@given(st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_annotations_are_each_is_a_row_or_named_or_counted(coco, little_memory, data):
    before = copy.deepcopy(coco.content)
    coco.add(rle_string(blocks((40, 10, 60, 50))), image_id=2, category_id=9)
    coco.add(rle_numbers(blocks((40, 10, 43, 50))), image_id=3, iscrowd=1)
    try:
        for _ in range(data.draw(st.integers(1, 4))):
            places = places_in(coco.content)
            holder, key = places[data.draw(st.integers(0, len(places) - 1))] if places else (coco.content, "images")
            if isinstance(holder, dict) and data.draw(st.integers(0, 4)) == 0:
                holder.pop(key, None)
            else:
                holder[key] = data.draw(VALUES)
        try:
            table, problems = coco.build(ObjectSettings(0.01, 0.6, 1.0, data.draw(st.sampled_from([None, *FRAMES]))))
        except InputError as error:
            assert "coco.json" in str(error) or "images" in str(error)
            return
        rows = rows_of(coco)
        assert problems["annotations_listed"] == len(coco.content["annotations"])
        assert problems["annotations_listed"] == len(rows) + len(problems["annotations_broken"]) + sum(
            problems["left_out"].values()
        )
        for number, row in enumerate(rows):
            assert table.row_of(row["image_id"], row["annotation_id"]) == number
            assert table.mask(number).sum() == row["area"] > 0
            assert table.image_shape(row["image_id"]) == table.mask(number).shape
    finally:
        coco.content = before


# Reading the table


@pytest.mark.parametrize("content", [None, b"", b"not parquet"])
def test_unreadable_table_is_an_error_that_names_it(tmp_path, content):
    path = tmp_path / "objects.parquet"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"objects\.parquet"):
        ObjectTable.read(path)


def test_table_with_other_columns_is_an_error(coco):
    coco.build()
    path = coco.root / "objects.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["area"]), path)
    with pytest.raises(InputError, match="remake the table"):
        ObjectTable.read(path)


def test_every_way_into_the_table_tells_the_same(tiny_world):
    table = tiny_world.table()
    rows = pq.read_table(tiny_world.objects).to_pylist()
    for number, row in enumerate(rows):
        assert table.row_of(row["image_id"], row["annotation_id"]) == number
        assert table.annotation_of(number) == row["annotation_id"]
        assert table.image_of(number) == row["image_id"]
        assert table.category_of(number) == row["category_id"]
        assert table.file_name(row["image_id"]) == row["file_name"]
        assert table.image_shape(row["image_id"]) == (row["height"], row["width"])
        assert (number in table.objects_in(row["image_id"])) == (not row["iscrowd"])
        assert table.mask(number).sum() == row["area"]
    usable = Counter(row["category_id"] for row in rows if not row["iscrowd"])
    assert {int(c): len(table.objects_of(int(c))) for c in table.categories} == usable


# Real data


@pytest.mark.parametrize(
    ("split", "images", "annotations", "categories"), [("train", 80, 739, 80), ("val", 79, 624, 78)]
)
def test_real_photos_become_a_table(shared, tmp_path, split, images, annotations, categories):
    folder = shared / "data" / "coco_mini"
    paths = tmp_path / "objects.parquet", tmp_path / "problems.json"
    source = folder / "annotations" / f"instances_{split}2017.json", folder / f"{split}2017"
    build_object_table(*source, *paths, ObjectSettings(1e-9, 1.0, 0.01))
    problems, rows = read_json(paths[1]), pq.read_table(paths[0]).to_pylist()
    assert problems["annotations_listed"] == annotations
    assert problems["annotations_broken"] == problems["images_missing"] == []
    assert problems["objects"] + problems["crowds"] == len(rows) == annotations
    assert len({row["image_id"] for row in rows}) == images
    assert len({row["category"] for row in rows}) == categories
    # COCO's areas of crowds are not those of their masks.
    listed = {entry["id"]: entry["area"] for entry in read_json(source[0])["annotations"]}
    large = [row for row in rows if row["area"] > 2000 and not row["iscrowd"]]
    np.testing.assert_allclose([row["area"] / listed[row["annotation_id"]] for row in large], 1, atol=0.03)
