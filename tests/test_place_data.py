"""Place recognition: lists against pictures and positions, in all their forms."""

from __future__ import annotations

import dataclasses
import json
import os
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from drawn_places import FILES, draw_view, write_places
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from segswap.benchmarks import place_data
from segswap.benchmarks.metrics import positives_within
from segswap.benchmarks.place_data import PlaceFiles
from segswap.errors import InputError
from segswap.images import encode_jpeg, read_image
from segswap.lists import read_names


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
    assert read_names(folder / "names.npy") == ("queries/0.jpg", "queries/1.jpg")
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
    queries = read_names(lists / "pitts30k_imageNames_query.txt")
    database = read_names(lists / "pitts30k_imageNames_index.txt")
    assert (len(queries), len(database)) == (6816, 10000)
    assert len(read_names(lists / "tokyo247_imageNames_query.txt")) == 315
    files = PlaceFiles("pitts30k_imageNames_query.txt", "pitts30k_imageNames_index.txt", "pitts30k_test.npz")
    with pytest.raises(InputError, match="6816 of 6816 queries images are missing"):
        place_data.load(lists, files)
    other = dataclasses.replace(files, positions="tokyo247.npz")
    with pytest.raises(InputError, match=r"6816 names of queries and positions of shape \(315, 2\)"):
        place_data.load(lists, other)


# The original layouts: each side in a folder of its own, other suffixes, positions beside


def draw(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode_jpeg(draw_view(seed, 0)))


def write_original(root: Path, queries: str, database: str, suffix: str = ".jpg") -> PlaceFiles:
    """Write a set as Pitts30k's authors do: names of queries that database pictures have, too; each shows another."""
    names = [f"{n // 4:03d}/{n:06d}_pitch1_yaw1.jpg" for n in range(8)]
    for n, name in enumerate(names):
        draw((root / database / name).with_suffix(suffix), n)
    for n in (2, 5):
        draw(root / queries / names[n], (n + 3) % 8)
    fields = {
        "whichSet": "test",
        "dbImageFns": np.array([[name] for name in names], object),
        "utmDb": np.array([[584_000.0 + 1000 * n, 4_476_000.0] for n in range(8)]).T,
        "qImageFns": np.array([[names[2]], [names[5]]], object),
        "utmQ": np.array([[589_003.0, 4_476_000.0], [584_003.0, 4_476_000.0]]).T,
        "numImages": 8.0,
        "numQueries": 2.0,
        "posDistThr": 25.0,
    }
    savemat(root / "test.mat", {"dbStruct": fields})
    return PlaceFiles(None, None, structure="test.mat")


@pytest.mark.parametrize(
    ("queries", "database"),
    [("queries_real", ""), ("queries", "images"), ("query", "images"), ("247query_v3", ""), ("247query_subset_v2", "")],
)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".JPG"])
def test_the_layouts_in_which_authors_give_out_their_data_load_as_they_are(tmp_path, queries, database, suffix):
    files = write_original(tmp_path, queries, database, suffix)
    (tmp_path / "247query_v3").mkdir(exist_ok=True)
    found = place_data.load(tmp_path, files)
    assert [each.tolist() for each in found.positives(25)] == [[5], [0]]
    for query, (item,) in zip(found.queries, found.positives(25), strict=True):
        shown, expected = (read_image(found.folder / name) for name in (query, found.database[item]))
        np.testing.assert_array_equal(shown, expected)
    assert f"queries images are in {queries}" in found.notes
    said = "8 of 8 database images have another suffix or spelling on the disk than in the list; they are taken"
    assert any(note.startswith(said) for note in found.notes) == (suffix != ".jpg")


def test_a_folder_that_is_named_for_a_side_is_looked_into_alone(tmp_path):
    files = dataclasses.replace(write_original(tmp_path, "mine/today", "theirs"), query_folder="mine/today")
    with pytest.raises(InputError, match=r"8 of 8 database images are missing .* in files\.database_folder"):
        place_data.load(tmp_path, files)
    found = place_data.load(tmp_path, dataclasses.replace(files, database_folder="theirs"))
    assert found.queries[0] == "mine/today/000/000002_pitch1_yaw1.jpg"
    assert found.database[0] == "theirs/000/000000_pitch1_yaw1.jpg"


def test_folders_may_be_named_for_lists_too(folder):
    (folder / "elsewhere").mkdir()
    (folder / "queries").rename(folder / "elsewhere" / "queries")
    found = place_data.load(folder, dataclasses.replace(FILES, query_folder="elsewhere"))
    assert found.queries[0] == "elsewhere/queries/0.jpg" and found.database[0] == "place 0/vüe & 0.jpg"


@pytest.mark.parametrize("how", ["absent", "link", "folder link", "hard link"])
def test_one_file_as_query_and_database_image_is_an_error(tmp_path, how):
    files = write_original(tmp_path, "queries_real", "")
    queries = tmp_path / "queries_real"
    first = "000/000002_pitch1_yaw1.jpg"
    if how in ("absent", "folder link"):
        queries.rename(tmp_path / "aside")
        if how == "folder link":
            queries.symlink_to(".")
    else:
        (queries / first).unlink()
        (os.symlink if how == "link" else os.link)(tmp_path / first, queries / first)
    with pytest.raises(InputError, match=r"pictures are query and database image at once .* set files\.query_folder"):
        place_data.load(tmp_path, files)


def test_a_folder_of_queries_that_is_incomplete_is_not_filled_up_from_the_database(tmp_path):
    files = write_original(tmp_path, "queries_real", "")
    (tmp_path / "queries_real" / "001" / "000005_pitch1_yaw1.jpg").unlink()
    with pytest.raises(InputError, match=r"queries_real: 1 of 2 queries images are missing|at once"):
        place_data.load(tmp_path, files)


def test_two_names_of_one_picture_are_an_error(folder):
    (folder / "queries.txt").write_text("queries/0.jpg\nqueries/0.png\nqueries/2.jpg\nqueries/3.jpg\nqueries/4.jpg\n")
    with pytest.raises(InputError, match=r"names 'queries/0\.jpg' more than once"):
        place_data.load(folder, FILES)


def test_lists_of_other_systems_name_the_same_pictures(folder):
    expected = place_data.load(folder, FILES)
    names = unicodedata.normalize("NFD", "\r\n".join(expected.database).replace("/", "\\"))
    (folder / "database.txt").write_bytes(f"\ufeff{names} \r\n".encode())
    found = place_data.load(folder, FILES)
    assert found.database == expected.database
    assert any("12 of 12 database images have another suffix or spelling" in note for note in found.notes)


def test_a_missing_picture_is_named_with_what_cannot_be_seen(folder):
    (folder / "queries.txt").write_text("queries/0\u200b.jpg\n" + "".join(f"queries/{n}.jpg\n" for n in range(1, 5)))
    with pytest.raises(InputError, match=r"\(in ASCII 'queries/0\\u200b\.jpg'\)"):
        place_data.load(folder, FILES)


def test_the_original_structure_may_have_other_fields_between(tmp_path):
    """Fields are known by their names; a file that has none of them has them in order."""
    files = write_original(tmp_path, "queries_real", "")
    fields = loadmat(tmp_path / "test.mat", squeeze_me=False)["dbStruct"][0, 0]
    ordered = {name: fields[name] for name in fields.dtype.names}
    more = {"whichSet": "test", "dbImageFns": ordered["dbImageFns"], "dbTimeStamp": np.zeros((1, 8)), **ordered}
    unnamed = {f"f{n}": value for n, value in enumerate(ordered.values())}
    expected = place_data.load(tmp_path, files)
    for content in (more, unnamed):
        savemat(tmp_path / "test.mat", {"dbStruct": content})
        assert place_data.load(tmp_path, files).queries == expected.queries


# Degrees and zones


def write_positioned(root: Path, queries: list[str], database: list[str]) -> PlaceFiles:
    for side, names in (("queries", queries), ("database", database)):
        for n, name in enumerate(names):
            draw(root / side / name, n)
    return PlaceFiles("queries", "database")


def test_names_in_degrees_are_refused_or_projected_when_asked(tmp_path):
    spots = [f"@{48.85 + 0.01 * n:.6f}@{2.35 + 0.02 * n:.6f}@" for n in range(4)]
    files = write_positioned(tmp_path, [f"{spot}q.jpg" for spot in spots[:2]], [f"{spot}d.jpg" for spot in spots])
    with pytest.raises(InputError, match=r"6 of 6 positions look like degrees"):
        place_data.load(tmp_path, files)
    found = place_data.load(tmp_path, dataclasses.replace(files, coordinates="latitude_longitude"))
    assert [each.tolist() for each in found.positives(25)] == [[0], [1]]
    assert found.metres(0, 1) == pytest.approx(1846, abs=5) and any("projected" in note for note in found.notes)


def test_arrays_in_degrees_are_refused_or_projected_when_asked(folder):
    with np.load(folder / "positions.npz") as arrays:
        sides = arrays["utmQ"], arrays["utmDb"]
    degrees = [(side - [550_000, 4_470_000]) / 111_000 + [48.8501, 2.3501] for side in sides]
    np.savez(folder / "positions.npz", utmQ=degrees[0], utmDb=degrees[1])
    files = dataclasses.replace(FILES, coordinates="latitude_longitude")
    with pytest.raises(InputError, match=r"positions look like degrees"):
        place_data.load(folder, FILES)
    assert list(map(len, place_data.load(folder, files).positives(25))) == [3, 3, 3, 3, 0]


def test_queries_and_database_of_two_zones_are_in_one_frame(tmp_path):
    """Both zones have a picture at their border, 6 degrees east."""
    queries = ["@0720271.34@5411000.00@31@U@@@q@.jpg"]
    database = ["@0279728.66@5411000.00@32@U@@@d@.jpg", "@0720271.34@5411000.00@32@U@@@e@.jpg"]
    files = write_positioned(tmp_path, queries, database)
    near, far = (place_data.load(tmp_path, files).metres(0, n) for n in (0, 1))
    assert near < 200 and far > 400_000


def test_a_picture_without_a_position_is_named(tmp_path):
    files = write_positioned(tmp_path, ["@550000@4470000@.jpg"], ["@550000@4470001@.jpg", "plain.jpg"])
    with pytest.raises(InputError, match=r"1 of 3 names do not \(first: 'database/plain\.jpg'\)"):
        place_data.load(tmp_path, files)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_a_position_that_is_no_number_is_an_error(folder, value):
    with np.load(folder / "positions.npz") as arrays:
        utm_queries, utm_database = arrays["utmQ"], arrays["utmDb"]
    utm_database[3, 1] = value
    np.savez(folder / "positions.npz", utmQ=utm_queries, utmDb=utm_database)
    with pytest.raises(InputError, match=r"database image 'place 1/vüe & 0\.jpg' is at .*expected a position"):
        place_data.load(folder, FILES)


# Foreign bytes


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"0": [1.5]}', "expected {query number"),
        ('{"0": [true]}', "expected {query number"),
        ('{"0": 3}', "expected {query number"),
        ('{"1_0": [3]}', "expected {query number"),
        ('{"٣": [3]}', "expected {query number"),
        ('{"0": [99999999999999999999999]}', "entry 0 is beyond"),
        ('{"0": [' + "9" * 5000 + "]}", "not readable as JSON"),
        ("[" * 100_000, "not readable as JSON"),
        ('{"0": [NaN]}', "expected {query number"),
    ],
)
def test_a_strange_ground_truth_is_an_error(folder, content, message):
    (folder / "truth.json").write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=message):
        place_data.load(folder, PlaceFiles("queries.txt", "database.txt", ground_truth="truth.json"))


def test_a_ground_truth_of_objects_is_never_executed(folder):
    class Trap:
        def __reduce__(self):
            return (Path.touch, (folder / "sprung",))

    np.save(folder / "truth.npy", np.array([[0, Trap()]], object), allow_pickle=True)
    with pytest.raises(InputError, match=r"truth\.npy: a numpy file; expected JSON"):
        place_data.load(folder, PlaceFiles("queries.txt", "database.txt", ground_truth="truth.npy"))
    files = PlaceFiles("queries.txt", "database.txt", query_positions="truth.npy", database_positions="truth.npy")
    with pytest.raises(InputError, match=r"truth\.npy: not readable as a plain numpy array .* not of objects"):
        place_data.load(folder, files)
    np.savez(folder / "positions.npz", utmQ=np.array([Trap()], object), utmDb=np.zeros((12, 2)))
    with pytest.raises(InputError, match=r"positions\.npz: not readable"):
        place_data.load(folder, FILES)
    assert not (folder / "sprung").exists()


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([["1", "2"]] * 5), "positions of type <U1; expected numbers"),
        (np.zeros((5, 2), complex), "positions of type complex128"),
        (np.zeros((5, 2), bool), "positions of type bool"),
        (np.zeros(5, [("e", float), ("n", float)]), "positions of type"),
        (np.zeros((2, 5)), r"positions of shape \(2, 5\), expected \(5, 2\)"),
        (np.zeros(()), r"positions of shape \(\)"),
    ],
)
def test_arrays_that_are_no_positions_are_errors(folder, array, message):
    np.savez(folder / "positions.npz", utmQ=array, utmDb=np.zeros((12, 2)))
    with pytest.raises(InputError, match=message):
        place_data.load(folder, FILES)


def test_an_array_promises_no_more_than_its_file_holds(folder):
    np.save(folder / "q.npy", np.zeros((5, 2)))
    data = (folder / "q.npy").read_bytes()
    (folder / "q.npy").write_bytes(data.replace(b"(5, 2), }    ", b"(9999999999, 2)}".ljust(13))[: len(data)])
    files = PlaceFiles("queries.txt", "database.txt", query_positions="q.npy", database_positions="q.npy")
    with pytest.raises(InputError, match=r"q\.npy: not readable as a plain numpy array"):
        place_data.load(folder, files)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    return write_places(tmp_path_factory.mktemp("fuzzed") / "places")


KINDS = ("queries.txt", "database.txt", "positions.npz", "truth.json", "list.npy", "test.mat")


@given(st.sampled_from(KINDS), st.randoms(use_true_random=False), st.binary(max_size=40))
def test_damaged_files_of_every_kind_are_read_or_are_errors(drawn, kind, rng, noise):
    files = {
        "truth.json": PlaceFiles("queries.txt", "database.txt", ground_truth="truth.json"),
        "list.npy": PlaceFiles("queries.txt", "list.npy", positions="positions.npz"),
        "test.mat": PlaceFiles(None, None, structure="test.mat"),
    }.get(kind, FILES)
    (drawn / "truth.json").write_text(json.dumps({"0": [1, 0, 2], "1": [3]}))
    if not (drawn / "test.mat").exists():
        write_structure(drawn, drawn / "test.mat")
        np.save(drawn / "list.npy", np.array(read_names(drawn / "database.txt")))
    whole = (drawn / kind).read_bytes()
    start = rng.randrange(len(whole))
    damaged = whole[:start] + noise + whole[start + rng.choice([0, len(noise), rng.randrange(50), len(whole)]) :]
    (drawn / kind).write_bytes(damaged)
    try:
        found = place_data.load(drawn, files)
    except InputError:
        pass
    else:
        assert len(found.positives(25)) == len(found.queries)
    finally:
        (drawn / kind).write_bytes(whole)
