"""Place recognition: candidates, re-ranking and suppression, on numbers alone."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.benchmarks import places
from segswap.benchmarks.metrics import first_ranks, positives_within, recall_at
from segswap.benchmarks.place_data import Places
from segswap.benchmarks.places import PlaceSettings
from segswap.randomness import generator

SETTINGS = PlaceSettings(
    image_size=(80, 64),
    metres=25.0,
    candidates=4,
    views_per_place=1,
    suppression="none",
    pooling="gem",
    protocol="corrected",
)
TOKYO = dataclasses.replace(SETTINGS, views_per_place=12, suppression="after", candidates=100)
RANKING = np.array([[0, 1, 3, 4, 6, 2, 7, 5, 8, 9]])


@pytest.mark.parametrize(
    ("suppression", "expected"),
    [
        ("none", [0, 1, 3]),
        ("after", [0, 1, 3]),
        ("before", [0, 3, 6]),
        ("candidates", [0, 3, 6]),
    ],
)
def test_each_order_of_suppression_picks_its_candidates(suppression, expected):
    settings = dataclasses.replace(SETTINGS, candidates=3, views_per_place=3, suppression=suppression)
    assert places.pick_candidates(RANKING, settings)[0].tolist() == expected


@given(st.permutations(range(12)), st.integers(1, 4))
def test_suppression_before_and_among_candidates_pick_the_same(ranking, count):
    # A place has no more views than are looked at for each candidate.
    settings = dataclasses.replace(SETTINGS, candidates=count, views_per_place=3)
    picked = [
        places.pick_candidates(np.array([ranking]), dataclasses.replace(settings, suppression=order))[0].tolist()
        for order in ("before", "candidates")
    ]
    assert picked[0] == picked[1]
    assert len({item // 3 for item in picked[0]}) == len(picked[0]) == count


def test_rankings_and_candidates_come_back_from_their_file(tmp_path):
    ranking = np.array([[3, 1, 2], [0, 2, 1]], np.int32)
    candidates = [np.array([3, 1]), np.array([0])]
    places.write_ranking(tmp_path / "ranking.npz", ranking, candidates, "made up")
    found, back, origin = places.read_ranking(tmp_path / "ranking.npz")
    np.testing.assert_array_equal(found, ranking)
    assert [row.tolist() for row in back] == [[3, 1], [0]]
    assert origin == "made up"


def score_table(candidates, scores) -> pa.Table:
    items = [
        (query, int(item), float(s))
        for query, row in enumerate(candidates)
        for item, s in zip(row, scores[query], strict=True)
    ]
    return pa.table(
        {name: list(column) for name, column in zip(("query", "item", "score"), zip(*items, strict=True), strict=True)}
    )


def recalls(dataset: Places, *prediction) -> dict[str, float]:
    return places.summarise(dataset, places.query_results(dataset, *prediction))


def test_the_released_re_ranking_and_its_recalls_are_ours(shared):
    golden = shared / "golden"
    facts = json.loads((golden / "e_rank.json").read_text())["tokyo"]
    with np.load(golden / "e_tokyo.npz") as first, np.load(golden / "e_tokyo_rerank.npz") as second:
        arrays = {**first, **second}
    ranking = arrays["rank"]
    dataset = Places(golden, ("",) * 17, ("",) * 360, arrays["qry_utm"], arrays["db_utm"], None)
    candidates = places.pick_candidates(ranking, TOKYO)
    table = score_table(candidates, arrays["new_score"])
    np.testing.assert_array_equal(np.stack(places.reranked(ranking, candidates, table)), arrays["reranked"])
    plain = recalls(dataset, ranking, candidates, table, dataclasses.replace(TOKYO, suppression="none"))
    assert [plain[f"first_recall@{n}"] for n in (1, 5, 10, 100)] == pytest.approx(facts["recall_1_5_10_100"])
    assert [plain[f"recall@{n}"] for n in (1, 5, 10, 100)] == pytest.approx(facts["recall_reranked"])
    after = recalls(dataset, ranking, candidates, table, TOKYO)
    expected = facts["recall_after_nms_1_5_10_100"]
    assert [after[f"first_recall@{n}"] for n in (1, 5, 10, 100)] == pytest.approx(expected)


def test_re_ranking_moves_candidates_only_and_keeps_ties_in_place():
    candidates = [np.array([0, 1, 3])]
    (found,) = places.reranked(RANKING, candidates, score_table(candidates, [[0.5, 0.9, 0.5]]))
    assert found.tolist() == [1, 0, 3, 4, 6, 2, 7, 5, 8, 9]


def test_every_query_s_ranks_are_those_that_the_recalls_count():
    rng = generator(4, "ranks")
    names = tuple(f"{n}.jpg" for n in range(20))
    spots = rng.uniform(0, 200, (20, 2))
    asked = np.concatenate([rng.uniform(0, 200, (9, 2)), [[9e5, 0]]])
    data = Places(Path("nowhere"), tuple(f"q{n}.jpg" for n in range(10)), names, asked, spots, None)
    ranking = np.stack([rng.permutation(20) for _ in range(10)]).astype(np.int32)
    candidates = [row[:6] for row in ranking]
    rows = [{"query": q, "item": int(item), "score": float(rng.random())} for q in range(10) for item in candidates[q]]
    table = pa.Table.from_pylist(rows)
    settings = PlaceSettings((160, 128), 25.0, 6, 1, "none", "gem", "corrected")
    results = places.query_results(data, ranking, candidates, table, settings)
    numbers = places.summarise(data, results)
    for name, prefix in (("rank", "recall"), ("first_rank", "first_recall")):
        ranks = np.array([np.inf if rank is None else rank for rank in results[name].to_pylist()])
        for n in places.COUNTS:
            assert numbers[f"{prefix}@{n}"] == pytest.approx((ranks <= n).mean())
    assert results["positives"].to_pylist()[-1] == 0 and results["rank"].to_pylist()[-1] is None
    near = [rank == 1 for rank in results["rank"].to_pylist()]
    assert [metres <= 25 for metres in results["metres"].to_pylist()] == near


@pytest.mark.parametrize(
    ("name", "database", "n_positives"), [("pitts30k_test", 10000, 968448), ("tokyo247", 75984, 37260)]
)
def test_a_perfect_ranking_of_the_real_positions_finds_every_query(shared, name, database, n_positives):
    with np.load(shared / "data" / "place_lists" / f"{name}.npz", allow_pickle=False) as file:
        queries, items = file["utmQ"], file["utmDb"]
        assert file["posDistThr"] == SETTINGS.metres
    assert len(items) == database
    positives = positives_within(queries, items, SETTINGS.metres)
    assert sum(map(len, positives)) == n_positives and min(map(len, positives)) > 0
    best = [found[:1] for found in positives]
    assert set(recall_at(first_ranks(best, positives), places.COUNTS).values()) == {1.0}
    # A random ranking finds a positive among the first N as often as drawing without replacement does.
    rng = generator(1, "random ranking")
    order = [rng.choice(len(items), 100, replace=False) for _ in queries]
    found = recall_at(first_ranks(order, positives), places.COUNTS)
    for n, recall in found.items():
        missed = [np.prod(1 - len(own) / (len(items) - np.arange(n))) for own in positives]
        assert recall == pytest.approx(1 - np.mean(missed), abs=4 * (0.25 / len(queries)) ** 0.5)


def test_suppression_after_re_ranking_keeps_the_view_that_won():
    settings = dataclasses.replace(SETTINGS, views_per_place=3, suppression="after")
    assert places.suppressed([np.array([4, 0, 3, 1, 8, 6])], settings)[0].tolist() == [4, 0, 8]
    none = dataclasses.replace(settings, suppression="none")
    assert places.suppressed([np.array([4, 0, 3])], none)[0].tolist() == [4, 0, 3]


@pytest.mark.parametrize("suppression", places.SUPPRESSIONS)
def test_perfect_scores_have_full_recall(suppression):
    spots = np.array([[550_000.0 + 100 * n, 4_470_000.0] for n in range(4)])
    # Each query stands at exactly 25 m from its place, the last one far from everything.
    queries = np.concatenate([spots + [15.0, 20.0], [[0.0, 0.0]]])
    dataset = Places(Path(), ("",) * 5, ("",) * 12, queries, np.repeat(spots, 3, axis=0), None)
    settings = dataclasses.replace(SETTINGS, views_per_place=3, suppression=suppression, candidates=12)
    ranking = np.tile(np.arange(11, -1, -1), (5, 1))
    candidates = places.pick_candidates(ranking, settings)
    positives = positives_within(dataset.query_positions, dataset.database_positions, settings.metres)
    assert [len(found) for found in positives] == [3] * 4 + [0]
    scores = [np.isin(row, positives[query]) for query, row in enumerate(candidates)]
    numbers = recalls(dataset, ranking, candidates, score_table(candidates, scores), settings)
    assert numbers["recall@1"] == 0.8, "all but the query that has no positive"
    assert numbers["first_recall@1"] == 0.2
