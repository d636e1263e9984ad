"""The measures of the benchmarks against the released numbers and against the slowest way to compute them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.benchmarks.metrics import (
    average_precision,
    box_iou,
    detection_average_precision,
    first_of_each,
    first_ranks,
    jaccard,
    mean_over_categories,
    pixel_precision,
    positives_within,
    recall_at,
)


@pytest.fixture(scope="module")
def ranking_facts(shared):
    return json.loads((shared / "golden" / "e_rank.json").read_text())


@pytest.fixture(scope="module")
def tokyo(shared):
    with np.load(shared / "golden" / "e_tokyo.npz", allow_pickle=False) as file:
        return dict(file)


# Against measurements of the released code


def test_average_precisions_equal_the_measured_ones(ranking_facts):
    for case in ranking_facts["ap"]:
        assert average_precision(case["true_pos_rank"], case["n_gt"]) == pytest.approx(case["AP"], abs=1e-12)


def test_mean_over_categories_equals_the_measured_one(ranking_facts):
    members = ranking_facts["map"]["categories_to_case_index"]
    values = {name: [ranking_facts["ap"][n]["AP"] for n in cases] for name, cases in members.items()}
    assert mean_over_categories(values) == pytest.approx(ranking_facts["map"]["mAP"], abs=1e-12)


def test_recalls_with_and_without_suppression_equal_the_measured_ones(ranking_facts, tokyo):
    positives = positives_within(tokyo["qry_utm"], tokyo["db_utm"], 25)
    places = np.arange(len(tokyo["db_utm"])) // 12
    suppressed = [first_of_each(row, places) for row in tokyo["rank"]]
    np.testing.assert_array_equal(np.stack(suppressed), tokyo["rank_nms"])
    for rankings, key in ((tokyo["rank"], "recall_1_5_10_100"), (suppressed, "recall_after_nms_1_5_10_100")):
        found = recall_at(first_ranks(rankings, positives), (1, 5, 10, 100))
        assert list(found.values()) == pytest.approx(ranking_facts["tokyo"][key])


def test_positives_at_exactly_the_bound_count(shared, ranking_facts):
    with np.load(shared / "golden" / "e_pitts.npz", allow_pickle=False) as file:
        queries, database, rank = (file[name] for name in ("qry_utm", "db_utm", "rank"))
    positives = positives_within(queries, database, 25)
    distance = np.hypot(*(queries[:, None] - database[None]).transpose(2, 0, 1))
    assert (distance == 25).any(), "the case holds one"
    for row, found in zip(distance, positives, strict=True):
        assert found.tolist() == np.flatnonzero(row <= 25).tolist()
    recalls = recall_at(first_ranks(rank, positives), (1, 5, 10, 100))
    assert list(recalls.values()) == pytest.approx(ranking_facts["pitts"]["recall_1_5_10_100"])


# Against brute force


@given(st.lists(st.booleans(), max_size=30), st.integers(0, 5))
def test_average_precision_is_the_mean_precision_at_the_hits(relevant, missed):
    n_truth = max(1, sum(relevant) + missed)
    expected = sum(sum(relevant[: k + 1]) / (k + 1) for k, hit in enumerate(relevant) if hit) / n_truth
    assert average_precision(relevant, n_truth) == pytest.approx(expected)
    assert 0 <= average_precision(relevant, n_truth) <= 1


BOX = st.tuples(*[st.integers(0, 12)] * 2, *[st.integers(1, 8)] * 2).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)


@given(BOX, BOX)
def test_box_iou_counts_pixels(a, b):
    grids = []
    for x1, y1, x2, y2 in (a, b):
        grid = np.zeros((20, 20), bool)
        grid[y1:y2, x1:x2] = True
        grids.append(grid)
    assert box_iou(a, b) == pytest.approx((grids[0] & grids[1]).sum() / (grids[0] | grids[1]).sum())
    assert box_iou(a, b) == box_iou(b, a)


def test_each_truth_is_detected_once():
    box, other = (0, 0, 10, 10), (50, 0, 60, 10)
    truths = [("a", box), ("a", other)]
    assert detection_average_precision([("a", box), ("a", other)], truths, 0.3) == 1
    assert detection_average_precision([("a", box), ("a", box)], truths, 0.3) == 0.5, "the second finds nothing new"
    assert detection_average_precision([("b", box), ("a", other)], truths, 0.3) == 0.25, "another image"
    assert detection_average_precision([], truths, 0.3) == 0


def test_overlap_at_exactly_the_threshold_is_no_hit():
    half = (0, 0, 5, 10)
    assert detection_average_precision([("a", half)], [("a", (0, 0, 10, 10))], 0.5) == 0
    assert detection_average_precision([("a", half)], [("a", (0, 0, 10, 10))], 0.49) == 1


def test_a_detection_takes_the_truth_it_overlaps_most():
    near, far = (0, 0, 10, 10), (4, 0, 14, 10)
    found = [("a", (1, 0, 11, 10)), ("a", (5, 0, 15, 10))]
    assert detection_average_precision(found, [("a", far), ("a", near)], 0.3) == 1


def test_only_the_first_detections_count():
    predictions = [("b", (0, 0, 1, 1))] * 3 + [("a", (0, 0, 10, 10))]
    truths = [("a", (0, 0, 10, 10))]
    assert detection_average_precision(predictions, truths, 0.3, most=4) == 0.25
    assert detection_average_precision(predictions, truths, 0.3, most=3) == 0


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 30))
def test_recall_and_positives_equal_a_full_comparison(seed, n_queries, n_database):
    rng = np.random.default_rng(seed)
    queries, database = rng.integers(0, 60, (n_queries, 2)) * 1.0, rng.integers(0, 60, (n_database, 2)) * 1.0
    positives = positives_within(queries, database, 25)
    distances = np.linalg.norm(queries[:, None] - database[None], axis=2)
    assert [found.tolist() for found in positives] == [np.flatnonzero(row <= 25).tolist() for row in distances]
    rankings = [rng.permutation(n_database) for _ in range(n_queries)]
    for count, value in recall_at(first_ranks(rankings, positives), (1, 3, 10)).items():
        found = [bool(set(row[:count]) & set(truth)) for row, truth in zip(rankings, positives, strict=True)]
        assert value == pytest.approx(np.mean(found))


def test_positives_at_large_coordinates_keep_the_bound():
    # UTM northings are millions of metres: the 25 m must not drown in rounding.
    query = np.array([[548_321.25, 4_477_014.5]])
    database = query + np.array([[25.0, 0.0], [0.0, -25.0], [25.001, 0.0], [15.0, 20.0]])
    assert positives_within(query, database, 25)[0].tolist() == [0, 1, 3]


def test_a_query_without_positives_counts_as_missed():
    ranks = first_ranks([np.array([0, 1]), np.array([1, 0])], [np.array([0]), np.array([], int)])
    assert ranks == [1, None]
    assert recall_at(ranks, (1, 5)) == {1: 0.5, 5: 0.5}


@given(st.permutations(range(12)), st.integers(1, 5))
def test_first_of_each_keeps_the_best_item_of_every_group_in_order(ranking, size):
    ranking, groups = np.array(ranking), np.arange(12) // size
    seen, expected = set(), []
    for item in ranking.tolist():
        if groups[item] not in seen:
            seen.add(groups[item])
            expected.append(item)
    assert first_of_each(ranking, groups).tolist() == expected


def test_mask_measures_count_pixels():
    found = np.array([[1, 1, 0], [0, 0, 0]], bool)
    truth = np.array([[1, 0, 1], [0, 0, 0]], bool)
    assert pixel_precision(found, truth) == pytest.approx(4 / 6)
    assert jaccard(found, truth) == pytest.approx(1 / 3)
    assert jaccard(truth, truth) == 1
    empty = np.zeros((2, 3), bool)
    assert jaccard(empty, empty) == 0
    assert pixel_precision(empty, empty) == 1
