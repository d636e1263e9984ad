"""The search: a detail is found at its own size wherever it lies, and p-values keep what they promise."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from search_folders import MARK, draw_picture, make_model, write_folder

from segswap.errors import InputError
from segswap.images import encode_jpeg, read_image
from segswap.matching.cosine import CosineMatcher
from segswap.matching.match import turns
from segswap.models.segswap import SegSwap
from segswap.randomness import generator
from segswap.search import search as search_module
from segswap.search.calibration import negatives_needed, p_values, threshold
from segswap.search.index import open_index
from segswap.search.query import parse_box, read_query
from segswap.search.search import SearchSettings, search, search_all

MARKS = {
    "1.jpg": (20, 30), "2.jpg": (60, 50), "3.jpg": None, "4.jpg": (10, 55), "5.jpg": None, "6.jpg": None,
    "7.jpg": None, "8.jpg": (70, 5), "9.jpg": None,
}  # fmt: skip
BOX = (20, 30, 20 + MARK, 30 + MARK)
ALL = SearchSettings(shortlist=0, negatives=0)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("search") / "pictures", MARKS)


@pytest.fixture(scope="module")
def index(folder, model):
    return open_index(folder, model, folder.parent / "store")


@pytest.fixture(scope="module")
def clean(model, index, tmp_path_factory):
    """An index of 30 pictures without a mark, with the projection of the other one."""
    root = tmp_path_factory.mktemp("clean")
    folder = root / "pictures"
    folder.mkdir()
    for number in range(100, 130):
        (folder / f"{number}.jpg").write_bytes(encode_jpeg(draw_picture(number)))
    return open_index(folder, model, root / "store", projection=index.projection)


@pytest.fixture(scope="module")
def cosine(model):
    """The same backbone and a matcher that needs no training."""
    return SegSwap(model.backbone, CosineMatcher(0.9))


@pytest.fixture
def query(folder):
    return read_query(folder / "1.jpg", BOX)


def write_pictures(folder, pictures):
    """Write pictures, RGB uint8, by name."""
    folder.mkdir(parents=True)
    for name, picture in pictures.items():
        (folder / name).write_bytes(encode_jpeg(picture))
    return folder


def texture(seed: int, size: tuple[int, int], blot: int = 12) -> np.ndarray:
    """Return a picture of blots, (width, height), in which no two places are alike."""
    width, height = size
    small = generator(seed, "search texture").integers(0, 256, (height // blot, width // blot, 3), np.uint8)
    return cv2.resize(small, size, interpolation=cv2.INTER_CUBIC)


# Queries


def test_a_query_with_a_box_is_cut_out(folder, query):
    assert (query.name, query.box, query.region) == ("1.jpg", BOX, BOX)
    np.testing.assert_array_equal(query.detail, read_image(folder / "1.jpg")[30:70, 20:60])
    data = (folder / "1.jpg").read_bytes()
    assert query.file == (len(data), hashlib.sha256(data).hexdigest())
    assert read_query(folder / "1.jpg", (20.4, 30.6, 59.2, 69.9)).region == BOX, "whole pixels around it"


def test_a_query_without_a_box_is_the_whole_picture_from_a_file_bytes_or_pixels(folder):
    whole = read_query(folder / "1.jpg", None)
    assert whole.region == (0, 0, 120, 100) and whole.box is None
    for other in (
        read_query((folder / "1.jpg").read_bytes(), None, "1.jpg"),
        read_query(read_image(folder / "1.jpg"), None, "1.jpg"),
    ):
        np.testing.assert_array_equal(other.detail, whole.image)
        assert other.name == "1.jpg" and other.file in (whole.file, None)


@pytest.mark.parametrize("text", ["1,2,3", "1,2,3,4,5", "a,b,c,d", "", "1;2;3;4"])
def test_a_box_of_other_than_four_numbers_is_an_error(text):
    with pytest.raises(InputError, match="expected four numbers x1,y1,x2,y2"):
        parse_box(text)


@pytest.mark.parametrize(
    ("box", "message"),
    [
        ((10, 10, 10, 40), "has no area"),
        ((40, 10, 10, 40), "has no area"),
        ((10, 10, 20, 25), r"box 10,10,20,25 is 15 pixels long; the smallest .* cell of 16 pixels. Draw a larger box"),
        ((200, 10, 240, 40), r"lies outside of 1\.jpg, which has 120 x 100 pixels"),
        ((100, 10, 200, 40), "lies outside"),
        ((0, 0, math.nan, 5), "four numbers"),
        ((0, 0, math.inf, 5), "four numbers"),
        ((1, 2, 3), "four numbers"),
    ],
)
def test_a_box_that_cannot_be_meant_is_an_error(folder, box, message):
    with pytest.raises(InputError, match=message):
        read_query(folder / "1.jpg", box)


def test_a_box_a_little_beyond_the_picture_is_cut_at_its_border(folder):
    assert read_query(folder / "1.jpg", (-3, 85, 40, 105)).box == (0, 85, 40, 100)


def test_a_query_that_does_not_open_is_an_error_that_names_it(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    for name in ("bad.jpg", "none.jpg"):
        with pytest.raises(InputError, match=name):
            read_query(tmp_path / name, None)


@pytest.mark.parametrize(
    ("size", "box"),
    [((1, 1), None), ((20_000, 200), None), ((20_000, 200), (9_000, 20, 9_020, 22)), ((30, 900), None)],
)
def test_queries_of_any_form_are_searched_for(index, model, size, box):
    query = read_query(draw_picture(1, size=size), box)
    result = search(index, model, query, ALL)
    assert {hit.image for hit in result.hits} == set(MARKS) and all(math.isfinite(hit.score) for hit in result.hits)


# Where a query lies


def centre(box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2


def test_a_detail_is_found_where_it_lies(index, model, query):
    hits = search(index, model, query, ALL).hits
    assert {hit.image for hit in hits[:3]} == {"2.jpg", "4.jpg", "8.jpg"} and hits[2].score > 2 * hits[3].score
    for hit in hits[:3]:
        x, y = MARKS[hit.image]
        np.testing.assert_allclose(hit.box, (x, y, x + MARK, y + MARK), atol=5)


@pytest.mark.parametrize("share", [0.15, 0.2, 0.28, 0.4, 0.57, 0.8, 1.0])
def test_a_detail_is_found_at_whatever_size_it_has_there(model, tmp_path, share):
    size = (960, 720)
    pictures = {f"{seed}.jpg": texture(seed, size, 40) for seed in range(4)}
    width, height = (round(share * length) for length in size)
    x, y = (size[0] - width) // 3, (size[1] - height) // 2
    detail = cv2.resize(pictures["2.jpg"][y : y + height, x : x + width], (300, 225), interpolation=cv2.INTER_AREA)
    index = open_index(write_pictures(tmp_path / "pictures", pictures), model, tmp_path / "store")
    best = search(index, model, read_query(detail, None), ALL).hits[0]
    assert best.image == "2.jpg"
    np.testing.assert_allclose(best.box, (x, y, x + width, y + height), atol=0.2 * width)


def test_a_query_larger_than_every_picture_is_found_as_a_whole(model, tmp_path):
    pictures = {f"{seed}.jpg": texture(seed, (96, 72)) for seed in range(4)}
    index = open_index(write_pictures(tmp_path / "pictures", pictures), model, tmp_path / "store")
    large = cv2.resize(pictures["3.jpg"], (4000, 3000), interpolation=cv2.INTER_CUBIC)
    best = search(index, model, read_query(large, None), ALL).hits[0]
    assert best.image == "3.jpg" and best.box == pytest.approx((0, 0, 96, 72), abs=4)


def test_several_places_in_one_picture_are_several_hits(model, tmp_path):
    pictures = {f"{seed}.jpg": texture(seed, (640, 480)) for seed in range(4)}
    places = {"1.jpg": [(40, 50), (400, 280)], "3.jpg": [(250, 200)]}
    detail = texture(9, (160, 120))
    for name, corners in places.items():
        for x, y in corners:
            pictures[name][y : y + 120, x : x + 160] = detail
    index = open_index(write_pictures(tmp_path / "pictures", pictures), model, tmp_path / "store")
    hits = search(index, model, read_query(detail, None), ALL).hits[:3]
    found = sorted((hit.image, *(round(v / 10) for v in centre(hit.box))) for hit in hits)
    expected = sorted((name, (x + 80) / 10, (y + 60) / 10) for name, corners in places.items() for x, y in corners)
    for (name, x, y), (true_name, true_x, true_y) in zip(found, expected, strict=True):
        assert name == true_name and abs(x - true_x) <= 2 and abs(y - true_y) <= 2


@pytest.mark.parametrize("turn", turns(rotations=True, flips=True), ids=str)
def test_a_turned_or_mirrored_detail_is_found_where_turns_are_tried(model, tmp_path, turn):
    pictures = {f"{seed}.jpg": texture(seed, (320, 240)) for seed in range(4)}
    index = open_index(write_pictures(tmp_path / "pictures", pictures), model, tmp_path / "store")
    # The query is the detail turned back, so that its version by this turn is the detail.
    query = read_query(np.ascontiguousarray(turn.undo(pictures["1.jpg"][60:180, 80:240])), None)
    best = search(index, model, query, dataclasses.replace(ALL, turns=turns(rotations=True, flips=True))).hits[0]
    assert best.image == "1.jpg" and best.turn == turn
    np.testing.assert_allclose(best.box, (80, 60, 240, 180), atol=16)
    alone = search(index, model, query, ALL).hits[0]
    assert alone.similarity <= best.similarity + 1e-6


# What the matcher says


def test_hits_are_ordered_and_the_best_ones_are_matched(index, model, query):
    result = search(index, model, query, dataclasses.replace(ALL, matched=4))
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert {hit.image for hit in result.hits} == set(MARKS) - {"1.jpg"}
    assert result.searched == 8 and result.matched == 4 and result.negatives == 0
    looked_at = sorted(result.hits, key=lambda hit: -hit.similarity)[:4]
    for hit in result.hits:
        assert index.names[hit.number] == hit.image and (hit in looked_at) == (hit.agreement is not None)
        if hit.agreement is None:
            assert hit.mask is None and len(hit.lines) == 0 and hit.score == hit.similarity
        else:
            assert hit.score == pytest.approx(hit.similarity + 0.5 * hit.agreement) and 0 <= hit.agreement <= 1
            assert hit.mask.ndim == 2 and 0 <= hit.mask.min() <= hit.mask.max() <= 1
            assert hit.lines.shape[1] == 4 and 0 < len(hit.lines) <= 16
        x1, y1, x2, y2 = hit.box
        assert 0 <= x1 < x2 <= 120 and 0 <= y1 < y2 <= 100
        assert hit.p_value is None and hit.above is None


def test_mask_and_lines_lie_on_the_detail(model, cosine, tmp_path):
    pictures = {f"{seed}.jpg": texture(seed, (640, 480)) for seed in range(3)}
    index = open_index(write_pictures(tmp_path / "pictures", pictures), model, tmp_path / "store")
    x, y, width, height = 300, 100, 200, 150
    query = read_query(pictures["1.jpg"], (x, y, x + width, y + height))
    best = search(index, cosine, query, ALL).hits[0]
    rows, columns = best.mask.shape
    where = np.argwhere(best.mask > 0.5)[:, ::-1] + 0.5
    pixels = where / (columns, rows) * (640, 480)
    inside = ((pixels > (x - 16, y - 16)) & (pixels < (x + width + 16, y + height + 16))).all(1)
    assert len(where) > 20 and inside.mean() > 0.9
    there = best.lines[:, 2:] * (640, 480)
    expected = best.lines[:, :2] * (width, height) + (x, y)
    cell = width / 11
    assert np.median(np.abs(there - expected)) < 1.5 * cell


def test_a_picture_that_has_gone_since_is_found_by_its_cells_alone(model, tmp_path, query):
    root = write_folder(tmp_path / "pictures", MARKS)
    index = open_index(root, model, tmp_path / "store")
    (root / "2.jpg").unlink()
    hits = search(index, model, query, ALL).hits
    assert next(hit for hit in hits if hit.image == "2.jpg").agreement is None
    assert {hit.image for hit in hits[:3]} == {"2.jpg", "4.jpg", "8.jpg"}


# Which pictures take part


def test_the_query_s_own_picture_is_left_out_whatever_its_name_or_kept_and_marked(folder, model, tmp_path, query):
    root = write_folder(tmp_path / "pictures", MARKS)
    (root / "a copy.jpg").write_bytes((folder / "1.jpg").read_bytes())
    index = open_index(root, model, tmp_path / "store")
    result = search(index, model, query, ALL)
    assert result.left_out == ("1.jpg", "a copy.jpg") and {hit.image for hit in result.hits} == set(MARKS) - {"1.jpg"}
    kept = search(index, model, query, dataclasses.replace(ALL, keep_self=True))
    assert kept.left_out == () and {hit.image for hit in kept.hits if hit.is_query} == {"1.jpg", "a copy.jpg"}
    assert kept.hits[0].is_query
    pixels = dataclasses.replace(query, file=None)
    assert {"1.jpg", "a copy.jpg"} < {hit.image for hit in search(index, model, pixels, ALL).hits}


def test_other_queries_change_nothing(index, model, folder, query):
    whole = read_query(folder / "4.jpg", None)
    together = list(search_all(index, model, iter([query, whole, query]), ALL))
    assert [result.query.name for result in together] == ["1.jpg", "4.jpg", "1.jpg"]
    alone = search(index, model, query, ALL)
    for result in (together[0], together[2]):
        assert [(hit.image, hit.score) for hit in result.hits] == [(hit.image, hit.score) for hit in alone.hits]


def test_a_folder_that_holds_the_query_alone_has_no_hits(folder, model, tmp_path, query):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "it.jpg").write_bytes((folder / "1.jpg").read_bytes())
    index = open_index(tmp_path / "one", model, tmp_path / "store")
    result = search(index, model, query, SearchSettings())
    assert result.hits == [] and result.threshold is None and "there are 0" in result.remark
    kept = search(index, model, query, SearchSettings(keep_self=True))
    assert [hit.image for hit in kept.hits] == ["it.jpg"] and kept.hits[0].p_value is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shortlist": -1}, "--shortlist -1"),
        ({"matched": -1}, "--matched -1"),
        ({"negatives": -1}, "--negative-count -1"),
        ({"false_positives": 0.0}, "--false-positives 0"),
        ({"false_positives": 1.0}, "--false-positives 1"),
        ({"false_positives": math.nan}, "--false-positives nan"),
    ],
)
def test_settings_out_of_range_are_named(index, model, query, change, message):
    with pytest.raises(InputError, match=message):
        search(index, model, query, SearchSettings(**change))


def test_the_shortlist_holds_the_best_places(index, model, query):
    everything = search(index, model, query, ALL)
    found = search(index, model, query, dataclasses.replace(ALL, shortlist=3))
    assert [hit.image for hit in found.hits] == [hit.image for hit in everything.hits[:3]]


def test_a_picture_is_most_alike_to_itself(folder, model, index):
    for name in ("3.jpg", "8.jpg"):
        query = read_query(folder / name, None)
        hits = search(index, model, query, dataclasses.replace(ALL, keep_self=True, shortlist=1)).hits
        assert [hit.image for hit in hits] == [name] and hits[0].similarity == pytest.approx(1, abs=1e-2)


def test_a_large_collection_is_first_looked_at_coarsely(index, model, query, monkeypatch):
    monkeypatch.setattr(search_module, "FIRST_LOOK", 4)
    found = search(index, model, query, ALL)
    assert len({hit.image for hit in found.hits}) == 4 and found.searched == 8
    assert {hit.image for hit in found.hits[:3]} == {"2.jpg", "4.jpg", "8.jpg"}
    judged = search(index, model, query, dataclasses.replace(ALL, negatives=200, false_positives=0.2))
    assert judged.negatives == 8, "pictures that the first look left out are compared with, too"


# What scores mean

SCORES = st.lists(st.floats(0, 50).map(lambda v: round(v, 1)), min_size=1, max_size=60)
RATES = st.floats(0.001, 0.999)


@given(SCORES, RATES)
def test_exchangeable_scores_are_called_positive_at_most_as_often_as_chosen(scores, rate):
    """Each of the scores is as likely to be the one that is judged by the others."""
    values = np.array(scores)
    judged = [p_values(values[n : n + 1], np.delete(values, n))[0] for n in range(len(values))]
    for above in (
        [p <= rate for p in judged],
        [
            limit is not None and values[n] >= limit
            for n, limit in enumerate(threshold(np.delete(values, n), rate) for n in range(len(values)))
        ],
    ):
        assert np.mean(above) <= rate + 1e-9


@given(SCORES, SCORES, RATES)
def test_the_threshold_is_the_smallest_score_whose_p_value_is_small_enough(negatives, scores, rate):
    limit = threshold(np.array(negatives), rate)
    found = p_values(np.array(scores), np.array(negatives))
    assert ((found > 0) & (found <= 1)).all()
    assert found.tolist() == [(1 + sum(n >= s for n in negatives)) / (1 + len(negatives)) for s in scores]
    if limit is None:
        assert 1 / (1 + len(negatives)) > rate
    else:
        np.testing.assert_array_equal(found <= rate, np.array(scores) >= limit)
        assert p_values(np.array([np.nextafter(limit, -np.inf)]), np.array(negatives))[0] > rate


@given(RATES | st.sampled_from([0.01, 0.05, 0.001, 0.1, 0.5]))
def test_as_many_negatives_as_are_said_to_be_needed_give_a_threshold(rate):
    needed = negatives_needed(rate)
    assert threshold(np.zeros(needed), rate) is not None or needed == 0
    assert needed == 0 or threshold(np.zeros(needed - 1), rate) is None


def test_no_negatives_no_threshold():
    assert threshold(np.array([]), 0.5) is None and negatives_needed(0.01) == 99


def test_scores_are_compared_with_pictures_of_another_folder(index, clean, model, query):
    settings = SearchSettings(false_positives=0.04, negatives=25)
    result = search(index, model, query, settings, clean)
    assert result.negatives == 25 and result.remark == "" and result.threshold > 0
    above = {hit.image for hit in result.hits if hit.above}
    assert above == {hit.image for hit in result.hits if hit.score >= result.threshold}
    assert all(hit.above == (hit.p_value <= 0.04) for hit in result.hits)
    again = search(index, model, query, settings, clean)
    assert [hit.p_value for hit in again.hits] == [hit.p_value for hit in result.hits]


def test_a_picture_that_was_encoded_again_is_found_above_the_threshold(index, clean, cosine, folder, tmp_path):
    (tmp_path / "again.jpg").write_bytes(encode_jpeg(read_image(folder / "8.jpg"), 70))
    query = read_query(tmp_path / "again.jpg", None)
    result = search(index, cosine, query, SearchSettings(false_positives=0.04), clean)
    best = result.hits[0]
    assert best.image == "8.jpg" and best.above and best.p_value == pytest.approx(1 / 31)
    assert not best.is_query and result.left_out == ()


def test_too_few_negatives_give_no_threshold_and_say_what_to_do(index, clean, model, query):
    result = search(index, model, query, SearchSettings(), clean)
    assert result.threshold is None and all(hit.above is None for hit in result.hits)
    assert min(hit.p_value for hit in result.hits) == pytest.approx(1 / 31)
    assert "needs at least 99 pictures" in result.remark and "there are 30" in result.remark
    assert "--negatives" in result.remark and "--false-positives" in result.remark


@pytest.mark.parametrize("shortlist", [0, 3])
def test_a_sample_of_the_folder_itself_judges_each_picture_by_the_others(index, model, query, shortlist):
    result = search(index, model, query, SearchSettings(shortlist=shortlist, false_positives=0.2))
    assert result.negatives == 8, "all but the query's own, shortlisted or not"
    ranks = {hit.image: rank for rank, hit in enumerate(search(index, model, query, ALL).hits, 1)}
    assert len(result.hits) == (shortlist or 8)
    for hit in result.hits:
        assert hit.p_value == pytest.approx(ranks[hit.image] / 8)
        assert hit.above == (ranks[hit.image] == 1)


def test_few_negatives_are_drawn_with_the_seed(clean, model, query):
    def values(seed: int) -> list[float]:
        settings = SearchSettings(shortlist=5, negatives=6, seed=seed)
        return [hit.p_value for hit in search(clean, model, query, settings).hits]

    assert values(1) == values(1)
    assert any(values(1) != values(seed) for seed in (2, 3, 4))
