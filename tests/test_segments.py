"""Objects without annotation: regions of photos become rows of the object table, the rest is counted by reason."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from segswap.errors import InputError
from segswap.files import read_json, write_bytes
from segswap.images import encode_jpeg
from segswap.pairs.objects import SCHEMA, ObjectTable
from segswap.pairs.render import Photos, make_pair
from segswap.pairs.segments import SegmentSettings, build_segment_table, find_segments

SETTINGS = SegmentSettings(
    longer_side=160,
    scales=(100.0, 400.0),
    sigma=0.8,
    min_area_share=0.02,
    max_area_share=0.5,
    max_border_share=0.05,
    min_solidity=0.8,
    min_inscribed=0.2,
    max_overlap=0.7,
    max_bad_share=0.1,
)
HEIGHT, WIDTH = 240, 320


def photo(shift: int = 0) -> np.ndarray:
    """A flat ground with a disk, a square, a cross, a speck and a stripe along the whole left border."""
    image = np.full((HEIGHT, WIDTH, 3), (60, 110, 70), np.uint8)
    cv2.circle(image, (110 + shift, 70), 40, (220, 60, 40), -1)
    cv2.rectangle(image, (200, 140 - shift), (270, 210 - shift), (40, 70, 220), -1)
    cv2.rectangle(image, (60, 190), (160, 196), (250, 250, 60), -1)
    cv2.rectangle(image, (107, 150), (113, 236), (250, 250, 60), -1)
    cv2.circle(image, (290, 30), 4, (255, 255, 255), -1)
    cv2.rectangle(image, (0, 0), (30, HEIGHT), (20, 20, 20), -1)
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        write_bytes(tmp_path / "photos" / f"{number}.jpg", encode_jpeg(photo(3 * number), 95))
    return tmp_path / "photos"


def build(folder: Path, settings: SegmentSettings = SETTINGS, processes: int = 1) -> tuple[Path, dict]:
    table, problems = folder.parent / "table.parquet", folder.parent / "problems.json"
    build_segment_table(folder, table, problems, settings, processes)
    return table, read_json(problems)


def iou(first: np.ndarray, second: np.ndarray) -> float:
    return (first & second).sum() / (first | second).sum()


def test_solid_regions_inside_the_photo_are_found_and_nothing_else():
    masks, left_out = find_segments(photo(), SETTINGS)
    assert len(masks) == 2, "disk and square, once each though there are two scales"
    truth = [np.zeros((HEIGHT, WIDTH), np.uint8) for _ in range(2)]
    cv2.circle(truth[0], (110, 70), 40, 1, -1)
    cv2.rectangle(truth[1], (200, 140), (270, 210), 1, -1)
    full = [cv2.resize(mask.astype(np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) for mask in masks]
    assert all(max(iou(mask, wanted) for mask in full) > 0.8 for wanted in truth)
    assert left_out["found at another scale"] == 2
    assert left_out["touches too much of the border"] == 2, "the stripe"
    assert left_out["too large"] == 2, "the ground"


def test_each_bound_leaves_out_by_its_own_reason():
    def reasons(**changes: float) -> dict[str, int]:
        return find_segments(photo(), dataclasses.replace(SETTINGS, scales=(400.0,), **changes))[1]

    assert reasons(min_area_share=0.001)["not solid"] >= 1, "the cross"
    assert reasons(max_area_share=0.06)["too large"] >= 2
    assert reasons(min_inscribed=0.9)["a sliver"] == 1, "the square; a disk is its own inscribed circle"
    assert not reasons(max_border_share=1.0)["touches too much of the border"]


def test_table_says_what_the_masks_are(folder):
    table, problems = build(folder)
    rows = pq.read_table(table)
    assert rows.schema.equals(SCHEMA)
    assert problems["objects"] == len(rows) == 12
    assert problems["images_listed"] == 6 and problems["images_missing"] == []
    assert sum(problems["objects_by_area_share"].values()) == 12
    assert problems["annotations_listed"] == 12 + sum(problems["left_out"].values())
    objects = ObjectTable.read(table)
    for row, entry in enumerate(rows.to_pylist()):
        mask = objects.mask(row)
        assert mask.shape == (HEIGHT, WIDTH) and mask.sum() == entry["area"]
        x, y, width, height = (int(v) for v in entry["bbox"])
        assert mask[y : y + height, x : x + width].sum() == entry["area"]
        assert entry["category"] == "segment" and not entry["iscrowd"]
    assert len(objects.categories) == 12, "each region is a category of its own"


def test_table_is_the_same_for_any_number_of_processes(folder):
    alone = build(folder)[0].read_bytes()
    assert build(folder, processes=2)[0].read_bytes() == alone


def test_pairs_are_made_from_segments_of_other_photos(folder, tiny_world):
    objects = ObjectTable.read(build(folder)[0])
    photos = Photos(objects, folder)
    settings = dataclasses.replace(tiny_world.pair_settings, max_attempts=500)
    for index in range(8):
        one = make_pair(photos, settings, 1, "1obj", index).recipe
        assert one.source_image_id != one.target_image_id
        two = make_pair(photos, settings, 1, "2obj", index).recipe
        first, second = (placement.annotation_id for placement in two.placements)
        assert first != second
        assert all(objects.row_of(two.source_image_id, number) >= 0 for number in (first, second))


def test_unreadable_photos_are_named_and_too_many_are_fatal(folder):
    (folder / "3.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"1 of 6 photos do not open .*3\.jpg.*objects\.max_bad_share \(0\.1\)"):
        build(folder)
    _, problems = build(folder, dataclasses.replace(SETTINGS, max_bad_share=0.2))
    assert len(problems["images_missing"]) == 1 and "3.jpg" in problems["images_missing"][0]
    assert problems["objects"] == 10


def test_photos_that_exif_turns_are_named_and_their_regions_lie_on_what_is_shown(folder):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(photo())).save(folder / "3.jpg", exif=exif, quality=95)
    table, problems = build(folder)
    assert problems["images_turned"] == ["3.jpg: EXIF orientation 6"]
    objects = ObjectTable.read(table)
    (first, _), upright = objects.objects_in(4), objects.objects_in(1)
    assert objects.image_shape(4) == (HEIGHT, WIDTH)
    assert max(iou(objects.mask(first), objects.mask(row)) for row in upright) > 0.9


def test_photos_without_regions_and_empty_folders_say_so(tmp_path):
    write_bytes(tmp_path / "photos" / "flat.jpg", encode_jpeg(np.full((64, 64, 3), 90, np.uint8), 95))
    with pytest.raises(InputError, match=r"no region of 1 photos may be an object \(left out: .*objects\.segments"):
        build(tmp_path / "photos")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty"):
        build(tmp_path / "empty")
