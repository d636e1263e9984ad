"""Several sources of objects in one table: numbers of its own, every mask on its own photo, no photo twice."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from workflow_runs import copy_project, planned, snakemake

from segswap import sharing
from segswap.config import read_config
from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.images import read_image
from segswap.pairs import sources as sources_module
from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.coco import build_object_table
from segswap.pairs.objects import SCHEMA, ObjectTable
from segswap.pairs.recipe import PairRecipe, PairSettings
from segswap.pairs.render import Photos, make_pair, pair_geometry, render
from segswap.pairs.segments import SegmentSettings, build_segment_table
from segswap.pairs.single import open_source
from segswap.pairs.sources import HeldOut, Source, copies, join_tables, photo_path
from segswap.pairs.yolo import build_yolo_table
from segswap.randomness import generator

OBJECTS = ObjectSettings(min_area_share=0.005, max_area_share=0.9, max_bad_share=0.4)
SEGMENTS = SegmentSettings(
    longer_side=160,
    scales=(100.0,),
    sigma=0.5,
    min_area_share=0.01,
    max_area_share=0.5,
    max_border_share=0.05,
    min_solidity=0.8,
    min_inscribed=0.2,
    max_overlap=0.7,
    max_bad_share=0.4,
)
PAIRS = PairSettings(
    size=96,
    dilation=2,
    crop_probability=0.2,
    stretch=(0.7, 1.0),
    rotation=15,
    fit_steps=10,
    fit_decay=10,
    fit_min={"1obj": 0.6, "2obj": 0.8},
    min_cells=1,
    max_attempts=500,
)

Box = tuple[int, int, int, int]


def boxes_of(size: tuple[int, int]) -> list[Box]:
    """Return where the two objects of a photo of a size lie, (x1, y1, x2, y2)."""
    width, height = size
    return [(10, 10, width // 2 - 5, height // 2), (width // 2 + 5, height // 3, width - 8, height - 10)]


def shown(number: int, categories: list[int]) -> list[int]:
    """Return the categories of the two objects of a photo: of three, each photo lacks one."""
    return [categories[(number + place) % len(categories)] for place in (0, 1)]


def draw_photo(path: Path, seed: int, size: tuple[int, int]) -> None:
    """Write a photo with two objects of a flat colour that no other photo has."""
    rng = generator(seed, "photo of a source")
    image = np.full((size[1], size[0], 3), rng.integers(60, 200, 3), np.uint8)
    for (x1, y1, x2, y2), colour in zip(boxes_of(size), rng.integers(0, 256, (2, 3)), strict=True):
        image[y1:y2, x1:x2] = colour
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


@dataclasses.dataclass
class World:
    """Sources under construction, below one folder: all of them call their photos 1.png, 2.png, ... alike."""

    root: Path

    def photos(self, name: str, seed: int, count: int = 3) -> dict[str, tuple[int, int]]:
        """Draw the photos of a source; return their sizes by name. Two sources have no photo in common."""
        sizes = {f"{n}.png": (100 + 10 * (n % 2) + seed, 90 + 10 * (n % 3)) for n in range(1, count + 1)}
        for n, (file, size) in enumerate(sizes.items()):
            draw_photo(self.root / name / "images" / file, 100 * seed + n, size)
        return sizes

    def coco(
        self, name: str, seed: int, categories: dict[int, str], change: Callable[[dict], None] | None = None
    ) -> Source:
        """Make an annotated source, with ids from 1 as in every other."""
        sizes = self.photos(name, seed)
        content: dict[str, Any] = {
            "images": [
                {"id": n, "file_name": file, "width": size[0], "height": size[1]}
                for n, (file, size) in enumerate(sizes.items(), 1)
            ],
            "categories": [{"id": number, "name": category} for number, category in categories.items()],
            "annotations": [],
        }
        for image in content["images"]:
            boxes = boxes_of((image["width"], image["height"]))
            for (x1, y1, x2, y2), category in zip(boxes, shown(image["id"], list(categories)), strict=True):
                content["annotations"].append(
                    {
                        "id": len(content["annotations"]) + 1,
                        "image_id": image["id"],
                        "category_id": category,
                        "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]],
                    }
                )
        if change:
            change(content)
        (self.root / name / "coco.json").write_text(json.dumps(content))
        source = Source("annotations", str(self.root / name / "images"), str(self.root / name / "coco.json"))
        build_object_table(source.annotations, source.images, *self.files(source), OBJECTS)
        return source

    def yolo(self, name: str, seed: int, classes: str) -> Source:
        """Make a source with YOLO's labels."""
        labels = self.root / name / "labels"
        labels.mkdir(parents=True)
        for n, (file, (width, height)) in enumerate(self.photos(name, seed).items(), 1):
            lines = []
            for (x1, y1, x2, y2), category in zip(boxes_of((width, height)), shown(n, [0, 1, 2]), strict=True):
                corners = ((x1, y1), (x2, y1), (x2, y2), (x1, y2))
                lines.append(" ".join([str(category), *(f"{x / width} {y / height}" for x, y in corners)]))
            (labels / file).with_suffix(".txt").write_text("\n".join(lines))
        (self.root / name / "names.txt").write_text(classes)
        source = Source(
            "yolo", str(self.root / name / "images"), None, str(labels), str(self.root / name / "names.txt")
        )
        build_yolo_table(source.images, labels, source.names, *self.files(source), OBJECTS)
        return source

    def segments(self, name: str, seed: int) -> Source:
        """Make a source without annotations."""
        self.photos(name, seed)
        return self.cut(name)

    def cut(self, name: str) -> Source:
        """Return the photos of a folder as a source without annotations."""
        source = Source("segments", str(self.root / name / "images"))
        build_segment_table(source.images, *self.files(source), SEGMENTS)
        return source

    def files(self, source: Source) -> tuple[Path, Path]:
        """Return the table of a source and what it has left out."""
        folder = Path(source.images).parent
        return folder / f"{source.source}.parquet", folder / f"{source.source}.json"

    def join(self, *sources: Source, heldout: HeldOut | None = None) -> tuple[ObjectTable, dict[str, Any]]:
        """Join sources; return the table, and what was left out."""
        tables, counts = zip(*map(self.files, sources), strict=True)
        joined = self.root / "joined.parquet", self.root / "joined.json"
        join_tables(sources, tables, counts, *joined, heldout)
        return ObjectTable.read(joined[0]), read_json(joined[1])

    def rows(self) -> list[dict[str, Any]]:
        """Return the rows of the joined table."""
        return pq.read_table(self.root / "joined.parquet").to_pylist()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
def four(world: World) -> list[Source]:
    """A source of every kind, two of them annotated as COCO."""
    return [
        world.coco("a", 1, {1: "dog", 2: "cat", 3: "horse"}),
        world.coco("b", 2, {1: "cat", 2: "segment", 3: "dog"}),
        world.segments("c", 3),
        world.yolo("d", 4, "bird\ndog\nfish\n"),
    ]


def own_rows(world: World, source: Source) -> list[dict[str, Any]]:
    return pq.read_table(world.files(source)[0]).to_pylist()


# Numbers and masks


def test_the_rows_are_those_of_the_sources_in_order_with_numbers_of_their_own(world, four):
    world.join(*four)
    rows, own = world.rows(), [(n, row) for n, source in enumerate(four, 1) for row in own_rows(world, source)]
    assert pq.read_schema(world.root / "joined.parquet").equals(SCHEMA)
    assert [row["annotation_id"] for row in rows] == list(range(1, len(own) + 1))
    assert [row["image_id"] for row in rows] == [k // 2 + 1 for k in range(len(own))], "two objects a photo"
    changed = ("annotation_id", "image_id", "file_name", "category_id")
    for row, (number, before) in zip(rows, own, strict=True):
        assert row["file_name"] == f"{number}/{before['file_name']}"
        assert {k: v for k, v in row.items() if k not in changed} == {
            k: v for k, v in before.items() if k not in changed
        }


def test_every_mask_lies_on_the_object_of_its_own_photo(world, four):
    """All sources call their photos, annotations and images alike: only the number of the source tells them apart."""
    table, _ = world.join(*four)
    photos = Photos(table, *(source.images for source in four))
    own = [(source, row) for source in four for row in own_rows(world, source)]
    for row, (source, before) in enumerate(own):
        image = photos.read(table.image_of(row))
        np.testing.assert_array_equal(image, read_image(Path(source.images, before["file_name"])))
        mask = table.mask(table.row_of(table.image_of(row), table.annotation_of(row)))
        assert mask.sum() == before["area"]
        colours = np.unique(image[mask > 0], axis=0)
        assert len(colours) == 1 or source.source == "segments", "one flat colour"
    assert not photos.unreadable


def test_pairs_of_a_joined_table_are_those_of_the_table_that_their_photos_come_from(world, four):
    table, _ = world.join(*four)
    photos = Photos(table, *(source.images for source in four))
    compared = set()
    for kind in ("1obj", "2obj"):
        for index in range(60):
            pair = make_pair(photos, PAIRS, 1, kind, index)
            names = [table.file_name(n) for n in (pair.recipe.source_image_id, pair.recipe.target_image_id)]
            first, second = (name.partition("/")[0] for name in names)
            if first != second:
                continue
            source = four[int(first) - 1]
            own = Photos(ObjectTable.read(world.files(source)[0]), source.images)
            recipe = translated(pair.recipe, table, own.table)
            alone = render(own, PAIRS, recipe, pair_geometry(own.table, PAIRS, recipe))
            np.testing.assert_array_equal(alone.a, pair.a)
            np.testing.assert_array_equal(alone.b, pair.b)
            np.testing.assert_array_equal(alone.geometry.labels.mask_a, pair.geometry.labels.mask_a)
            np.testing.assert_array_equal(alone.geometry.labels.corr_b, pair.geometry.labels.corr_b)
            compared.add((kind, first))
    assert compared == {(kind, number) for kind in ("1obj", "2obj") for number in "1234"}


def translated(recipe: PairRecipe, table: ObjectTable, own: ObjectTable) -> PairRecipe:
    """Return the recipe of a joined table in the numbers of the table of its source."""
    image_of = {own.file_name(n): n for n in own.image_ids.tolist()}

    def image(number: int) -> int:
        return image_of[table.file_name(number).partition("/")[2]]

    def annotation(number: int) -> int:
        source = recipe.source_image_id
        place = table.objects_in(source).tolist().index(table.row_of(source, number))
        return own.annotation_of(int(own.objects_in(image(source))[place]))

    return dataclasses.replace(
        recipe,
        source_image_id=image(recipe.source_image_id),
        target_image_id=image(recipe.target_image_id),
        placements=tuple(dataclasses.replace(p, annotation_id=annotation(p.annotation_id)) for p in recipe.placements),
    )


def test_categories_of_one_name_are_one_and_every_region_is_one_of_its_own(world, four):
    table, _ = world.join(*four)
    numbers: dict[tuple[str, str], set[int]] = {}
    for row in world.rows():
        kind = "region" if row["file_name"].startswith("3/") else "named"
        numbers.setdefault((kind, row["category"]), set()).add(row["category_id"])
    assert {key: len(found) for key, found in numbers.items()} == {
        **{("named", name): 1 for name in ("dog", "cat", "horse", "segment", "bird", "fish")},
        ("region", "segment"): 6,
    }
    assert len(set.union(*numbers.values())) == 12 == len(table.categories)
    (dog,) = numbers["named", "dog"]
    assert {table.file_name(table.image_of(row))[0] for row in table.objects_of(dog)} == {"1", "2", "4"}


def test_equal_sources_in_equal_order_give_equal_bytes(world, four):
    world.join(*four)
    first = (world.root / "joined.parquet").read_bytes()
    world.join(*four)
    assert (world.root / "joined.parquet").read_bytes() == first
    world.join(*four[::-1])
    assert (world.root / "joined.parquet").read_bytes() != first


def test_one_source_alone_keeps_the_names_of_its_photos(world, four):
    table, problems = world.join(four[0])
    assert [table.file_name(n) for n in table.image_ids.tolist()] == ["1.png", "2.png", "3.png"]
    assert len(problems["sources"]) == 1
    assert Photos(table, four[0].images).read(1).shape == (100, 111, 3)


def test_a_name_begins_with_the_number_of_its_folder_where_there_are_several():
    assert photo_path(["x"], "2/a.jpg") == Path("x/2/a.jpg")
    assert photo_path(["x", "y"], "2/a.jpg") == Path("y/a.jpg")
    assert photo_path(["x", "y"], "1/2/a.jpg") == Path("x/2/a.jpg")
    many = [str(n) for n in range(1, 13)]
    assert photo_path(many, "12/a.jpg") == Path("12/a.jpg") and photo_path(many, "1/a.jpg") == Path("1/a.jpg")
    for name in ("a.jpg", "x/a.jpg", "0/a.jpg", "3/a.jpg", "-1/a.jpg"):
        with pytest.raises(InputError, match=r"a\.jpg: expected the number of one of 2 folders .* in front"):
            photo_path(["x", "y"], name)


# Photos that are there twice


def test_a_photo_of_an_earlier_source_is_left_out_whatever_its_name_and_named(world, four):
    shutil.copy(world.root / "a/images/2.png", world.root / "c/images/again.png")
    third = world.cut("c")
    assert len(own_rows(world, third)) == 8
    table, problems = world.join(four[0], third)
    assert len(table.image_ids) == 6
    copied, first = str(world.root / "c/images/again.png"), str(world.root / "a/images/2.png")
    assert problems["photos_left_out"] == [{"photo": copied, "same_as": first}]
    assert problems["left_out"]["photo held out or in an earlier source"] == 2
    listed = problems["objects"] + problems["crowds"] + sum(problems["left_out"].values())
    assert listed == problems["annotations_listed"]
    # The other way round the annotated one is the later.
    table, problems = world.join(third, four[0])
    assert problems["photos_left_out"] == [{"photo": first, "same_as": copied}]
    assert [table.file_name(n) for n in table.image_ids.tolist()][-2:] == ["2/1.png", "2/3.png"]


def test_held_out_photos_are_in_no_training_pair(world, four):
    """The user points at one folder twice: some of its photos are annotated and held out, the others are not."""
    for number in (7, 8):
        draw_photo(world.root / f"a/images/{number}.png", 900 + number, (120, 100))
    everything = world.cut("a")
    heldout = HeldOut(world.files(four[0])[0], [four[0].images])
    table, problems = world.join(everything, four[1], heldout=heldout)
    names = [table.file_name(n) for n in table.image_ids.tolist()]
    assert names == ["1/7.png", "1/8.png", "2/1.png", "2/2.png", "2/3.png"]
    assert [Path(entry["photo"]).name for entry in problems["photos_left_out"]] == ["1.png", "2.png", "3.png"]
    assert problems["sources"][0]["photos_left_out"] == problems["photos_left_out"]
    # Held-out photos of several sources.
    world.join(four[0], four[2])
    shutil.move(world.root / "joined.parquet", world.root / "heldout.parquet")
    heldout = HeldOut(world.root / "heldout.parquet", [four[0].images, four[2].images])
    table, problems = world.join(everything, four[3], heldout=heldout)
    assert len(problems["photos_left_out"]) == 3 and len(table.image_ids) == 5


def test_a_source_without_a_photo_of_its_own_is_an_error_that_names_it(world, four):
    shutil.copytree(world.root / "b", world.root / "other")
    again = world.cut("other")
    with pytest.raises(InputError, match=r"other/images: every photo .* \(the first, .*1\.png, is .*b/images/1\.png\)"):
        world.join(four[0], four[1], again)
    assert not (world.root / "joined.parquet").exists()
    heldout = HeldOut(world.files(four[1])[0], [four[1].images])
    with pytest.raises(InputError, match=r"b/images: every photo of this source is held out .* remove the source"):
        world.join(four[0], four[1], heldout=heldout)


def test_only_files_of_a_size_that_two_groups_have_are_read(tmp_path, monkeypatch):
    contents = {
        "a/1": b"one",
        "a/2": b"two",
        "a/3": b"three",
        "b/1": b"two",
        "b/2": b"2",
        "c/1": b"two",
        "c/2": b"2",
        "c/3": b"2",
    }
    for name, content in contents.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    read: list[str] = []
    digest = sources_module.sha256

    def spy(path: Path) -> str:
        read.append(str(path.relative_to(tmp_path)))
        return digest(path)

    monkeypatch.setattr(sources_module, "sha256", spy)
    groups = [[path for path in sorted(tmp_path.rglob("*/*")) if path.parent.name == name] for name in "abc"]
    found = copies(groups)
    assert sorted(read) == ["a/1", "a/2", "b/1", "b/2", "c/1", "c/2", "c/3"]
    named = [{p.name: str(q.relative_to(tmp_path)) for p, q in own.items()} for own in found]
    # Within a group nothing is compared: both c/2 and c/3 are there once more in b.
    assert named == [{}, {"1": "a/2"}, {"1": "a/2", "2": "b/2", "3": "b/2"}]


# What is said of it


def test_photos_that_exif_turns_are_named_with_their_source(world):
    first, second = world.coco("a", 1, {1: "dog", 2: "cat"}), world.coco("b", 2, {1: "dog", 2: "cat"})
    world.photos("c", 3)
    third = world.cut("c")
    for source in (first, second):
        problems = world.files(source)[1]
        write_json(problems, {**read_json(problems), "images_turned": ["2.png: EXIF orientation 3"]})
    # A table that was made before these were named.
    problems = world.files(third)[1]
    write_json(problems, {key: value for key, value in read_json(problems).items() if key != "images_turned"})
    assert world.join(first, second, third)[1]["images_turned"] == [
        "source 1: 2.png: EXIF orientation 3",
        "source 2: 2.png: EXIF orientation 3",
    ]


def test_what_is_wrong_is_named_with_its_source_and_counted_in_the_sums(world):
    def spoil(content: dict[str, Any]) -> None:
        content["images"][1]["width"] += 5
        content["images"].append({"id": 9, "file_name": "gone.png", "width": 10, "height": 10})
        content["annotations"][0]["segmentation"] = []

    first = world.coco("a", 1, {1: "dog", 2: "cat"})
    with pytest.raises(InputError, match=r"3 of 6 annotations are broken \(first: .*three.*max_bad_share \(0\.4\)"):
        world.coco("b", 2, {1: "cat", 2: "bird"}, spoil)
    spared = dataclasses.replace(OBJECTS, max_bad_share=0.5)
    second = Source("annotations", str(world.root / "b/images"), str(world.root / "b/coco.json"))
    build_object_table(second.annotations, second.images, *world.files(second), spared)
    world.photos("c", 3)
    (world.root / "c/images/2.png").write_bytes(b"no picture")
    third = world.cut("c")

    _, problems = world.join(first, second, third)
    assert problems["images_listed"] == 3 + 4 + 3
    missing, unreadable = problems["images_missing"]
    assert missing == "source 2: gone.png" and unreadable.startswith("source 3: ") and "2.png" in unreadable
    assert [(entry["source"], entry["annotation_id"]) for entry in problems["annotations_broken"]] == [
        (2, 1),
        (2, 3),
        (2, 4),
    ]
    assert "2.png has 102 x 110 pixels, annotated are 107 x 110" in problems["annotations_broken"][1]["reason"]
    assert problems["objects_per_category"] == {"dog": 3, "cat": 5, "bird": 1, "segment": 4}
    own = problems["sources"]
    assert [entry["source"] for entry in own] == ["annotations", "annotations", "segments"]
    assert own[1]["annotations"] == second.annotations and own[2]["images"] == third.images
    for key in ("images_listed", "annotations_listed", "objects", "crowds"):
        assert problems[key] == sum(entry[key] for entry in own)
    for key in ("images_missing", "annotations_broken"):
        assert len(problems[key]) == sum(len(entry[key]) for entry in own)


def test_a_category_has_no_objects_only_where_no_source_has_any(world):
    def leave_out(number: int) -> Callable[[dict], None]:
        def change(content: dict[str, Any]) -> None:
            content["annotations"] = [a for a in content["annotations"] if a["category_id"] != number]

        return change

    first = world.coco("a", 1, {1: "dog", 2: "cat"}, leave_out(1))
    second = world.coco("b", 2, {1: "dog", 2: "bird"}, leave_out(2))
    _, problems = world.join(first, second)
    assert problems["categories_without_objects"] == ["bird"]
    assert [own["categories_without_objects"] for own in problems["sources"]] == [["dog"], ["bird"]]


@pytest.mark.parametrize("part", [0, 1])
def test_a_damaged_table_of_a_source_is_named(world, four, part):
    world.files(four[1])[part].write_text("damaged")
    with pytest.raises(InputError, match=r"b/annotations\.(parquet|json): not"):
        world.join(*four)


def test_an_empty_folder_is_named_by_the_table_of_its_source(world):
    (world.root / "a/images").mkdir(parents=True)
    with pytest.raises(InputError, match=r"a/images: holds no picture"):
        world.cut("a")


# Real photos


def first_images(path: Path, count: int, output: Path) -> set[str]:
    """Write a COCO annotation file of the first images of another; return their names."""
    content = read_json(path)
    images = sorted(content["images"], key=lambda image: image["file_name"])[:count]
    kept = {image["id"] for image in images}
    annotations = [entry for entry in content["annotations"] if entry["image_id"] in kept]
    output.write_text(json.dumps({**content, "images": images, "annotations": annotations}))
    return {image["file_name"] for image in images}


def test_real_photos_of_several_sources_stand_in_one_table(shared, tmp_path):
    """COCO's annotations, YOLO's outlines of other COCO photos, and a folder that holds the held-out photos, too."""
    coco, yolo = shared / "data/coco_mini", shared / "data/photos/coco128_seg"
    first_images(coco / "annotations/instances_train2017.json", 20, tmp_path / "train.json")
    held = first_images(coco / "annotations/instances_val2017.json", 4, tmp_path / "val.json")
    categories = sorted(read_json(tmp_path / "train.json")["categories"], key=lambda category: category["id"])
    (tmp_path / "names.txt").write_text("\n".join(category["name"] for category in categories))
    for name, folder, count in (("plain", coco / "val2017", 16), ("images", yolo / "images/train2017", 20)):
        (tmp_path / name).mkdir()
        for path in sorted(folder.iterdir())[:count]:
            (tmp_path / name / path.name).symlink_to(path)
    (tmp_path / "labels").mkdir()
    for path in (tmp_path / "images").iterdir():
        label = yolo / "labels/train2017" / f"{path.stem}.txt"
        if label.exists():
            (tmp_path / "labels" / label.name).symlink_to(label)

    found = [
        Source("annotations", str(coco / "train2017"), annotations=str(tmp_path / "train.json")),
        Source("yolo", str(tmp_path / "images"), labels=str(tmp_path / "labels"), names=str(tmp_path / "names.txt")),
        Source("segments", str(tmp_path / "plain")),
    ]
    settings = ObjectSettings(0.002, 0.9, 0.02)
    tables, counts = ([tmp_path / f"{n}.{kind}" for n in range(3)] for kind in ("parquet", "json"))
    build_object_table(found[0].annotations, found[0].images, tables[0], counts[0], settings)
    build_yolo_table(found[1].images, found[1].labels, found[1].names, tables[1], counts[1], settings)
    build_segment_table(found[2].images, tables[2], counts[2], SEGMENTS)
    heldout = HeldOut(tmp_path / "val.parquet", [coco / "val2017"])
    build_object_table(tmp_path / "val.json", coco / "val2017", heldout.table, tmp_path / "val_counts.json", settings)
    join_tables(found, tables, counts, tmp_path / "joined.parquet", tmp_path / "joined.json", heldout)

    table, problems = ObjectTable.read(tmp_path / "joined.parquet"), read_json(tmp_path / "joined.json")
    first, second, third = problems["sources"]
    assert {Path(entry["photo"]).name for entry in problems["photos_left_out"]} == held
    assert first["photos_left_out"] == second["photos_left_out"] == []
    # Both annotated sources have COCO's categories; a region is one by itself.
    assert set(first["objects_per_category"]) & set(second["objects_per_category"])
    named = {*first["objects_per_category"], *second["objects_per_category"]}
    assert len(table.categories) == len(named) + third["objects"]

    photos = Photos(table, *(source.images for source in found))
    own = [ObjectTable.read(path) for path in tables]
    for image in table.image_ids.tolist():
        number, _, name = table.file_name(image).partition("/")
        source, before = found[int(number) - 1], own[int(number) - 1]
        np.testing.assert_array_equal(photos.read(image), read_image(Path(source.images, name)))
        same = next(n for n in before.image_ids.tolist() if before.file_name(n) == name)
        for row, own_row in zip(table.objects_in(image), before.objects_in(same), strict=True):
            np.testing.assert_array_equal(table.mask(row), before.mask(own_row))
    for index in range(4):
        pair = make_pair(photos, dataclasses.replace(PAIRS, size=160, max_attempts=2000), 1, "2obj", index)
        assert min(pair.geometry.labels.mask_a.sum(), pair.geometry.labels.mask_b.sum()) >= 1
    assert not photos.unreadable


# The workflow

RUN = """
run: sources
objects:
  train:
    sources:
      - {source: annotations, annotations: data/a/coco.json, images: data/a/images}
      - {source: yolo, labels: data/d/labels, names: data/d/names.txt, images: data/d/images}
      - {source: segments, images: data/c/images}
  heldout: {annotations: data/b/coco.json, images: data/b/images}
  segments: {longer_side: 160, scales: [100], sigma: 0.5}
  max_bad_share: 0.4
style: {method: none}
pairs:
  size: 96
  dilation: 2
  fit_min: {1obj: 0.6, 2obj: 0.8}
  min_cells: 1
  train: {1obj: 6, 2obj: 6}
  heldout: {1obj: 4, 2obj: 4}
backbone: {weights: pretrain, projection: 16, pretrain: {pairs: 2, stylise_probability: 0}}
train: {batch: {positives: 2, negatives: 1, stylise_probability: 0}}
benchmarks: {run: [pairs]}
"""


@pytest.mark.slow
def test_the_workflow_joins_sources_and_cuts_pairs_from_all_of_them(tmp_path, monkeypatch):
    folder = copy_project(tmp_path / "project")
    world = World(folder / "data")
    world.coco("a", 1, {1: "dog", 2: "cat", 3: "horse"})
    world.coco("b", 2, {1: "cat", 2: "segment", 3: "dog"})
    world.segments("c", 3)
    world.yolo("d", 4, "bird\ndog\nfish\n")
    # The same photo in training, under another name, as a held-out one.
    shutil.copy(world.root / "b/images/1.png", world.root / "c/images/0.png")
    (folder / "config/sources.yaml").write_text(RUN)
    monkeypatch.chdir(folder)
    config = read_config("config/sources.yaml")
    table = Path(sharing.objects(config, "train").folder)
    pairs = Path(sharing.pairs(config, "train", "2obj").folder)
    chosen = ("--configfile", "config/sources.yaml")
    snakemake(folder, *chosen, "--", f"{pairs}/2obj-000000.tar", "results/sources/shared.json")

    problems = read_json(table / "objects.json")
    assert [own["objects"] for own in problems["sources"]] == [6, 6, 6]
    assert problems["photos_left_out"] == [{"photo": "data/c/images/0.png", "same_as": "data/b/images/1.png"}]
    assert (folder / "results/sources/objects/train-2/objects.parquet").is_file()
    assert not list(sharing.unused_parts("results")), "tables of sources are used"
    source_of = {row["image_id"]: row["file_name"][0] for row in pq.read_table(table / "objects.parquet").to_pylist()}
    made = pq.read_table(pairs / "2obj-000000.parquet").to_pylist()
    assert {source_of[row["target_image_id"]] for row in made} == {"1", "2", "3"}
    # Any single pair is made from the same photos.
    alone = open_source(config, "train").make("2obj", 4).pair
    assert alone.recipe.source_image_id == made[4]["source_image_id"]
    assert alone.geometry.labels.mask_a.sum() == pytest.approx(made[4]["cells_a"])

    # The rest of the run is planned; a missing folder of one source stops it at once, naming the folder.
    said = snakemake(folder, *chosen, "-n", "-p")
    assert "data/a/coco.json data/b/coco.json" in said.replace("data/d/names.txt ", ""), "origins of the numbers"
    shutil.move(folder / "data/d/labels", folder / "data/d/moved")
    (table / "objects.parquet").unlink()
    shutil.rmtree(sharing.source_tables(config, "train")[1].folder)
    assert "data/d/labels" in snakemake(folder, *chosen, "-n", fails=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["real", "real-cpu"])
def test_the_configuration_for_real_photos_is_planned_on_folders_of_the_user(tmp_path, name):
    folder = copy_project(tmp_path)
    world = World(folder / "data")
    for split, seed in (("train", 1), ("val", 2)):
        world.coco(f"coco/{split}2017", seed, {1: "dog", 2: "cat", 3: "horse"})
        (folder / "data/coco/annotations").mkdir(exist_ok=True)
        shutil.move(
            folder / f"data/coco/{split}2017/coco.json", folder / f"data/coco/annotations/instances_{split}2017.json"
        )
    world.photos("photos", 3)
    world.photos("styles", 4)
    jobs = planned(folder, "--configfile", f"config/{name}.yaml")
    assert {rule: jobs[rule] for rule in ("object_table", "segment_table", "join_objects", "plant_details")} == {
        "object_table": 2,
        "segment_table": 1,
        "join_objects": 1,
        "plant_details": 1,
    }
    assert jobs["stage1"] == jobs["stage2"] == 1 and "download" not in jobs
