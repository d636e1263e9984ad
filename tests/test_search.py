"""The search: its scores are the benchmark's, alike pictures are shortlisted, and p-values keep what they promise."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from search_folders import MARK, SIDE, draw_picture, make_model, write_folder

from segswap.benchmarks import brueghel
from segswap.benchmarks.brueghel_matching import predict
from segswap.errors import InputError
from segswap.images import encode_jpeg, read_image
from segswap.matching.cosine import CosineMatcher
from segswap.matching.details import query_weights, target_masks
from segswap.matching.features import FeatureStore, extract_features, images_to_tensor
from segswap.matching.score import joint_mask
from segswap.models.segswap import SegSwap
from segswap.search.calibration import negatives_needed, p_values, threshold
from segswap.search.index import open_index
from segswap.search.prefilter import most_alike, query_descriptors, similarities
from segswap.search.query import QUERY_SIZE, parse_box, read_query
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
    return open_index(folder, model, SIDE, folder.parent / "store")


@pytest.fixture(scope="module")
def clean(model, tmp_path_factory):
    """An index of 30 pictures without a mark."""
    root = tmp_path_factory.mktemp("clean")
    names = {f"{number}.jpg": None for number in range(100, 130)}
    folder = root / "pictures"
    folder.mkdir()
    for number, name in enumerate(names):
        (folder / name).write_bytes(encode_jpeg(draw_picture(100 + number)))
    return open_index(folder, model, SIDE, root / "store")


@pytest.fixture(scope="module")
def cosine(model):
    """The same backbone and a matcher that needs no training."""
    return SegSwap(model.backbone, CosineMatcher(0.9))


@pytest.fixture
def query(folder):
    return read_query(folder / "1.jpg", BOX, SIDE)


# Queries


def test_a_query_with_a_box_shows_it_in_its_surroundings(folder, query):
    assert (query.name, query.box) == ("1.jpg", BOX) and query.crop.shape == (SIDE, SIDE, 3)
    x1, y1, x2, y2 = query.crop_box
    assert abs(x2 - x1 - QUERY_SIZE) <= 1 and abs(y2 - y1 - QUERY_SIZE) <= 1
    left, top, right, bottom = query.region
    assert 0 <= left < BOX[0] and BOX[2] < right <= 120 and 0 <= top < BOX[1] and BOX[3] < bottom <= 100
    scale = (right - left) / SIDE
    np.testing.assert_allclose([left + x1 * scale, left + x2 * scale], [BOX[0], BOX[2]], atol=1)
    data = (folder / "1.jpg").read_bytes()
    assert query.file == (len(data), hashlib.sha256(data).hexdigest())


def test_a_query_without_a_box_is_the_whole_picture_from_a_file_bytes_or_pixels(folder):
    whole = read_query(folder / "1.jpg", None, SIDE)
    assert whole.region == (0, 0, 120, 100) and whole.cells == (0, 0, 6, 6) and whole.box is None
    for other in (
        read_query((folder / "1.jpg").read_bytes(), None, SIDE, "1.jpg"),
        read_query(read_image(folder / "1.jpg"), None, SIDE, "1.jpg"),
    ):
        np.testing.assert_array_equal(other.crop, whole.crop)
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
        ((200, 10, 240, 40), r"lies outside of 1\.jpg, which has 120 x 100 pixels"),
        ((100, 10, 200, 40), "lies outside"),
        ((0, 0, math.nan, 5), "four numbers"),
        ((0, 0, math.inf, 5), "four numbers"),
        ((1, 2, 3), "four numbers"),
    ],
)
def test_a_box_that_cannot_be_meant_is_an_error(folder, box, message):
    with pytest.raises(InputError, match=message):
        read_query(folder / "1.jpg", box, SIDE)


def test_a_box_a_little_beyond_the_picture_is_cut_at_its_border(folder):
    assert read_query(folder / "1.jpg", (-3, 90, 40, 105), SIDE).box == (0, 90, 40, 100)


def test_a_query_that_does_not_open_is_an_error_that_names_it(tmp_path):
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    for name in ("bad.jpg", "none.jpg"):
        with pytest.raises(InputError, match=name):
            read_query(tmp_path / name, None, SIDE)


@pytest.mark.parametrize(
    ("size", "box"),
    [((1, 1), None), ((1, 1), (0, 0, 1, 1)), ((20_000, 200), None), ((20_000, 200), (9_000, 20, 9_004, 22))],
)
def test_pictures_of_any_form_are_searched(index, model, size, box):
    query = read_query(draw_picture(1, size=size), box, SIDE)
    result = search(index, model, query, ALL)
    assert len(result.hits) == len(index) and all(math.isfinite(hit.score) for hit in result.hits)


# Scores


def test_scores_and_boxes_are_those_of_the_benchmark(folder, model, index, query, tmp_path):
    dataset = brueghel.Brueghel(folder, index.names, (brueghel.Query("mark", "1.jpg", BOX, (("2.jpg", BOX),)),))
    settings = brueghel.BrueghelSettings(SIDE, QUERY_SIZE, (6,), (0.3,), "corrected")
    names, loaders = brueghel.query_names(dataset), brueghel.query_loaders(dataset, settings)
    extract_features(names, loaders, model.backbone, (SIDE, SIDE), tmp_path / "queries.npy")
    table = predict(
        dataset, FeatureStore(tmp_path / "queries.npy", model.backbone), index.features, model.backbone, model.matcher,
        settings, torch.device("cpu"),
    )  # fmt: skip
    hits = {hit.image: hit for hit in search(index, model, query, ALL).hits}
    assert set(hits) == set(MARKS) - {"1.jpg"}
    for row in table.to_pylist():
        assert hits[row["image"]].score == pytest.approx(row["score"], rel=1e-2, abs=1e-3)
        assert hits[row["image"]].box == pytest.approx(row["direct_box"], abs=1)


def test_hits_are_ordered_and_say_where_the_query_lies(index, model, query):
    result = search(index, model, query, ALL)
    assert [hit.score for hit in result.hits] == sorted((hit.score for hit in result.hits), reverse=True)
    assert {hit.image for hit in result.hits} == set(MARKS) - {"1.jpg"}
    for hit in result.hits:
        assert index.names[hit.number] == hit.image and hit.mask.shape == (6, 6)
        assert hit.mask.min() >= 0 and hit.mask.max() <= 1
        assert hit.lines.shape[1] == 4 and 0 < len(hit.lines) <= 16
        x1, y1, x2, y2 = hit.box
        assert 0 <= x1 <= x2 <= 120 and 0 <= y1 <= y2 <= 100
    assert result.negatives == 0 and all(hit.p_value is None and hit.above is None for hit in result.hits)


def test_a_detail_is_found_where_it_lies(index, cosine, query):
    hits = search(index, cosine, query, ALL).hits[:3]
    assert {hit.image for hit in hits} == {"2.jpg", "4.jpg", "8.jpg"}
    for hit in hits:
        x, y = MARKS[hit.image]
        middle = np.array([hit.box[0] + hit.box[2], hit.box[1] + hit.box[3]]) / 2
        np.testing.assert_allclose(middle, [x + MARK / 2, y + MARK / 2], atol=MARK / 2)


@torch.inference_mode()
def test_each_hit_has_the_mask_of_its_own_picture(index, model, query):
    x = model.features(images_to_tensor([query.crop]))
    weight = query_weights(x, [query.cells], model.matcher)
    for hit in search(index, model, query, dataclasses.replace(ALL, batch=3)).hits:
        maps_x, maps_y = model.matcher(x, index.features.read([hit.number]))
        expected = target_masks(maps_y, joint_mask(maps_x, maps_y, weight))
        np.testing.assert_allclose(hit.mask, expected[0, 0], atol=1e-5)
        for line in hit.lines:
            column, row = (line[:2] * 6).astype(int)
            np.testing.assert_allclose(line[2:], maps_x[0, :2, row, column], atol=1e-5)


def test_the_query_s_own_picture_is_left_out_whatever_its_name_or_kept_and_marked(folder, model, tmp_path, query):
    root = write_folder(tmp_path / "pictures", MARKS)
    (root / "a copy.jpg").write_bytes((folder / "1.jpg").read_bytes())
    index = open_index(root, model, SIDE, tmp_path / "store")
    result = search(index, model, query, ALL)
    assert result.left_out == ("1.jpg", "a copy.jpg") and len(result.hits) == 8
    kept = search(index, model, query, dataclasses.replace(ALL, keep_self=True))
    assert kept.left_out == () and [hit.image for hit in kept.hits if hit.is_query] == ["1.jpg", "a copy.jpg"]
    pixels = dataclasses.replace(query, file=None)
    assert len(search(index, model, pixels, ALL).hits) == 10


def test_the_batch_and_other_queries_change_nothing(index, model, folder, query):
    whole = read_query(folder / "4.jpg", None, SIDE)
    together = list(search_all(index, model, iter([query, whole, query]), ALL))
    assert [result.query.name for result in together] == ["1.jpg", "4.jpg", "1.jpg"]
    alone = search(index, model, query, dataclasses.replace(ALL, batch=3))
    for result in (together[0], together[2]):
        assert [hit.image for hit in result.hits] == [hit.image for hit in alone.hits]
        np.testing.assert_allclose([h.score for h in result.hits], [h.score for h in alone.hits], atol=1e-4)


def test_a_folder_that_holds_the_query_alone_has_no_hits(folder, model, tmp_path, query):
    (tmp_path / "one").mkdir()
    (tmp_path / "one" / "it.jpg").write_bytes((folder / "1.jpg").read_bytes())
    index = open_index(tmp_path / "one", model, SIDE, tmp_path / "store")
    result = search(index, model, query, SearchSettings())
    assert result.hits == [] and result.threshold is None and "there are 0" in result.remark


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shortlist": -1}, "--shortlist -1"),
        ({"negatives": -1}, "--negative-count -1"),
        ({"false_positives": 0.0}, "--false-positives 0"),
        ({"false_positives": 1.0}, "--false-positives 1"),
        ({"false_positives": math.nan}, "--false-positives nan"),
    ],
)
def test_settings_out_of_range_are_named(index, model, query, change, message):
    with pytest.raises(InputError, match=message):
        search(index, model, query, SearchSettings(**change))


# The shortlist


def test_pictures_with_the_detail_are_shortlisted(index, model, query):
    found = search(index, model, query, dataclasses.replace(ALL, shortlist=3))
    assert {hit.image for hit in found.hits} == {"2.jpg", "4.jpg", "8.jpg"}
    everything = search(index, model, query, ALL)
    alike = sorted(everything.hits, key=lambda hit: -hit.similarity)
    assert {hit.image for hit in alike[:3]} == {hit.image for hit in found.hits}


def test_a_picture_is_most_alike_to_itself(folder, model, tmp_path):
    index = open_index(folder, model, 160, tmp_path / "store")
    for name in ("3.jpg", "8.jpg"):
        query = read_query(folder / name, None, 160)
        hits = search(index, model, query, dataclasses.replace(ALL, keep_self=True, shortlist=1)).hits
        assert [hit.image for hit in hits] == [name] and hits[0].similarity == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("cells", [(0, 0, 1, 1), (2, 1, 4, 3), (0, 0, 6, 5), (0, 2, 12, 3), (0, 0, 30, 30)])
def test_a_box_of_any_size_has_windows(cells):
    features = torch.randn(1, 8, 30, 30, generator=torch.Generator().manual_seed(1))
    found = query_descriptors(features, cells)
    rows, columns = (min(max(size - 1, 1), 8) for size in (cells[3] - cells[1], cells[2] - cells[0]))
    assert found.shape == (rows * columns, 8)
    np.testing.assert_allclose(found.norm(dim=1), 1, rtol=1e-5)


@pytest.mark.parametrize("at_once", [1, 1 << 24])
def test_similarities_are_the_mean_over_windows_of_the_best(monkeypatch, at_once):
    monkeypatch.setattr("segswap.search.prefilter._SIMILARITIES_AT_ONCE", at_once)
    rng = np.random.default_rng(1)
    descriptors, query = rng.normal(size=(7, 4, 5)).astype(np.float16), rng.normal(size=(3, 5)).astype(np.float32)
    expected = [np.mean([max(w @ q for w in windows.astype(float)) for q in query]) for windows in descriptors]
    np.testing.assert_allclose(similarities(torch.from_numpy(query), descriptors), expected, rtol=1e-4)


@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=1, max_size=20), st.integers(0, 25), st.data())
def test_the_most_alike_candidates_come_first(values, count, data):
    candidates = np.array(sorted(data.draw(st.sets(st.integers(0, len(values) - 1)))), int)
    found = most_alike(np.array(values), candidates, count).tolist()
    expected = sorted(candidates.tolist(), key=lambda number: (-values[number], number))
    assert found == (expected[:count] if count else expected)


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
    query = read_query(tmp_path / "again.jpg", None, SIDE)
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
