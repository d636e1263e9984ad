"""Pictures of predictions: what is drawn, where, and in which colour."""

from __future__ import annotations

import cv2
import numpy as np
import pyarrow as pa
import pytest

from segswap.benchmarks import brueghel, internet, place_data, places
from segswap.benchmarks.pictures import draw_brueghel, draw_hard_negatives, draw_internet, draw_pairs, draw_places
from segswap.discovery.collection import Collection
from segswap.drawing import (
    GREEN,
    ORANGE,
    RED,
    caption,
    contact_sheet,
    data_uri,
    draw_boxes,
    draw_correspondences,
    encode_picture,
    evenly_spread,
    fit,
    fit_height,
    overlay_mask,
    right_or_wrong,
    spotlight,
    spread_cells,
    text_picture,
    write_picture,
)
from segswap.errors import InputError
from segswap.files import write_bytes, write_json
from segswap.geometry import cell_centres
from segswap.images import encode_jpeg, read_image
from segswap.pairs.render import Labels
from segswap.randomness import generator
from segswap.training.pools import PoolImage, join_pools, write_pool


def grey(height: int, width: int, value: int = 120) -> np.ndarray:
    return np.full((height, width, 3), value, np.uint8)


def centre_of(picture: np.ndarray, colour: tuple[int, int, int], columns: slice) -> tuple[float, float]:
    """Return the middle (x, y), corner-origin, of the box around the pixels of a colour."""
    ys, xs = np.nonzero((picture[:, columns] == colour).all(-1))
    offset = columns.start or 0
    return (xs.min() + xs.max() + 1) / 2 + offset, (ys.min() + ys.max() + 1) / 2


class TestDrawing:
    @pytest.mark.parametrize("place", [(0.3, 0.7), (0.52, 0.18), (0.9, 0.5)])
    def test_a_correspondence_line_ends_where_the_label_says(self, place):
        a, b, gap = grey(160, 160), grey(160, 240), 12
        corr = np.zeros((2, 10, 10))
        corr[:, 4, 2] = place
        drawn = draw_correspondences(a, b, np.array([[4, 2]]), corr, [(255, 255, 0)], gap=gap)
        assert drawn.shape == (160, 160 + gap + 240, 3)
        end = np.array([160 + gap + place[0] * 240, place[1] * 160])
        # The line reaches the ends from the middle: the dot is found where the line cannot be, beyond its end.
        dots = (drawn == (255, 255, 0)).all(-1)
        xs = np.flatnonzero(dots.any(0))
        start = np.array([2.5 * 16, 4.5 * 16])
        radius = max(3, round(160 / 50))
        assert xs.min() + 0.5 == pytest.approx(start[0] - radius, abs=1)
        assert xs.max() + 0.5 == pytest.approx(end[0] + radius, abs=1)
        assert dots[int(end[1]), int(end[0])] and dots[int(start[1]), int(start[0])]

    def test_the_dot_is_centred_on_a_straight_line_end(self):
        corr = cell_centres((10, 10)).copy()
        drawn = draw_correspondences(grey(160, 160), grey(160, 160), np.array([[5, 5]]), corr, [(0, 255, 0)], gap=0)
        _, y = centre_of(drawn[:, 160 + 70 :], (0, 255, 0), slice(0, None))
        assert y == pytest.approx(5.5 * 16, abs=0.51)

    def test_lines_that_leave_the_other_picture_are_not_drawn(self):
        corr = np.full((2, 10, 10), 1.2)
        a, b = grey(160, 160), grey(160, 160)
        drawn = draw_correspondences(a, b, np.array([[5, 5]]), corr, gap=0)
        assert (drawn == 120).all()

    def test_pictures_of_different_heights_are_refused(self):
        with pytest.raises(ValueError, match="one height"):
            draw_correspondences(grey(10, 10), grey(20, 10), np.zeros((0, 2), int), np.zeros((2, 1, 1)))

    def test_inputs_are_left_as_they_are(self):
        image, mask = grey(64, 64), np.ones((4, 4))
        for draw in (overlay_mask, spotlight):
            draw(image, mask)
        draw_boxes(image, [(1, 1, 30, 30)], RED)
        right_or_wrong(image, True)
        assert (image == 120).all()

    def test_an_overlay_tints_only_the_mask(self):
        mask = np.zeros((4, 4))
        mask[1, 1] = 1
        drawn = overlay_mask(grey(64, 64), mask, (255, 0, 0), 0.5)
        assert drawn[24, 24, 0] > 170 and drawn[24, 24, 1] < 80
        assert (drawn[48:, 48:] == 120).all()

    def test_a_spotlight_keeps_the_mask_and_fades_the_rest(self):
        image = np.zeros((64, 64, 3), np.uint8)
        image[..., 0] = 200
        mask = np.zeros((4, 4))
        mask[:, :2] = 1
        drawn = spotlight(image, mask)
        assert (drawn[30, 8] == (200, 0, 0)).all()
        assert drawn[30, 60].min() > 80

    def test_spread_cells_are_distinct_masked_and_far_apart(self):
        mask = np.zeros((12, 12))
        mask[2:10, 3:11] = 1
        cells = spread_cells(mask, 5)
        assert len(np.unique(cells, axis=0)) == 5
        assert mask[cells[:, 0], cells[:, 1]].all()
        distance = np.linalg.norm(cells[:, None] - cells[None], axis=-1)
        assert distance[~np.eye(5, dtype=bool)].min() >= 3
        assert len(spread_cells(mask, 1000)) == 64
        assert spread_cells(np.zeros((3, 3)), 4).shape == (0, 2)

    def test_a_box_is_drawn_on_its_border(self):
        drawn = draw_boxes(grey(60, 80), [(10, 20, 50, 40)], (255, 255, 255), 1, halo=False)
        ys, xs = np.nonzero(drawn[..., 0] > 200)
        assert (xs.min(), xs.max()) == pytest.approx((9.5, 49.5), abs=1)
        assert (ys.min(), ys.max()) == pytest.approx((19.5, 39.5), abs=1)

    def test_frames_are_green_for_right_and_red_for_wrong(self):
        for right, colour in ((True, GREEN), (False, RED)):
            framed = right_or_wrong(grey(10, 12), right, 3)
            assert framed.shape == (16, 18, 3)
            assert (framed[0] == colour).all() and (framed[3:-3, 3:-3] == 120).all()

    def test_a_contact_sheet_has_the_size_of_its_largest_rows_and_columns(self):
        rows = [[grey(10, 20), grey(30, 5)], [None, grey(8, 50)], [grey(4, 4)]]
        sheet = contact_sheet(rows, gap=3, margin=2)
        assert sheet.shape == (2 + 30 + 3 + 8 + 3 + 4 + 2, 2 + 20 + 3 + 50 + 2, 3)
        assert (sheet[2:12, 2:22] == 120).all() and (sheet[35:43, 25:75] == 120).all()
        assert (sheet[35:43, 2:22] == 255).all()

    def test_a_contact_sheet_without_a_picture_is_refused(self):
        with pytest.raises(ValueError, match="without a picture"):
            contact_sheet([[None], []])

    def test_a_caption_keeps_the_width_and_long_texts_are_shortened(self):
        image = grey(20, 90)
        short, long = caption(image, "short"), caption(image, "a very long name that does not fit here.jpg")
        assert short.shape == long.shape and short.shape[1] == 90
        assert (short[:20] == 120).all() and short[20:].min() < 100
        assert (text_picture("x", 5, height=40).shape) == (40, 5, 3)

    def test_evenly_spread_positions_hold_both_ends(self):
        assert evenly_spread(100, 5) == [0, 25, 50, 74, 99]
        assert evenly_spread(3, 10) == [0, 1, 2]
        assert evenly_spread(0, 4) == evenly_spread(4, 0) == []

    def test_fitting_keeps_the_aspect(self):
        assert fit(grey(100, 200), 50).shape == (25, 50, 3)
        assert fit_height(grey(100, 200), 50).shape == (50, 100, 3)

    @pytest.mark.parametrize(("suffix", "start"), [(".jpg", b"\xff\xd8"), (".PNG", b"\x89PNG")])
    def test_pictures_are_encoded_by_their_suffix(self, tmp_path, suffix, start):
        write_picture(tmp_path / f"x{suffix}", grey(8, 8))
        assert (tmp_path / f"x{suffix}").read_bytes().startswith(start)
        assert np.abs(read_image(tmp_path / f"x{suffix}").astype(int) - 120).max() <= 2

    def test_other_suffixes_are_refused(self):
        with pytest.raises(InputError, match=r"\.gif"):
            encode_picture(grey(8, 8), ".gif")

    def test_a_data_uri_holds_the_bytes(self):
        assert data_uri(b"\x00\x01", "image/png") == "data:image/png;base64,AAE="


class _OnePair:
    """Stands for a pair set: two pairs of plain pictures with one known label."""

    kind = "1obj"

    def __init__(self) -> None:
        mask = np.zeros((10, 10), np.float32)
        mask[3:7, 3:7] = 1
        identity = cell_centres((10, 10)).astype(np.float32)
        self._labels = Labels(mask, mask, identity, identity)

    def picture(self, position: int, name: str) -> np.ndarray:
        return grey(160, 160, 100 + 20 * position)

    def labels(self, position: int) -> Labels:
        return self._labels


def pair_table(shift: float, pairs: _OnePair) -> pa.Table:
    labels = pairs.labels(0)
    maps = np.concatenate([labels.corr_a + shift, labels.mask_a[None]]).astype(np.float16).tobytes()
    rows = [
        {
            "kind": "1obj",
            "style": "plain",
            "position_a": a,
            "position_b": b,
            "score": 1.0,
            "maps_a": maps,
            "maps_b": maps,
        }
        for a, b in ((0, 0), (1, 1), (0, 1), (1, 0))
    ]
    return pa.Table.from_pylist(rows)


def has(picture: np.ndarray, colour: tuple[int, int, int]) -> int:
    return int((picture == colour).all(-1).sum())


class TestHardNegatives:
    def write(self, tiny_world, folder, epochs: int) -> list:
        sets = [tiny_world.pair_set(kind) for kind in ("1obj", "2obj")]
        for epoch in range(epochs):
            pool = [PoolImage(n % 2, n, "bs.jpg", (0.0, 0.0, 1.0, 1.0), False) for n in range(6)]
            write_pool(folder, epoch, sets, pool, np.array([[0, 1], [2, 5], [3, 4]]), np.float32([0.2, 0.9, 0.5]))
        join_pools(folder, folder / "pools.parquet")
        return sets

    @pytest.mark.parametrize(("epochs", "tiles"), [(1, 3), (3, 9), (10, 12)])
    def test_the_hardest_pairs_of_up_to_four_epochs_are_shown(self, tiny_world, tmp_path, epochs, tiles):
        sets = self.write(tiny_world, tmp_path, epochs)
        draw_hard_negatives(sets, tmp_path / "pools.parquet", tmp_path / "sheet.png", 12)
        sheet = read_image(tmp_path / "sheet.png")
        tile_height = 144 + text_picture("x", 10).shape[0]
        assert sheet.shape[0] == 8 + (tile_height + 8) * -(-tiles // 3)
        # The first tile is the hardest pair: pool images 2 and 5.
        np.testing.assert_array_equal(sheet[8:152, 8:152], fit_height(sets[0].picture(2, "bs.jpg"), 144))
        np.testing.assert_array_equal(sheet[8:152, 156:300], fit_height(sets[1].picture(5, "bs.jpg"), 144))

    def test_no_hard_negatives_are_said_to_be_none(self, tiny_world, tmp_path):
        sets = self.write(tiny_world, tmp_path, 0)
        draw_hard_negatives(sets, tmp_path / "pools.parquet", tmp_path / "sheet.png", 12)
        assert read_image(tmp_path / "sheet.png").std() > 0


class TestPairs:
    def test_right_lines_are_green_and_wrong_ones_red(self, tmp_path):
        pairs = _OnePair()
        draw_pairs([pairs], {"right": pair_table(0.0, pairs)}, tmp_path / "right.png", 2)
        draw_pairs([pairs], {"wrong": pair_table(0.2, pairs)}, tmp_path / "wrong.png", 2)
        right, wrong = read_image(tmp_path / "right.png"), read_image(tmp_path / "wrong.png")
        assert has(right, RED) == 0 and has(right, GREEN) > has(wrong, GREEN)
        assert has(wrong, RED) > 100

    def test_a_quarter_of_the_rows_are_unrelated_pairs(self, tmp_path):
        pairs = _OnePair()
        draw_pairs([pairs], {"model": pair_table(0.0, pairs)}, tmp_path / "sheet.png", 4)
        # On unrelated pairs no correspondence can be right.
        assert has(read_image(tmp_path / "sheet.png"), RED) > 100

    def test_matchers_stand_side_by_side(self, tmp_path):
        pairs = _OnePair()
        table = pair_table(0.0, pairs)
        draw_pairs([pairs], {"one": table}, tmp_path / "1.jpg", 2)
        draw_pairs([pairs], {"one": table, "two": table}, tmp_path / "2.jpg", 2)
        one, two = read_image(tmp_path / "1.jpg"), read_image(tmp_path / "2.jpg")
        assert two.shape[0] == one.shape[0] and two.shape[1] > one.shape[1] + 280

    def test_predictions_of_other_pairs_are_an_error(self, tmp_path):
        pairs = _OnePair()
        table = pair_table(0.0, pairs)
        with pytest.raises(InputError, match="second lack"):
            draw_pairs([pairs], {"first": table, "second": table.slice(2)}, tmp_path / "x.jpg", 2)
        assert not (tmp_path / "x.jpg").exists()


@pytest.fixture(scope="module")
def paintings(tmp_path_factory) -> brueghel.Brueghel:
    folder = tmp_path_factory.mktemp("brueghel")
    names = ['Hans & "Anna" v.2.jpg', "b.jpg", "c.jpg"]
    for number, name in enumerate(names):
        write_bytes(folder / "images" / name, encode_jpeg(grey(100 + 40 * number, 160, 60 + 50 * number)))
    box = [20.0, 20.0, 60.0, 60.0]
    entries = [{"query": [names[0], box], "gt": [[names[1], box]]}]
    write_json(folder / "labels.json", {"star": entries, "leaf": [{"query": [names[1], box], "gt": [[names[1], box]]}]})
    return brueghel.load(folder / "images", folder / "labels.json")


SETTINGS = brueghel.BrueghelSettings(160, 64, (10,), (0.3,), "corrected")


def brueghel_table(dataset: brueghel.Brueghel, box: list[float]) -> pa.Table:
    star = [query.category for query in dataset.queries].index("star")
    rows = [
        {"query": star, "image": name, "score": score, "direct_box": box, "cosine_box": box, "cosine": 0.5}
        for name, score in ((dataset.images[1], 2.0), (dataset.images[2], 1.0))
    ]
    return pa.Table.from_pylist(rows)


class TestBrueghel:
    def test_frames_tell_right_pictures_and_box_colours_right_boxes(self, paintings, tmp_path):
        for name, box in (("good", [21, 21, 61, 61]), ("bad", [100, 60, 150, 95])):
            draw_brueghel(paintings, {"model": brueghel_table(paintings, box)}, SETTINGS, tmp_path / f"{name}.png")
        good, bad = read_image(tmp_path / "good.png"), read_image(tmp_path / "bad.png")
        # One of two results is right; a bad box is red in the right picture too.
        assert has(good, GREEN) > 1000 and has(good, RED) > 1000
        assert has(bad, RED) > has(good, RED) and has(bad, GREEN) < has(good, GREEN)

    def test_each_matcher_has_a_row_and_a_query_without_truth_elsewhere_none(self, paintings, tmp_path):
        table = brueghel_table(paintings, [21, 21, 61, 61])
        heights = []
        for n in (1, 3):
            tables = {f"model {k}": table for k in range(n)}
            draw_brueghel(paintings, tables, SETTINGS, tmp_path / "sheet.png")
            heights.append(read_image(tmp_path / "sheet.png").shape[0])
        assert heights[1] > heights[0] + 2 * 130
        assert heights[0] < 250


class TestPlaces:
    settings = places.PlaceSettings((160, 128), 25, 3, 1, "none", "gem", "corrected")

    @pytest.fixture
    def dataset(self, tmp_path) -> place_data.Places:
        for name, value in (("q.jpg", 50), ("d0.jpg", 100), ("d1.jpg", 150), ("d2.jpg", 200)):
            write_bytes(tmp_path / name, encode_jpeg(grey(120, 160, value)))
        positions = np.array([[0.0, 0], [0, 500], [0, 900]])
        return place_data.Places(
            tmp_path, ("q.jpg",), ("d0.jpg", "d1.jpg", "d2.jpg"), np.array([[0.0, 10]]), positions, None
        )

    def draw(self, dataset, output, scores) -> np.ndarray:
        ranking = np.array([[1, 0, 2]], np.int32)
        best = int(np.argmax(scores))
        masks = {"query_mask": bytes([255] * 80), "item_mask": bytes([0] * 40 + [255] * 40)}
        nothing = dict.fromkeys(masks)
        rows = [
            {"query": 0, "item": item, "score": score, **(masks if item == best else nothing)}
            for item, score in enumerate(scores)
        ]
        tables = {"model": pa.Table.from_pylist(rows)}
        draw_places(dataset, ranking, [ranking[0]], tables, self.settings, output, 3)
        return read_image(output)

    def test_first_ranking_and_re_ranked_best_are_framed_by_their_distance(self, dataset, tmp_path):
        better = self.draw(dataset, tmp_path / "better.png", [1.0, 0.5, 0.0])
        same = self.draw(dataset, tmp_path / "same.png", [0.0, 0.5, 0.2])
        assert has(better, GREEN) > 1000 and has(better, RED) > 1000
        assert has(same, GREEN) == 0 and has(same, RED) > has(better, RED)

    def test_both_pictures_of_the_best_match_are_lit_up_where_they_match(self, dataset, tmp_path):
        sheet = self.draw(dataset, tmp_path / "sheet.png", [1.0, 0.5, 0.0])
        # Query, best of the first ranking, then the pair: the whole query is lit, of the image its lower half.
        pair = sheet[-108 - 40 : -40, 8 + 2 * (144 + 8) + 8 :]
        # The mask ends in the middle of the image: its contour.
        assert (np.abs(pair.astype(int) - ORANGE).max(-1) < 90).sum() > 100
        # Frames are four pixels wide, and two lie between the pictures of the pair.
        assert sheet.shape[1] == 8 + 144 + 8 + (144 + 8) + 8 + (2 * 144 + 2 + 8) + 8

    def test_a_data_set_without_positives_is_an_error(self, dataset, tmp_path):
        lost = place_data.Places(
            dataset.folder, dataset.queries, dataset.database, np.array([[9e6, 0]]), dataset.database_positions, None
        )
        with pytest.raises(InputError, match="within 25 m"):
            self.draw(lost, tmp_path / "x.png", [0, 0, 0])


class TestInternet:
    @pytest.fixture
    def images(self, tmp_path) -> Collection:
        folder = tmp_path / "Car100"
        for number in range(3):
            rng = generator(1, "internet picture", number)
            truth = np.zeros((120, 150), np.uint8)
            if number < 2:
                truth[30:90, 40:110] = 255
            picture = rng.integers(0, 60, (120, 150, 3)).astype(np.uint8) + truth[..., None] // 2
            write_bytes(folder / f"{number}.jpg", encode_jpeg(picture))
            write_bytes(folder / "GroundTruth" / f"{number}.png", cv2.imencode(".png", truth)[1].tobytes())
        return internet.load(tmp_path, "Car100")

    def table(self, images: Collection, count: int = 3) -> pa.Table:
        found = np.zeros((120, 150), np.uint8)
        found[20:60, 20:60] = 255
        segmentation = cv2.imencode(".png", found)[1].tobytes()
        rows = [
            {"class": images.folder.name, "image": n, "jaccard": 0.2, "segmentation": segmentation}
            for n in images.images
        ]
        return pa.Table.from_pylist(rows[:count])

    def test_truth_is_outlined_in_green_and_the_segmentation_in_orange(self, images, tmp_path):
        masks = {"model": {"Car100": np.zeros((3, 10, 10), np.float32)}}
        draw_internet([images], masks, {"model": self.table(images)}, tmp_path / "x.png", 3)
        sheet = read_image(tmp_path / "x.png")
        assert has(sheet, GREEN) > 300 and has(sheet, (255, 140, 0)) > 300
        assert sheet.shape[1] == pytest.approx(8 + 3 * 144 + 2 * 8 + 8)

    def test_an_image_without_a_segmentation_is_an_error(self, images, tmp_path):
        masks = {"model": {"Car100": np.zeros((3, 10, 10), np.float32)}}
        with pytest.raises(InputError, match=r"model lack Car100/1\.jpg|model lack Car100/2\.jpg"):
            draw_internet([images], masks, {"model": self.table(images, 1)}, tmp_path / "x.png", 3)
