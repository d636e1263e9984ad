"""Altered details: queries say what they show and depend on the seed alone; SIFT and the numbers are judged by hand."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
from search_folders import make_model

from segswap import sharing
from segswap.benchmarks import altered, sift
from segswap.benchmarks.altered import KINDS, AlteredSettings, load, make_queries, query_results, rank, summarise
from segswap.benchmarks.altered_matching import predict
from segswap.benchmarks.pictures import draw_altered
from segswap.config import SCHEMA as CONFIG_SCHEMA
from segswap.config import complete_config, read_schema
from segswap.drawing import GREEN
from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.images import encode_jpeg, read_image
from segswap.randomness import generator
from segswap.report.tables import summary_csv, summary_html, summary_markdown, summary_rows
from segswap.search.index import open_index

SETTINGS = AlteredSettings(details=4, share=(0.4, 0.6))


def drawn(seed: int, size: tuple[int, int] = (200, 160)) -> np.ndarray:
    """Return a picture that keypoints and windows can tell from others: random shapes, RGB uint8."""
    rng = generator(seed, "altered test")
    picture = np.full((size[1], size[0], 3), rng.integers(90, 160, 3), np.uint8)
    for _ in range(120):
        place = tuple(int(v) for v in rng.integers(0, size))
        colour = tuple(int(v) for v in rng.integers(0, 256, 3))
        if rng.random() < 0.5:
            cv2.circle(picture, place, int(rng.integers(3, 14)), colour, -1)
        else:
            cv2.rectangle(picture, place, tuple(int(v) for v in np.add(place, rng.integers(4, 24, 2))), colour, -1)
    return cv2.GaussianBlur(picture, (0, 0), 0.7)


def write_pictures(folder: Path, seeds: range, size: tuple[int, int] = (200, 160)) -> Path:
    folder.mkdir()
    for seed in seeds:
        (folder / f"{seed}.jpg").write_bytes(encode_jpeg(drawn(seed, size)))
    return folder


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures, two photos, and the queries made of them."""
    folder = tmp_path_factory.mktemp("altered")
    write_pictures(folder / "pictures", range(6))
    write_pictures(folder / "photos", range(10, 12), (260, 200))
    make(folder, "queries")
    return folder


def make(world: Path, name: str, settings: AlteredSettings = SETTINGS, seed: int = 3) -> Path:
    make_queries(world / "pictures", [world / "photos"], world / name, settings, seed)
    return world / name


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*.*")}


# Queries


def test_every_detail_is_a_query_of_each_kind_and_its_boxes_lie_inside(world):
    queries = load(world / "queries/queries.json")
    assert sorted((query.detail, query.kind) for query in queries) == [(n, kind) for n in range(4) for kind in KINDS]
    for query in queries:
        height, width = read_image(world / "pictures" / query.picture).shape[:2]
        x1, y1, x2, y2 = query.box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        side = np.sqrt((x2 - x1) * (y2 - y1)) / min(height, width)
        assert 0.39 < side < 0.61
        shown = read_image(query.file)
        assert (query.query_box is None) == (not query.kind.endswith("_photo"))
        if query.query_box:
            x1, y1, x2, y2 = query.query_box
            assert 0 <= x1 < x2 <= shown.shape[1] and 0 <= y1 < y2 <= shown.shape[0]
            assert shown.shape == (200, 260, 3)


def test_each_picture_is_cut_once_before_one_is_again(world):
    queries = load(make(world, "many", dataclasses.replace(SETTINGS, details=8)) / "queries.json")
    pictures = [query.picture for query in queries if query.kind == "altered"]
    assert len(set(pictures[:6])) == 6 and pictures[6:] == pictures[:2]
    boxes = {(query.picture, query.box) for query in queries}
    assert len(boxes) == 8, "another detail the second time"


def test_the_seed_alone_decides_and_more_details_leave_the_first_ones_as_they_are(world):
    assert contents(make(world, "again")) == contents(world / "queries")
    other = contents(make(world, "other", seed=4))
    assert other != contents(world / "queries")
    few = make(world, "few", dataclasses.replace(SETTINGS, details=2))
    images = contents(world / "queries/images")
    assert contents(few / "images").items() <= images.items()
    entries = read_json(few / "queries.json")
    assert entries == read_json(world / "queries/queries.json")[: len(entries)]


def test_the_same_change_is_shown_alone_and_in_the_photo_and_kinds_differ(world):
    by_kind = {query.kind: query for query in load(world / "queries/queries.json") if query.detail == 0}
    shown = {kind: read_image(query.file).astype(float) for kind, query in by_kind.items()}
    altered_one = cv2.resize(shown["altered"], shown["repainted"].shape[1::-1])
    assert np.abs(altered_one - shown["repainted"]).mean() > 5
    for change in ("altered", "repainted"):
        x1, y1, x2, y2 = by_kind[f"{change}_photo"].query_box
        pasted, alone = shown[f"{change}_photo"][y1:y2, x1:x2], shown[change]
        assert pasted.shape == alone.shape, "the photo has room for it"
        middle = np.s_[len(alone) // 4 : -len(alone) // 4, alone.shape[1] // 4 : -alone.shape[1] // 4]
        # Both were encoded with the same quality, on other grids of blocks.
        assert np.abs(pasted - alone)[middle].mean() < 9


def test_a_detail_that_is_neither_scaled_nor_turned_is_what_lies_in_the_box():
    picture = drawn(0)
    box = (30, 20, 95, 81)
    np.testing.assert_array_equal(altered.cut(picture, box, 1.0, 0.0), picture[20:81, 30:95])
    half = altered.cut(picture, box, 0.5, 0.0)
    assert half.shape == (30, 32, 3)
    # Turned by a quarter counter-clockwise, the right side comes to the top.
    square = (30, 20, 90, 80)
    np.testing.assert_array_equal(altered.cut(picture, square, 1.0, 90.0), np.rot90(picture[20:80, 30:90]))


def test_a_pasted_detail_changes_its_box_alone_and_is_made_smaller_for_a_small_photo():
    photo, detail = drawn(10, (260, 200)), drawn(0, (80, 60))
    pasted, (x1, y1, x2, y2) = altered.paste(detail, photo, generator(1, "paste"))
    assert (x2 - x1, y2 - y1) == (80, 60)
    np.testing.assert_array_equal(pasted[y1 + 12 : y2 - 12, x1 + 12 : x2 - 12], detail[12:-12, 12:-12])
    pasted[y1:y2, x1:x2] = photo[y1:y2, x1:x2]
    np.testing.assert_array_equal(pasted, photo)
    small, (x1, y1, x2, y2) = altered.paste(detail, drawn(11, (100, 50)), generator(1, "paste"))
    assert small.shape == (50, 100, 3) and (x2 - x1, y2 - y1) == (60, 45)


def test_details_are_drawn_where_there_is_something_to_see():
    picture = np.full((200, 400, 3), 120, np.uint8)
    picture[:, :200] = drawn(0, (200, 200))
    boxes = [altered.draw_box(picture, (0.3, 0.4), generator(seed, "box")) for seed in range(10)]
    assert all(x2 <= 260 for _, _, x2, _ in boxes)


# What is wrong with folders


@pytest.mark.parametrize("count", [0, 1])
def test_fewer_than_two_pictures_are_an_error(world, tmp_path, count):
    pictures = write_pictures(tmp_path / "few", range(count))
    with pytest.raises(InputError, match="holds no picture" if count == 0 else r"of 1 pictures 1 have a shorter side"):
        make_queries(pictures, [world / "photos"], tmp_path / "out", SETTINGS, 1)
    assert not (tmp_path / "out").exists()


def test_folders_that_are_not_there_are_named(world, tmp_path):
    for pictures, photos in ((tmp_path / "nowhere", world / "photos"), (world / "pictures", tmp_path / "nowhere")):
        with pytest.raises(InputError, match="nowhere: no such folder"):
            make_queries(pictures, [photos], tmp_path / "out", SETTINGS, 1)


def test_small_and_damaged_pictures_have_no_details_and_none_left_is_an_error(world, tmp_path, capsys):
    pictures = tmp_path / "pictures"
    shutil.copytree(world / "pictures", pictures)
    (pictures / "0.jpg").write_bytes(encode_jpeg(drawn(0, (119, 300))))
    (pictures / "1.jpg").write_bytes(b"no picture")
    make_queries(pictures, [world / "photos"], tmp_path / "out", SETTINGS, 1)
    assert "left out" in capsys.readouterr().out
    assert {query.picture for query in load(tmp_path / "out/queries.json")} == {"2.jpg", "3.jpg", "4.jpg", "5.jpg"}
    with pytest.raises(InputError, match=r"benchmarks\.altered\.pictures, or raise benchmarks\.altered\.share"):
        make_queries(pictures, [world / "photos"], tmp_path / "none", AlteredSettings(2, (0.1, 0.2)), 1)


def test_photos_that_are_too_small_or_damaged_are_left_out_and_none_left_is_an_error(world, tmp_path):
    photos = write_pictures(tmp_path / "photos", range(10, 12), (95, 200))
    (photos / "damaged.jpg").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"none of 3 photos.*benchmarks\.altered\.hosts"):
        make_queries(world / "pictures", [photos], tmp_path / "out", SETTINGS, 1)
    make_queries(world / "pictures", [photos, world / "photos"], tmp_path / "out", SETTINGS, 1)
    shown = [query for query in load(tmp_path / "out/queries.json") if query.query_box]
    assert all(read_image(query.file).shape == (200, 260, 3) for query in shown)


def test_a_file_of_something_else_is_no_queries(tmp_path):
    write_json(tmp_path / "queries.json", [{"file": "a.jpg"}])
    with pytest.raises(InputError, match="not the queries of altered details"):
        load(tmp_path / "queries.json")


# Numbers


def test_pictures_that_score_as_high_come_before_the_right_one():
    assert rank({"a": 3.0, "b": 2.0, "c": 1.0}, "b") == 2
    assert rank({"a": 3.0, "b": 3.0, "c": 1.0}, "a") == 2
    assert rank({"a": 0.0, "b": 0.0, "c": 0.0}, "a") == 3, "nothing found is not a find"
    assert rank({"a": 3.0}, "b") is None


def by_hand(rows: list[tuple]) -> pa.Table:
    names = ("query", "picture", "similarity", "score", "box")
    return pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows], schema=altered.SCHEMA)


QUERIES = tuple(
    altered.AlteredQuery(Path("x.jpg"), None, kind, 0, picture, (0, 0, 10, 10))
    for kind, picture in (("altered", "a"), ("altered", "b"), ("repainted", "a"))
)
PREDICTIONS = [
    # The matcher turns the order of pictures round, and of places in the right one.
    (0, "a", 0.3, 0.3, [50, 50, 60, 60]),
    (0, "a", 0.2, 0.9, [0, 0, 10, 5]),
    (0, "b", 0.5, 0.5, [0, 0, 10, 10]),
    (1, "a", 0.9, 1.4, [0, 0, 10, 10]),
    (1, "b", 0.8, 0.8, [0, 0, 10, 10]),
    # The right picture is absent.
    (2, "b", 0.1, 0.1, [0, 0, 10, 10]),
]


def test_ranks_and_boxes_of_a_table_made_by_hand():
    first, second, third = query_results(QUERIES, by_hand(PREDICTIONS))
    assert (first["rank"], first["windows_rank"], first["box_iou"]) == (1, 2, 0.5)
    assert (first["first"], first["first_box"]) == ("a", [0, 0, 10, 5])
    assert (second["rank"], second["windows_rank"], second["box_iou"], second["first"]) == (2, 2, 1.0, "a")
    assert (third["rank"], third["windows_rank"], third["box_iou"], third["first"]) == (None, None, 0.0, "b")


def test_numbers_are_those_of_each_kind_and_of_all():
    numbers = summarise(query_results(QUERIES, by_hand(PREDICTIONS)))
    assert numbers["recall@1_altered"] == 0.5 and numbers["recall@5_altered"] == 1
    assert numbers["windows_recall@1_altered"] == 0 and numbers["windows_mrr_altered"] == 0.5
    assert numbers["mrr_altered"] == 0.75 and numbers["box_iou_altered"] == 0.75
    assert numbers["recall@5_repainted"] == numbers["mrr_repainted"] == 0
    assert numbers["recall@1"] == pytest.approx(1 / 3) and numbers["mrr"] == 0.5 and numbers["queries"] == 3
    assert not [key for key in numbers if "photo" in key], "kinds without queries have no numbers"


def test_predictions_of_other_queries_or_of_too_few_are_an_error():
    with pytest.raises(InputError, match="no predictions of query 1 "):
        query_results(QUERIES, by_hand(PREDICTIONS[:3]))
    with pytest.raises(InputError, match="predictions of query 2, of 2"):
        query_results(QUERIES[:2], by_hand(PREDICTIONS))


# Methods


def test_sift_finds_what_was_altered_with_its_box_and_says_the_same_again(world):
    queries = load(world / "queries/queries.json")
    table = sift.predict(queries, world / "pictures")
    assert table.equals(sift.predict(queries, world / "pictures"))
    numbers = summarise(query_results(queries, table))
    assert numbers["recall@1_altered"] == numbers["recall@1_altered_photo"] == 1
    assert numbers["box_iou_altered"] > 0.6
    assert not [key for key in numbers if key.startswith("windows")], "no matcher looks after SIFT"


def test_a_query_without_keypoints_finds_nothing():
    flat = sift.Keypoints.of(np.full((60, 60, 3), 100, np.uint8))
    assert sift.locate(flat, (60, 60), sift.Keypoints.of(drawn(0))) == (0, None)
    assert sift.locate(sift.Keypoints.of(drawn(0)), (200, 160), flat) == (0, None)


def test_matches_are_those_of_the_ratio_test():
    query, picture = sift.Keypoints.of(drawn(0)), sift.Keypoints.of(drawn(0)[:120, :150])
    pairs = cv2.BFMatcher(cv2.NORM_L2).knnMatch(query.descriptors, picture.descriptors, k=2)
    expected = [(a.queryIdx, a.trainIdx) for a, b in pairs if a.distance < sift.RATIO * b.distance]
    assert len(expected) > 20 and sift.matches(query, picture).tolist() == [list(pair) for pair in expected]


def test_a_search_ranks_all_pictures_and_finds_what_lies_unchanged_in_one(world, tmp_path):
    """Untrained features know a detail that is only cut out."""
    whole = read_image(world / "pictures/2.jpg")
    (tmp_path / "cut.png").write_bytes(cv2.imencode(".png", whole[40:120, 60:140, ::-1])[1].tobytes())
    queries = (altered.AlteredQuery(tmp_path / "cut.png", None, "altered", 0, "2.jpg", (60, 40, 140, 120)),)
    model = make_model()
    index = open_index(world / "pictures", model, tmp_path / "index")
    for matched in (0, 2):
        table = predict(queries, index, model, matched)
        assert set(table["picture"].to_pylist()) == {f"{n}.jpg" for n in range(6)}
        (result,) = query_results(queries, table)
        assert result["windows_rank"] == 1 and result["box_iou"] > 0.5
        gained = [row["score"] > row["similarity"] for row in table.to_pylist()]
        assert sum(gained) == matched


def test_the_picture_marks_the_right_one(world, tmp_path):
    queries = load(world / "queries/queries.json")
    right = by_hand([(n, query.picture, 1.0, 1.0, query.box) for n, query in enumerate(queries)])
    wrong = by_hand([(n, "5.jpg" if q.picture == "4.jpg" else "4.jpg", 1.0, 1.0, None) for n, q in enumerate(queries)])
    sheets = []
    for table in (right, wrong):
        draw_altered(queries, world / "pictures", {"SegSwap": table}, tmp_path / "sheet.png", count=2)
        sheets.append(int((read_image(tmp_path / "sheet.png") == GREEN).all(-1).sum()))
    assert sheets[0] > 4000 and sheets[1] < 100


# Configuration and tables


KEYS = read_schema(CONFIG_SCHEMA)


def configured(**altered_section: object) -> dict:
    benchmarks = {"run": ["altered"], "altered": {"pictures": "pictures", **altered_section}}
    return complete_config({"benchmarks": benchmarks}, KEYS)


def test_a_configuration_without_pictures_names_the_key():
    with pytest.raises(InputError, match=r"benchmarks\.altered\.pictures: must name a folder of pictures"):
        configured(pictures=None)
    with pytest.raises(InputError, match=r"benchmarks\.altered\.share: .* lower bound above"):
        configured(share=[0.5, 0.3])
    plain = complete_config({}, KEYS)
    assert "altered" not in plain["benchmarks"], "plans of configurations without it are as they were"
    with pytest.raises(InputError, match=r"benchmarks\.altered\.pictures: is not set"):
        sharing.results(plain, "trained", "altered")


def test_what_runs_share_of_it_is_decided_by_what_it_is_made_from():
    plain = configured()
    assert sharing.altered(plain).settings["hosts"] == sharing.photo_folders(plain, "heldout")
    assert sharing.altered(configured(matched=3)) == sharing.altered(plain)
    for changes in ({"details": 3}, {"share": [0.1, 0.2]}, {"hosts": "photos"}, {"pictures": "others"}):
        other = configured(**changes)
        assert sharing.altered(other).name != sharing.altered(plain).name
        assert sharing.sift(other).name != sharing.sift(plain).name
        same = "pictures" not in changes
        assert (sharing.altered_index(other) == sharing.altered_index(plain)) == same
    searched = [sharing.results(config, "baseline", "altered") for config in (plain, configured(matched=3))]
    assert searched[0] != searched[1]
    parts = sharing.all_parts(plain)
    assert sharing.altered(plain) in parts and sharing.altered_index(plain) in parts and sharing.sift(plain) in parts
    links = sharing.links(plain)
    for link, part in (
        ("altered_details", sharing.altered(plain)),
        ("altered_sift", sharing.sift(plain)),
        ("features/altered", sharing.altered_index(plain)),
    ):
        assert links[link] == part.folder, "a folder that no link leads to counts as unused"


def test_sift_has_a_column_where_the_benchmark_has_it_and_nowhere_else():
    numbers = {"recall@1": 0.9, "untrained_recall@1": 0.5, "baseline_recall@1": 0.6, "sift_recall@1": 0.95}
    by_kind = {"recall@1_repainted": 0.8, "sift_recall@1_repainted": 0.0}
    metrics = {"altered": numbers | by_kind, "pairs": {"mask_iou": 0.4}}
    rows = summary_rows(metrics, None)
    lines = summary_csv(rows).splitlines()
    assert lines[0] == "benchmark,measure,segswap,untrained,cosine,sift,published,difference"
    assert "altered,recall@1,0.9,0.5,0.6,0.95,," in lines and "pairs,mask_iou,0.4,,,,," in lines
    markdown = summary_markdown(metrics, "SegSwap")
    assert "SIFT" in markdown and "three and SIFT" in markdown and "repainted: recall@1" in markdown
    assert "SIFT" in summary_html(metrics, "SegSwap")
    alone = {"pairs": metrics["pairs"]}
    assert summary_csv(summary_rows(alone, None)).startswith("benchmark,measure,segswap,untrained,cosine,published")
    assert "SIFT" not in summary_html(alone, "SegSwap") + summary_markdown(alone, "SegSwap")


# Real paintings


def test_sift_finds_altered_details_of_real_paintings(shared, tmp_path):
    (tmp_path / "pictures").mkdir()
    for path in sorted((shared / "data/paintings").glob("*.jpg"))[:3]:
        shutil.copy(path, tmp_path / "pictures")
    photos = shared / "data/coco_mini/val2017"
    make_queries(tmp_path / "pictures", [photos], tmp_path / "queries", AlteredSettings(3, (0.2, 0.35)), 1)
    queries = load(tmp_path / "queries/queries.json")
    numbers = summarise(query_results(queries, sift.predict(queries, tmp_path / "pictures")))
    assert numbers["recall@1_altered"] == numbers["recall@1_altered_photo"] == 1
