"""Place recognition: lists against pictures and positions, first rankings, predictions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa
import pytest
import torch
from scipy.io import savemat

from segswap.benchmarks import place_data, places
from segswap.benchmarks.metrics import first_ranks, positives_within, recall_at
from segswap.benchmarks.place_data import PlaceFiles, Places
from segswap.benchmarks.places import PlaceSettings
from segswap.benchmarks.places_matching import first_ranking, global_descriptors, predict
from segswap.errors import InputError
from segswap.images import encode_jpeg
from segswap.matching.features import FeatureStore, extract_features
from segswap.models.backbone import Backbone, BackboneSettings
from segswap.models.transformer import Transformer, TransformerSettings
from segswap.randomness import generator

CPU = torch.device("cpu")
N_PLACES, VIEWS, N_QUERIES = 4, 3, 5
FILES = PlaceFiles("queries.txt", "database.txt", positions="positions.npz")
SETTINGS = PlaceSettings(
    image_size=(80, 64),
    metres=25.0,
    candidates=4,
    views_per_place=1,
    suppression="none",
    pooling="gem",
    protocol="corrected",
)


def draw_view(place: int, view: int) -> np.ndarray:
    """A place is a coarse pattern; its views are shifted a little."""
    pattern = generator(place, "place").integers(0, 256, (6, 7, 3), np.uint8)
    return np.roll(cv2.resize(pattern, (100, 75)), 4 * view, axis=1)


@pytest.fixture
def folder(tmp_path):
    return write_places(tmp_path / "places")


def write_places(root: Path) -> Path:
    root.mkdir(parents=True)
    database = [f"place {n}/vüe & {v}.jpg" for n in range(N_PLACES) for v in range(VIEWS)]
    queries = [f"queries/{n}.jpg" for n in range(N_QUERIES)]
    for n, name in enumerate(database):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).write_bytes(encode_jpeg(draw_view(n // VIEWS, n % VIEWS)))
    (root / "queries").mkdir()
    for n, name in enumerate(queries):
        (root / name).write_bytes(encode_jpeg(draw_view(n % N_PLACES, 5)))
    (root / "database.txt").write_text("".join(f"./{name}\n" for name in database))
    (root / "queries.txt").write_text("\n".join(queries) + "\n\n")
    spots = np.array([[550_000.0 + 100 * n, 4_470_000.0] for n in range(N_PLACES)])
    # The last query is far from everything.
    utm_queries = np.concatenate([spots[[0, 1, 2, 3]] + [15.0, 20.0], [[0.0, 0.0]]])
    np.savez(root / "positions.npz", utmQ=utm_queries, utmDb=np.repeat(spots, VIEWS, axis=0), posDistThr=25)
    return root


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return place_data.load(write_places(tmp_path_factory.mktemp("read only") / "places"), FILES)


@pytest.fixture(scope="module")
def trunk():
    torch.manual_seed(1)
    return Backbone(BackboneSettings("resnet10", width=8)).freeze()


# Loading


def test_lists_positions_and_pictures_load_in_order(dataset):
    assert dataset.queries[:2] == ("queries/0.jpg", "queries/1.jpg")
    assert dataset.database[3] == "place 1/vüe & 0.jpg", "a leading ./ is dropped"
    assert dataset.query_positions.shape == (5, 2) and dataset.database_positions.shape == (12, 2)
    loaders = place_data.image_loaders(dataset.folder, dataset.database)
    assert len(loaders) == 12 and loaders[4]().shape == (75, 100, 3)


def test_lists_and_positions_may_be_numpy_files(folder):
    with np.load(folder / "positions.npz") as arrays:
        np.save(folder / "q.npy", arrays["utmQ"])
        np.save(folder / "d.npy", arrays["utmDb"])
    np.save(folder / "names.npy", np.array(["./queries/0.jpg", "queries/1.jpg"]))
    assert place_data.read_names(folder / "names.npy") == ("queries/0.jpg", "queries/1.jpg")
    separate = PlaceFiles("queries.txt", "database.txt", query_positions="q.npy", database_positions="d.npy")
    expected, found = place_data.load(folder, FILES), place_data.load(folder, separate)
    np.testing.assert_array_equal(found.query_positions, expected.query_positions)
    with pytest.raises(InputError, match="no positions given; set positions, query_positions and"):
        place_data.load(folder, PlaceFiles("queries.txt", "database.txt"))
    with pytest.raises(InputError, match=r"q\.npy: a single array, expected an \.npz with utmQ and utmDb"):
        place_data.load(folder, dataclasses.replace(FILES, positions="q.npy"))


def write_structure(folder: Path, path: Path, **changes) -> None:
    """Write lists and positions as the original ``dbStruct``: fields by their places."""
    expected = place_data.load(folder, FILES)
    fields = {
        "whichSet": "test",
        "dbImageFns": np.array(expected.database, object)[:, None],
        "utmDb": expected.database_positions.T,
        "qImageFns": np.array(expected.queries, object)[:, None],
        "utmQ": expected.query_positions.T,
        "numImages": float(len(expected.database)),
        "numQueries": float(len(expected.queries)),
        "posDistThr": 25.0,
        "posDistSqThr": 625.0,
    }
    savemat(path, {"dbStruct": {**fields, **changes}})


def test_lists_and_positions_may_be_the_original_matlab_structure(folder):
    write_structure(folder, folder / "test.mat")
    expected = place_data.load(folder, FILES)
    found = place_data.load(folder, PlaceFiles(None, None, structure="test.mat"))
    assert (found.queries, found.database) == (expected.queries, expected.database)
    np.testing.assert_array_equal(found.query_positions, expected.query_positions)
    np.testing.assert_array_equal(found.database_positions, expected.database_positions)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"x\.mat: no such file"),
        (b"", r"x\.mat: not readable as a dbStruct"),
        (b"text", r"x\.mat: not readable as a dbStruct"),
        ({"other": 1}, r"x\.mat: not readable as a dbStruct"),
        ({"numQueries": 7.0}, r"x\.mat: says 7 queries and 12 images, lists 5 and 12"),
        ({"qImageFns": np.array(["queries/0.jpg"] * 5, object)[:, None]}, r"x\.mat: names 'queries/0\.jpg' more than"),
    ],
)
def test_a_structure_that_does_not_fit_is_an_error_that_names_it(folder, content, message):
    path = folder / "x.mat"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content == {"other": 1}:
        savemat(path, content)
    elif content is not None:
        write_structure(folder, path, **content)
    with pytest.raises(InputError, match=message):
        place_data.load(folder, PlaceFiles(None, None, structure="x.mat"))


def test_what_is_not_read_need_not_be_there(folder):
    """The configuration has names for lists and positions, whatever a data set brings in their place."""
    write_structure(folder, folder / "test.mat")
    (folder / "truth.json").write_text(json.dumps({"0": [1]}))
    unread = {"positions": None, "query_positions": "absent.npy", "database_positions": "absent.npy"}
    structure = PlaceFiles("absent.txt", "absent.txt", structure="test.mat", **unread)
    listed = PlaceFiles("queries.txt", "database.txt", ground_truth="truth.json", **unread)
    for files in (structure, listed):
        place_data.require("tokyo247", folder, files)
        assert len(place_data.load(folder, files).queries) == 5
    with pytest.raises(InputError, match=r"absent\.npy"):
        place_data.require("tokyo247", folder, dataclasses.replace(listed, ground_truth=None))


def write_named_by_position(root: Path) -> PlaceFiles:
    """Write pictures whose names hold their positions, in folders, as VPR-datasets-downloader does."""
    for side, count, east in (("database", 6, 550_000.0), ("queries", 3, 550_010.0)):
        for n in range(count):
            name = f"@{east + 100 * n:010.2f}@4477203.79@17@T@@@pano{n}@@@@@@@.jpg"
            (root / side / f"part {n % 2}").mkdir(parents=True, exist_ok=True)
            (root / side / f"part {n % 2}" / name).write_bytes(encode_jpeg(draw_view(n, 0)))
    return PlaceFiles("queries", "database")


def test_folders_of_pictures_named_by_their_positions_need_no_lists(tmp_path):
    found = place_data.load(tmp_path, write_named_by_position(tmp_path))
    assert (len(found.queries), len(found.database)) == (3, 6)
    positives = positives_within(found.query_positions, found.database_positions, 25)
    assert [len(each) for each in positives] == [1, 1, 1]
    for query, (item,) in zip(found.queries, positives, strict=True):
        assert query.split("@")[7] == found.database[item].split("@")[7], "of one panorama"


def test_a_list_in_another_order_than_the_positions_is_noticed_where_names_hold_them(tmp_path):
    files = write_named_by_position(tmp_path)
    own = place_data.load(tmp_path, files)
    shuffled = [*own.database[1:], own.database[0]]
    (tmp_path / "database.txt").write_text("\n".join(shuffled))
    np.savez(tmp_path / "positions.npz", utmQ=own.query_positions, utmDb=own.database_positions)
    other = PlaceFiles("queries", "database.txt", positions="positions.npz")
    with pytest.raises(InputError, match=r"database image .* lists and positions are in different orders"):
        place_data.load(tmp_path, other)


def test_positives_may_be_listed_in_place_of_positions(folder):
    (folder / "truth.json").write_text(json.dumps({"0": [1, 0, 2], "1": [3], "3": [11]}))
    found = place_data.load(folder, PlaceFiles("queries.txt", "database.txt", ground_truth="truth.json"))
    assert [each.tolist() for each in found.positives(25)] == [[0, 1, 2], [3], [], [11], []]
    assert found.metres(0, 0) is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "expected {query number"),
        ('{"a": [1]}', "expected {query number"),
        ('{"7": [1]}', "entry 7 is beyond the 5 queries and 12 database images"),
        ('{"0": [12]}', "entry 0 is beyond"),
        ('{"0": [-1]}', "entry 0 is beyond the 5 queries"),
    ],
)
def test_a_ground_truth_that_does_not_fit_is_an_error(folder, content, message):
    (folder / "truth.json").write_text(content)
    with pytest.raises(InputError, match=message):
        place_data.load(folder, PlaceFiles("queries.txt", "database.txt", ground_truth="truth.json"))


def test_a_real_corridor_filmed_twice_loads_with_its_ground_truth(shared):
    found = place_data.load(shared / "data" / "corridor", PlaceFiles("query", "ref", ground_truth="ground_truth.json"))
    assert (len(found.queries), len(found.database)) == (111, 111)
    assert min(map(len, found.positives(25))) > 0
    assert found.queries[3] == "query/0000003.jpg"


def test_a_folder_without_pictures_is_an_error(tmp_path):
    files = write_named_by_position(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: holds no picture"):
        place_data.load(tmp_path, dataclasses.replace(files, queries="empty"))


def test_a_name_that_is_listed_twice_is_an_error(folder):
    with (folder / "database.txt").open("a") as file:
        file.write("place 1/vüe & 2.jpg\n")
    with pytest.raises(InputError, match=r"database\.txt: names 'place 1/vüe & 2\.jpg' more than once"):
        place_data.load(folder, FILES)


def test_counts_that_do_not_agree_are_an_error(folder):
    names = (folder / "queries.txt").read_text().splitlines()[:3]
    (folder / "queries.txt").write_text("\n".join(names))
    with pytest.raises(InputError, match=r"3 names of queries and positions of shape \(5, 2\), expected \(3, 2\)"):
        place_data.load(folder, FILES)


def test_listed_pictures_that_are_absent_are_an_error(folder):
    (folder / "place 2" / "vüe & 1.jpg").unlink()
    (folder / "place 3" / "vüe & 1.jpg").unlink()
    with pytest.raises(InputError, match=r"2 of 12 database images are missing \(first: 'place 2/vüe & 1\.jpg'\)"):
        place_data.load(folder, FILES)


@pytest.mark.parametrize(("file", "content"), [("queries.txt", None), ("queries.txt", b"\n"), ("positions.npz", b"no")])
def test_missing_empty_and_damaged_files_are_errors_that_name_them(folder, file, content):
    (folder / file).unlink() if content is None else (folder / file).write_bytes(content)
    with pytest.raises(InputError, match=file.replace(".", r"\.")):
        place_data.load(folder, FILES)


def test_positions_without_both_arrays_are_an_error(folder):
    np.savez(folder / "positions.npz", utmQ=np.zeros((5, 2)))
    with pytest.raises(InputError, match=r"holds \['utmQ'\], expected utmQ and utmDb"):
        place_data.load(folder, FILES)


def test_an_absent_data_set_says_how_to_get_it_and_what_goes_where(folder, tmp_path):
    place_data.require("tokyo247", folder, FILES)
    with pytest.raises(InputError) as caught:
        place_data.require("tokyo247", tmp_path / "nowhere", FILES)
    message = str(caught.value)
    assert "must be requested from its authors" in message and "benchmarks.run" in message
    for name in ("queries", "database", "positions"):
        assert f"benchmarks.tokyo247.files.{name}" in message


def test_the_real_lists_and_positions_parse_and_miss_their_pictures_only(shared, tmp_path):
    lists = shared / "data" / "place_lists"
    queries = place_data.read_names(lists / "pitts30k_imageNames_query.txt")
    database = place_data.read_names(lists / "pitts30k_imageNames_index.txt")
    assert (len(queries), len(database)) == (6816, 10000)
    assert len(place_data.read_names(lists / "tokyo247_imageNames_query.txt")) == 315
    files = PlaceFiles("pitts30k_imageNames_query.txt", "pitts30k_imageNames_index.txt", "pitts30k_test.npz")
    with pytest.raises(InputError, match="6816 of 6816 queries images are missing"):
        place_data.load(lists, files)
    other = dataclasses.replace(files, positions="tokyo247.npz")
    with pytest.raises(InputError, match=r"6816 names of queries and positions of shape \(315, 2\)"):
        place_data.load(lists, other)


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
    ],
)
def test_a_result_text_that_does_not_fit_is_an_error(dataset, trunk, tmp_path, text, message):
    (tmp_path / "result.txt").write_text(text)
    with pytest.raises(InputError, match=message):
        first_ranking(with_ranking(dataset, tmp_path / "result.txt"), SETTINGS, trunk, CPU)


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
