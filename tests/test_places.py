"""Place recognition: first rankings and predictions."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from drawn_places import FILES, N_QUERIES, write_places

from segswap.benchmarks import place_data, places
from segswap.benchmarks.place_data import Places
from segswap.benchmarks.places import PlaceSettings
from segswap.benchmarks.places_matching import first_ranking, global_descriptors, predict
from segswap.errors import InputError
from segswap.matching.features import FeatureStore, extract_features
from segswap.models.backbones.resnet import ResNet, ResNetSettings
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

CPU = torch.device("cpu")
SETTINGS = PlaceSettings(
    image_size=(80, 64),
    metres=25.0,
    candidates=4,
    views_per_place=1,
    suppression="none",
    pooling="gem",
    protocol="corrected",
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return place_data.load(write_places(tmp_path_factory.mktemp("read only") / "places"), FILES)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return ResNet(ResNetSettings("resnet10", width=8)).freeze()


# The first ranking


def with_ranking(dataset: Places, path: Path) -> Places:
    return dataclasses.replace(dataset, first_ranking=path)


def test_a_ranking_is_computed_from_global_descriptors_where_no_file_is_given(dataset, trunk):
    for pooling in ("gem", "mean"):
        settings = dataclasses.replace(SETTINGS, pooling=pooling)
        ranking, origin = first_ranking(dataset, settings, trunk, CPU)
        assert ranking.shape == (5, 4) and pooling in origin
        assert all(len(set(row)) == 4 for row in ranking.tolist())
        descriptors = global_descriptors(dataset, dataset.database, trunk, settings, CPU)
        assert descriptors.shape == (12, trunk.channels)
        np.testing.assert_allclose(np.linalg.norm(descriptors, axis=1), 1, rtol=1e-5)
        own = global_descriptors(dataset, dataset.queries, trunk, settings, CPU)
        np.testing.assert_array_equal(ranking, np.argsort(-own @ descriptors.T, axis=1, kind="stable")[:, :4])


def test_score_matrices_index_matrices_and_result_texts_say_the_same(dataset, trunk, tmp_path):
    scores = generator(1, "scores").permuted(np.tile(np.arange(12.0), (5, 1)), axis=1)
    expected = np.argsort(-scores, axis=1)[:, :4]
    np.save(tmp_path / "scores.npy", scores)
    np.save(tmp_path / "indices.npy", expected)
    lines = ["# kapture format: 1.0", ""]
    lines += [f"{dataset.queries[q]}, ./{dataset.database[n]}" for q, row in enumerate(expected) for n in row]
    (tmp_path / "result.txt").write_text("\n".join(lines))
    for name in ("scores.npy", "indices.npy", "result.txt"):
        ranking, origin = first_ranking(with_ranking(dataset, tmp_path / name), SETTINGS, trunk, CPU)
        np.testing.assert_array_equal(ranking, expected)
        assert name in origin


def test_equal_scores_rank_by_position(dataset, trunk, tmp_path):
    np.save(tmp_path / "scores.npy", np.zeros((5, 12)))
    ranking, _ = first_ranking(with_ranking(dataset, tmp_path / "scores.npy"), SETTINGS, trunk, CPU)
    assert ranking.tolist() == [[0, 1, 2, 3]] * 5


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.zeros((12, 5)), r"scores of shape \(12, 5\), the lists ask for \(5, 12\)"),
        (np.zeros((4, 3), int), "index matrix of shape"),
        (np.full((5, 3), 12), "with values 12 to 12; expected 5 rows of items 0 to 11"),
        (np.full((5, 3), -1), "with values -1 to -1"),
        (np.zeros((5, 0), int), "index matrix of shape"),
        (np.full((5, 3), "a"), "index matrix of shape .* and type <U1"),
        (np.full((5, 12), np.nan), "row 0 holds scores that are no numbers"),
        (np.tile([3, 4, 3], (5, 1)), r"query 0 \(from 0\) holds an item twice"),
    ],
)
def test_a_ranking_of_other_lists_is_an_error(dataset, trunk, tmp_path, values, message):
    np.save(tmp_path / "ranking.npy", values)
    with pytest.raises(InputError, match=message):
        first_ranking(with_ranking(dataset, tmp_path / "ranking.npy"), SETTINGS, trunk, CPU)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("queries/0.jpg place 0/vüe & 0.jpg", r"line 1: .*; expected 'query, image'"),
        ("# list\nqueries/0.jpg, place 9/view.jpg", "line 2: .* are not a query and a database image"),
        ("queries/0.jpg, place 0/vüe & 0.jpg", "0 to 1 candidates per query"),
        ("".join(f"queries/{q}.jpg, place 1/vüe & 0.jpg\n" * 2 for q in range(5)), "holds an item twice"),
    ],
)
def test_a_result_text_that_does_not_fit_is_an_error(dataset, trunk, tmp_path, text, message):
    (tmp_path / "result.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        first_ranking(with_ranking(dataset, tmp_path / "result.txt"), SETTINGS, trunk, CPU)


def test_names_of_a_result_text_may_be_those_of_their_side_and_hold_commas(dataset, tmp_path):
    """The text of others names pictures as the lists do: in their side's folder, with the lists' suffix."""
    names = tuple(f"real/{n}, at night.png" for n in range(5))
    own = dataclasses.replace(dataset, queries=names, query_folder="real")
    lines = [f"./{n}, at night.jpg, {dataset.database[n]}" for n in range(5)]
    (tmp_path / "result.txt").write_bytes(("\ufeff" + "\r\n".join(lines)).encode())
    ranking, _ = places.read_first_ranking(with_ranking(own, tmp_path / "result.txt"), SETTINGS)
    assert ranking.tolist() == [[n] for n in range(5)]


# Predictions


@pytest.fixture(scope="module")
def run(dataset, trunk, tmp_path_factory):
    """A run over the drawn places: ranking, candidates, stores, matcher and all predictions."""
    root = tmp_path_factory.mktemp("run")
    ranking, _ = first_ranking(dataset, SETTINGS, trunk, CPU)
    candidates = places.pick_candidates(ranking, SETTINGS)
    names = places.candidate_names(dataset, candidates)
    stores = []
    for kind, listed in (("queries", dataset.queries), ("database", names)):
        loaders = place_data.image_loaders(dataset.folder, listed)
        extract_features(listed, loaders, trunk, SETTINGS.image_size, root / f"{kind}.npy")
        stores.append(FeatureStore(root / f"{kind}.npy", trunk, listed))
    matcher = Transformer(TransformerSettings("tiny", trunk.channels, initialisation="matching")).eval()

    def predicted(rows: range) -> pa.Table:
        return predict(dataset, candidates, rows, *stores, matcher, SETTINGS, CPU)

    return ranking, candidates, predicted


def test_a_database_image_is_encoded_once_however_many_queries_want_it(dataset):
    names = places.candidate_names(dataset, [np.array([5, 2]), np.array([2, 0]), np.array([5, 0])])
    assert names == [dataset.database[n] for n in (0, 2, 5)]


def test_an_untrained_model_gives_every_candidate_a_score(dataset, run):
    ranking, candidates, predicted = run
    table = predicted(range(N_QUERIES))
    assert [(row["query"], row["item"]) for row in table.to_pylist()] == [
        (query, item) for query, row in enumerate(candidates) for item in row.tolist()
    ]
    assert all(0 <= score <= 20 for score in table["score"].to_pylist())
    numbers = places.summarise(dataset, places.query_results(dataset, ranking, candidates, table, SETTINGS))
    assert (numbers["queries"], numbers["queries_without_positive"], numbers["database"]) == (5, 1, 12)
    recalls = [numbers[f"recall@{n}"] for n in places.COUNTS]
    assert recalls == sorted(recalls) and recalls[0] >= 0 and recalls[-1] <= 0.8
    assert numbers["recall@5"] == numbers["first_recall@5"], "four candidates change places among themselves"


@pytest.mark.parametrize("chunks", [(range(2), range(2, 5)), (range(1), range(1, 1), range(1, 5))])
def test_chunks_of_queries_together_equal_one_run(run, chunks):
    _, _, predicted = run
    whole, parts = predicted(range(N_QUERIES)), pa.concat_tables([predicted(rows) for rows in chunks])
    assert parts.select(["query", "item"]).equals(whole.select(["query", "item"]))
    np.testing.assert_allclose(parts["score"], whole["score"], atol=1e-5)


def test_predictions_that_lack_a_candidate_are_an_error(run):
    ranking, candidates, predicted = run
    with pytest.raises(InputError, match="16 predictions, 20 candidates; run the chunks again"):
        places.reranked(ranking, candidates, predicted(range(N_QUERIES - 1)))
