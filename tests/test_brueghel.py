"""Brueghel: labels against pictures, the cutting of queries, and that known predictions have known numbers."""

from __future__ import annotations

import json
import math
from collections import Counter

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch

from segswap.benchmarks.brueghel import (
    BrueghelSettings,
    by_category,
    image_loaders,
    load,
    query_loaders,
    query_names,
    query_results,
    rankings,
    read_query,
    retrieval_results,
    summarise,
    validation_queries,
)
from segswap.benchmarks.brueghel_matching import predict, score_retrieval
from segswap.benchmarks.metrics import mean_over_categories
from segswap.benchmarks.validation import BrueghelFiles, and_on_brueghel
from segswap.errors import InputError
from segswap.images import encode_jpeg, read_image
from segswap.matching.crops import query_cells, query_crop
from segswap.matching.features import FeatureStore, extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.segswap import SegSwap
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator
from segswap.training.loop import Validation

PUBLISHED = BrueghelSettings(640, 64, (80, 74, 68, 60, 49, 36, 20), (0.3,), "published")
CORRECTED = BrueghelSettings(640, 64, (80, 74, 68, 60, 49, 36, 20), (0.3,), "corrected")
SMALL = BrueghelSettings(96, 32, (8, 6), (0.3, 0.5), "corrected")
CPU = torch.device("cpu")

# Image, place of the detail in it: two details, each in three of six pictures.
STAR = {"1.jpg": (20, 30), "2.jpg": (60, 50), "4.jpg": (10, 60)}
RING = {"1.jpg": (70, 10), "3.jpg": (30, 30), "it's & so on.b.jpg": (50, 60)}
SIDE = 28


def box_at(place) -> list[int]:
    return [place[0], place[1], place[0] + SIDE, place[1] + SIDE]


def labels_of(places: dict) -> list[dict]:
    return [
        {"query": [image, box_at(place)], "gt": [[o, box_at(p)] for o, p in places.items() if o != image]}
        for image, place in places.items()
    ]


LABELS = {"star": labels_of(STAR), "ring": labels_of(RING)}


def draw_picture(seed: int) -> np.ndarray:
    rng = generator(seed, "picture")
    return cv2.resize(rng.integers(60, 160, (5, 6, 3), np.uint8), (120, 100))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("brueghel")
    (root / "images").mkdir()
    names = sorted({*STAR, *RING, "5.jpg"})
    for seed, name in enumerate(names):
        picture = draw_picture(seed)
        if name in STAR:
            x, y = (v + SIDE // 2 for v in STAR[name])
            cv2.drawMarker(picture, (x, y), (250, 240, 30), cv2.MARKER_STAR, SIDE - 4, 4)
        if name in RING:
            x, y = (v + SIDE // 2 for v in RING[name])
            cv2.circle(picture, (x, y), SIDE // 2 - 3, (10, 30, 200), 4)
        (root / "images" / name).write_bytes(encode_jpeg(picture))
    (root / "labels.json").write_text(json.dumps(LABELS))
    return root


@pytest.fixture(scope="module")
def dataset(folder):
    return load(folder / "images", folder / "labels.json")


def metrics(dataset, table, settings) -> dict[str, float]:
    """Return the numbers of predictions, as the workflow does."""
    return summarise(query_results(dataset, table, settings), settings)


def load_with(folder, tmp_path, labels):
    (tmp_path / "labels.json").write_text(json.dumps(labels))
    return load(folder / "images", tmp_path / "labels.json")


# Loading


def test_labels_and_pictures_load_in_order(dataset):
    assert dataset.images == ("1.jpg", "2.jpg", "3.jpg", "4.jpg", "5.jpg", "it's & so on.b.jpg")
    assert [query.category for query in dataset.queries] == ["star"] * 3 + ["ring"] * 3
    assert dataset.queries[0].truths == (("2.jpg", (60, 50, 88, 78)), ("4.jpg", (10, 60, 38, 88)))
    assert len(set(query_names(dataset))) == 6


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "not Brueghel labels"),
        ({"a": [{"image": "1.jpg"}]}, r"not Brueghel labels \('query'\)"),
        ({"a": [{"query": ["1.jpg", [0, 0, 10]], "gt": []}]}, "not Brueghel labels"),
        ({"a": [{"query": ["1.jpg", [10, 0, 10, 5]], "gt": []}]}, "has no area"),
        ({"a": [{"query": ["1.jpg", [0, 0, 9, 9]], "gt": [["2.jpg", [5, 9, 6, 8]]]}]}, "has no area"),
        ({}, "no query"),
        ({"a": [{"query": ["1.jpg", [0, 0, 9, 9]], "gt": []}]}, r"query 1\.jpg .* has no truth"),
        (
            {"a": [{"query": ["1.jpg", [0, 0, 9, 9]], "gt": [["8.jpg", [0, 0, 9, 9]]]}]},
            r"names 1 of 2 images that are not in .* \(first: '8\.jpg'\); get the missing pictures",
        ),
        (
            {"a": [{"query": ["1.png", [0, 0, 9, 9]], "gt": [["2.png", [0, 0, 9, 9]]]}]},
            "names 2 of 2 images .* different editions: ArtMiner's has .jpg names and full frames",
        ),
    ],
)
def test_labels_that_do_not_fit_are_an_error_that_says_why(folder, tmp_path, labels, message):
    with pytest.raises(InputError, match=message):
        load_with(folder, tmp_path, labels)


@pytest.mark.parametrize(("name", "queries", "boxes"), [("brueghelTest", 273, 9292), ("brueghelVal", 20, 526)])
def test_the_real_labels_parse_and_miss_their_pictures_only(shared, folder, tmp_path, name, queries, boxes):
    labels = shared / "data" / "brueghel_labels" / f"{name}.json"
    content = json.loads(labels.read_text())
    assert len(content) == 10
    with pytest.raises(InputError, match=r"names 146 of 146 images that are not in .* get the missing pictures"):
        load(folder / "images", labels)
    # With a file of each name the same labels load.
    named = {q["query"][0] for entries in content.values() for q in entries}
    named |= {image for entries in content.values() for q in entries for image, _ in q["gt"]}
    for image in named:
        (tmp_path / image).touch()
    found = load(tmp_path, labels)
    assert len(found.images) == 146
    assert len(found.queries) == queries
    if name == "brueghelTest":
        # The published validation is a part of the test: two queries of each category.
        chosen = validation_queries(found, labels.parent / "brueghelVal.json")
        assert Counter(found.queries[n].category for n in chosen) == dict.fromkeys(content, 2)
        assert len(validation_queries(found, None)) == 20
    assert sum(len(query.truths) for query in found.queries) == boxes
    (tmp_path / "png").mkdir()
    (tmp_path / "png" / "1.png").touch()
    with pytest.raises(InputError, match="different editions"):
        load(tmp_path / "png", labels)


# Queries


def test_query_crops_equal_the_measured_ones(shared):
    facts = json.loads((shared / "golden" / "d_query.json").read_text())
    assert len(facts["cases"]) == 30
    for case in facts["cases"]:
        plan = query_crop(tuple(case["image_wh"]), case["bbox"], PUBLISHED)
        assert list(plan.resized) == case["resized_wh"]
        x1, y1, x2, y2 = plan.crop
        assert [x2 - x1, y2 - y1] == case["crop_wh"]
        assert list(plan.box) == case["new_bbox"]
        assert [v + o for v, o in zip(plan.box, (x1, y1, x1, y1), strict=True)] == case["resized_bbox"]
        cells = query_cells(plan.box, 40)
        assert list(cells) == case["mask_box_feat"]
        assert (cells[2] - cells[0]) * (cells[3] - cells[1]) == case["mask_sum"]


def test_cells_of_boxes_equal_the_measured_ones(shared):
    for case in json.loads((shared / "golden" / "d_query.json").read_text())["get_qry_bb"]:
        cells = query_cells(case["bbox"], case["nb_feat"])
        assert list(cells) == case["box"]
        assert (cells[2] - cells[0]) * (cells[3] - cells[1]) == case["sum"]


def test_corrected_crops_are_exactly_square_and_inside_where_the_published_lack_a_pixel(shared):
    cases = json.loads((shared / "golden" / "d_query.json").read_text())["cases"]
    short = 0
    for case in cases:
        plan, published = (query_crop(tuple(case["image_wh"]), case["bbox"], s) for s in (CORRECTED, PUBLISHED))
        x1, y1, x2, y2 = plan.crop
        assert (x2 - x1, y2 - y1) == (640, 640)
        assert x1 >= 0 and y1 >= 0 and x2 <= plan.resized[0] and y2 <= plan.resized[1]
        assert all(0 <= low < high <= 640 for low, high in zip(plan.box[:2], plan.box[2:], strict=True))
        assert plan.resized == published.resized
        short += published.crop[2] - published.crop[0] < 640 or published.crop[3] - published.crop[1] < 640
    assert short > 5


def test_a_small_box_gets_the_asked_size_in_the_middle_of_its_crop():
    plan = query_crop((2000, 1500), (900, 700, 1000, 750), CORRECTED)
    assert plan.resized == (1280, 960)
    x1, y1, x2, y2 = plan.box
    assert (x2 - x1, y2 - y1) == (64, 32)
    assert abs((x1 + x2) / 2 - 320) <= 1 and abs((y1 + y2) / 2 - 320) <= 1


def test_a_query_s_picture_has_the_detail_in_its_box(dataset):
    for query, loader in zip(dataset.queries, query_loaders(dataset, SMALL), strict=True):
        image = read_image(dataset.folder / query.image)
        crop = read_query(dataset, query, SMALL)
        assert crop.shape == (96, 96, 3)
        np.testing.assert_array_equal(loader(), crop)
        x1, y1, x2, y2 = query_crop((120, 100), query.box, SMALL).box
        expected = cv2.resize(
            image[int(query.box[1]) : int(query.box[3]), int(query.box[0]) : int(query.box[2])], (x2 - x1, y2 - y1)
        )
        difference = np.abs(crop[y1:y2, x1:x2].astype(int) - expected)
        assert np.median(difference) < 12, "the same content, up to a pixel of shift"


@pytest.mark.parametrize("box", [[110, 10, 138, 38], [-19, 10, 9, 38], [10, 90, 38, 118], [200, 200, 230, 230]])
def test_a_box_beyond_its_image_is_an_error_that_names_both(folder, tmp_path, box):
    labels = {"star": [{"query": ["1.jpg", box], "gt": [["2.jpg", [0, 0, 9, 9]]]}]}
    dataset = load_with(folder, tmp_path, labels)
    with pytest.raises(InputError, match=r"1\.jpg: 120 x 100 pixels, but the box .* of a query of 'star'"):
        read_query(dataset, dataset.queries[0], SMALL)


def test_a_box_a_little_beyond_its_image_is_cut_at_the_border(folder, tmp_path):
    crops = []
    for box in ([92, 70, 125, 104], [92, 70, 120, 100]):
        dataset = load_with(folder, tmp_path, {"star": [{"query": ["1.jpg", box], "gt": [["2.jpg", [0, 0, 9, 9]]]}]})
        crops.append(read_query(dataset, dataset.queries[0], SMALL))
    np.testing.assert_array_equal(*crops)


# Predictions


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return ResNet(ResNetSettings("resnet10", width=8)).freeze()


@pytest.fixture(scope="module")
def matcher(trunk):
    return Transformer(TransformerSettings("tiny", trunk.channels, initialisation="matching")).eval()


@pytest.fixture(scope="module")
def store_folder(dataset, trunk, tmp_path_factory):
    root = tmp_path_factory.mktemp("stores")
    size = (SMALL.image_size, SMALL.image_size)
    extract_features(query_names(dataset), query_loaders(dataset, SMALL), trunk, size, root / "queries.npy")
    extract_features(dataset.images, image_loaders(dataset), trunk, size, root / "images.npy")
    return root


@pytest.fixture(scope="module")
def stores(store_folder, dataset, trunk):
    queries, images = store_folder / "queries.npy", store_folder / "images.npy"
    return FeatureStore(queries, trunk), FeatureStore(images, trunk, dataset.images)


@pytest.fixture(scope="module")
def table(dataset, stores, trunk, matcher):
    return predict(dataset, *stores, trunk, matcher, SMALL, CPU)


def test_every_query_meets_every_image_but_its_own(dataset, table):
    met = {(row["query"], row["image"]) for row in table.to_pylist()}
    assert len(table) == len(met) == 6 * 5
    assert not any(dataset.queries[query].image == image for query, image in met)


def test_predicted_scores_cosines_and_boxes_are_sane(table):
    for row in table.to_pylist():
        assert 0 <= row["score"] < 36
        assert -1 <= row["cosine"] <= 1 + 1e-5
        for name in ("direct_box", "cosine_box"):
            x1, y1, x2, y2 = row[name]
            assert 0 <= x1 <= x2 <= 120 and 0 <= y1 <= y2 <= 100
        x1, y1, x2, y2 = row["cosine_box"]
        assert x1 < x2 and y1 < y2


def test_numbers_of_an_untrained_model_are_sane(dataset, table):
    numbers = metrics(dataset, table, SMALL)
    assert numbers.pop("queries") == 6
    assert {"map", "map_star", "map_ring", "detection_map", "detection_map_cosine"} <= numbers.keys()
    assert {"detection_map@0.3", "detection_map@0.5", "detection_map_cosine@0.5"} <= numbers.keys()
    assert all(0 <= value <= 1 for value in numbers.values())
    assert numbers["map"] == pytest.approx((numbers["map_star"] + numbers["map_ring"]) / 2)
    assert numbers["detection_map"] == numbers["detection_map@0.3"] >= numbers["detection_map@0.5"]


@pytest.mark.parametrize("parts", [(range(2), range(2, 6)), (range(1), range(1, 1), range(1, 5), range(5, 6))])
def test_parts_of_the_database_together_equal_one_run(dataset, stores, trunk, matcher, table, parts):
    found = [predict(dataset, *stores, trunk, matcher, SMALL, CPU, part=part) for part in parts]
    assert pa.concat_tables(found).equals(table)


def test_some_queries_are_scored_alone_as_among_all(dataset, stores, matcher, table):
    chosen = [4, 0]
    part, found = score_retrieval(dataset, chosen, *stores, matcher, SMALL, CPU, batch=2)
    assert part.queries == (dataset.queries[4], dataset.queries[0])
    expected = {(row["query"], row["image"]): row["score"] for row in table.to_pylist()}
    assert len(found) == 2 * 5
    for row in found.to_pylist():
        assert row["score"] == pytest.approx(expected[chosen[row["query"]], row["image"]], abs=1e-4)
    assert set(by_category(retrieval_results(part, found))) == {"ring", "star"}


def test_validation_queries_are_named_or_the_first_two_of_each_category(dataset, folder, tmp_path):
    assert validation_queries(dataset, None) == [0, 1, 3, 4]
    (tmp_path / "some.json").write_text(json.dumps({"ring": LABELS["ring"][1:2], "star": LABELS["star"][2:]}))
    assert validation_queries(dataset, tmp_path / "some.json") == [4, 2]
    strange = {"star": [{**LABELS["star"][0], "query": ["5.jpg", [0, 0, 9, 9]]}]}
    (tmp_path / "strange.json").write_text(json.dumps(strange))
    with pytest.raises(InputError, match=r"strange\.json: query 5\.jpg .* is none of the benchmark's"):
        validation_queries(dataset, tmp_path / "strange.json")


def test_models_can_be_selected_by_retrieval(dataset, folder, store_folder, stores, trunk, matcher):
    files = BrueghelFiles(
        images=str(folder / "images"),
        labels=str(folder / "labels.json"),
        validation=None,
        database=str(store_folder / "images.npy"),
        queries=str(store_folder / "queries.npy"),
    )
    numbers = {"roc_auc": 0.5}
    validate = and_on_brueghel(lambda model: Validation(numbers), files, SMALL, CPU)
    found = validate(SegSwap(trunk, matcher)).numbers
    assert found["roc_auc"] == 0.5 and 0 < found["brueghel_map"] < 1
    part, table = score_retrieval(dataset, [0, 1, 3, 4], *stores, matcher, SMALL, CPU)
    expected = mean_over_categories(by_category(retrieval_results(part, table)))
    assert found["brueghel_map"] == pytest.approx(expected)


def test_the_batch_does_not_change_the_predictions(dataset, stores, trunk, matcher, table):
    found = predict(dataset, *stores, trunk, matcher, SMALL, CPU, batch=2)
    for a, b in zip(found.to_pylist(), table.to_pylist(), strict=True):
        assert (a["query"], a["image"]) == (b["query"], b["image"])
        assert a["score"] == pytest.approx(b["score"], abs=1e-4)
        assert a["direct_box"] == pytest.approx(b["direct_box"], abs=0.05)


def perfect(dataset, table: pa.Table, score=lambda hit: float(hit)) -> pa.Table:
    """Replace the predictions of a table by the truths."""
    rows = table.to_pylist()
    for row in rows:
        truths = dict(dataset.queries[row["query"]].truths)
        box = list(truths.get(row["image"], (0.0, 0.0, 1.0, 1.0)))
        row.update(score=score(row["image"] in truths), direct_box=box, cosine_box=box)
    return pa.Table.from_pylist(rows, schema=table.schema)


def test_perfect_predictions_have_full_marks(dataset, table):
    numbers = metrics(dataset, perfect(dataset, table), SMALL)
    assert numbers.pop("queries") == 6
    assert set(numbers.values()) == {1.0}


def test_every_query_has_its_results_and_they_add_up(dataset, table):
    results = query_results(dataset, table, SMALL)
    assert [result["query"] for result in results] == list(range(6))
    numbers = metrics(dataset, table, SMALL)
    for category in ("star", "ring"):
        own = [result["average_precision"] for result in results if result["category"] == category]
        assert numbers[f"map_{category}"] == pytest.approx(np.mean(own))
    for maker, name in (("direct", "detection_map"), ("cosine", "detection_map_cosine")):
        for threshold in SMALL.thresholds:
            values = [
                np.mean([r[f"{maker}@{threshold:g}"] for r in results if r["category"] == category])
                for category in ("star", "ring")
            ]
            assert numbers[f"{name}@{threshold:g}"] == pytest.approx(np.mean(values))


def test_the_worst_ranking_has_the_least_precision(dataset, table):
    numbers = metrics(dataset, perfect(dataset, table, lambda hit: -float(hit)), SMALL)
    assert numbers["map"] == pytest.approx((1 / 4 + 2 / 5) / 2), "two truths on the ranks 4 and 5 of 5"
    assert numbers["detection_map"] == numbers["map"]


def test_wrong_boxes_cost_the_detection_and_not_the_retrieval(dataset, table):
    rows = perfect(dataset, table).to_pylist()
    for row in rows:
        row["cosine_box"] = [90.0, 90.0, 99.0, 99.0]
    numbers = metrics(dataset, pa.Table.from_pylist(rows, schema=table.schema), SMALL)
    assert (numbers["map"], numbers["detection_map"], numbers["detection_map_cosine"]) == (1, 1, 0)


def test_rankings_are_by_score_and_ties_by_name(dataset, table):
    rows = [{**row, "score": 1.0 if row["image"] == "5.jpg" else 0.5} for row in table.to_pylist()]
    for query, ranked in zip(dataset.queries, rankings(dataset, pa.Table.from_pylist(rows)), strict=True):
        names = [row["image"] for row in ranked]
        assert names == ["5.jpg", *sorted(set(dataset.images) - {"5.jpg", query.image})]


def test_a_query_s_own_image_is_no_truth(folder, tmp_path, table):
    own = {"query": ["1.jpg", box_at(STAR["1.jpg"])], "gt": [["1.jpg", box_at(STAR["1.jpg"])]]}
    with_own = load_with(folder, tmp_path, {**LABELS, "other": [own]})
    numbers = metrics(with_own, perfect(with_own, table), SMALL)
    assert numbers["queries"] == 6, "a query without another truth is left out"
    assert numbers["map"] == 1 and not math.isnan(numbers["detection_map"])
