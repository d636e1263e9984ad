"""Place recognition: lists against pictures and positions, in all their forms."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from drawn_places import FILES, draw_view, write_places
from scipy.io import savemat

from segswap.benchmarks import place_data
from segswap.benchmarks.metrics import positives_within
from segswap.benchmarks.place_data import PlaceFiles
from segswap.errors import InputError
from segswap.images import encode_jpeg


@pytest.fixture
def folder(tmp_path):
    return write_places(tmp_path / "places")


def test_lists_positions_and_pictures_load_in_order(folder):
    dataset = place_data.load(folder, FILES)
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
