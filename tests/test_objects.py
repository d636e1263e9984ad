"""From COCO annotations to the object table."""

from __future__ import annotations

import copy
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import ExifTags, Image
from pycocotools import mask as coco_mask

from segswap.errors import InputError
from segswap.files import read_json
from segswap.pairs.coco import build_object_table
from segswap.pairs.objects import SCHEMA, ObjectSettings, ObjectTable, decode_segmentation

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
    ],
)
def test_what_is_no_mask_of_the_image_is_refused(segmentation):
    with pytest.raises(ValueError):
        decode_segmentation(segmentation, 60, 100)


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


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_is_that_of_the_photo_as_it_is_shown(coco, orientation):
    coco.draw("2.jpg", (100, 60), orientation)
    _, problems = coco.build()
    reasons = [entry["reason"] for entry in problems["annotations_broken"]]
    turned = "2.jpg has 60 x 100 pixels, annotated are 100 x 60 (width and height exchanged"
    assert len(reasons) == (orientation >= 5) and all(reason.startswith(turned) for reason in reasons)
    coco.draw("2.jpg", (60, 100), orientation)
    assert len(coco.build()[1]["annotations_broken"]) == (orientation < 5)


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
