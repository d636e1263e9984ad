"""The demo world's miniatures: their layouts, truths, determinism, and that they are a fair test."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from segswap.benchmarks import brueghel, internet, place_data
from segswap.benchmarks.metrics import first_ranks, positives_within, recall_at
from segswap.demo_world.brueghel import detail_category, draw_brueghel, draw_detail, labels_of, plan_paintings
from segswap.demo_world.figures import FIGURES, draw_figure
from segswap.demo_world.internet import CLASSES, draw_internet
from segswap.demo_world.places import draw_pitts30k, draw_tokyo247, layout_descriptor
from segswap.demo_world.scenes import locate_sprite, place_inside, restyle, sprite_matrix
from segswap.demo_world.sprites import CATEGORIES, SPRITE_SIZE, Sprite, draw_sprite
from segswap.demo_world.squares import (
    BASE,
    PER_RADIAN,
    RADIUS,
    WALL_WIDTH,
    Camera,
    Scene,
    by_night,
    draw_square,
    photograph,
)
from segswap.errors import InputError
from segswap.files import read_json
from segswap.images import read_image
from segswap.randomness import generator

SEED = 3
N_DETAILS, COPIES, N_DISTRACTORS = 5, 4, 6
N_PLACES, N_QUERIES = 6, 12
TOKYO = place_data.PlaceFiles(
    "query_list.npy",
    "database_list.npy",
    query_positions="query_utm.npy",
    database_positions="database_utm.npy",
    first_ranking="netvlad_scores.npy",
)
PITTS = place_data.PlaceFiles("queries.txt", "database.txt", positions="positions.npz")


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder by relative name."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def pictures(folder: Path) -> dict[str, bytes]:
    return {name: data for name, data in contents(folder).items() if name.endswith((".jpg", ".png"))}


@pytest.fixture(scope="module")
def paintings(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "brueghel"
    draw_brueghel(folder, SEED, N_DETAILS, COPIES, N_DISTRACTORS)
    return folder


@pytest.fixture(scope="module")
def tokyo(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "tokyo247"
    draw_tokyo247(folder, SEED, N_PLACES, N_QUERIES)
    return folder


@pytest.fixture(scope="module")
def pitts(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "pitts30k"
    draw_pitts30k(folder, SEED, N_PLACES, N_QUERIES)
    return folder


@pytest.fixture(scope="module")
def web(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("world") / "internet"
    draw_internet(folder, SEED, 4, 2)
    return folder


# Every miniature: same seed, same bytes; other numbers leave the rest alone

DRAWERS = {
    "brueghel": (draw_brueghel, (2, 2, 1), (3, 3, 2)),
    "tokyo247": (draw_tokyo247, (1, 1), (2, 3)),
    "pitts30k": (draw_pitts30k, (1, 1), (3, 4)),
    "internet": (draw_internet, (2, 1), (3, 2)),
}


@pytest.mark.parametrize("name", DRAWERS)
def test_same_seed_gives_same_bytes_and_other_seed_other_pictures(tmp_path, name):
    draw, few, _ = DRAWERS[name]
    for folder, seed in (("a", 1), ("b", 1), ("c", 2)):
        draw(tmp_path / folder, seed, *few)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    ours, other = pictures(tmp_path / "a"), pictures(tmp_path / "c")
    grounds = {name for name in ours if name.endswith(".jpg")}
    assert not {ours[name] for name in grounds} & set(other.values())


@pytest.mark.parametrize("name", DRAWERS)
def test_larger_miniature_holds_the_smaller_one(tmp_path, name):
    draw, few, many = DRAWERS[name]
    draw(tmp_path / "few", SEED, *few)
    draw(tmp_path / "many", SEED, *many)
    small, large = pictures(tmp_path / "few"), pictures(tmp_path / "many")
    assert len(large) > len(small)
    assert all(large[picture] == data for picture, data in small.items())


@pytest.mark.parametrize(
    ("draw", "numbers"),
    [(draw_brueghel, (0, 3, 1)), (draw_brueghel, (2, 1, 1)), (draw_tokyo247, (0, 3)), (draw_pitts30k, (3, 0))]
    + [(draw_internet, (1, 1))],
)
def test_numbers_without_a_benchmark_are_refused(tmp_path, draw, numbers):
    with pytest.raises(InputError, match="set at least"):
        draw(tmp_path / "world", 1, *numbers)
    assert not list(tmp_path.iterdir())


def test_existing_folder_is_replaced_whole(tmp_path):
    (tmp_path / "world").mkdir()
    (tmp_path / "world" / "old.jpg").write_bytes(b"old")
    draw_internet(tmp_path / "world", SEED, 2, 1)
    assert {path.name for path in tmp_path.iterdir()} == {"world"}
    assert not (tmp_path / "world" / "old.jpg").exists()


# Brueghel


def test_brueghel_loads_with_all_queries(paintings):
    dataset = brueghel.load(paintings / "images", paintings / "labels.json")
    assert len(dataset.queries) == N_DETAILS * COPIES
    plan = plan_paintings(SEED, N_DETAILS, COPIES)
    assert len(dataset.images) == len(plan) + N_DISTRACTORS
    assert any(len(painting.details) == 2 for painting in plan)
    categories = {query.category for query in dataset.queries}
    assert len(categories) == N_DETAILS
    assert all(name.partition("-")[0] in {c.name for c in CATEGORIES} for name in categories)


def test_brueghel_truths_are_all_appearances_in_other_images(paintings):
    for entries in read_json(paintings / "labels.json").values():
        appearances = [tuple(map(str, entry["query"])) for entry in entries]
        assert len(set(appearances)) == COPIES
        for entry in entries:
            truths = {tuple(map(str, truth)) for truth in entry["gt"]}
            assert truths == set(appearances) - {tuple(map(str, entry["query"]))}


def test_brueghel_names_are_as_awkward_as_published(tmp_path):
    draw_brueghel(tmp_path / "b", 1, 6, 3, 6)
    names = [path.name for path in (tmp_path / "b" / "images").iterdir()]
    assert any("&" in name for name in names)
    assert any('"' in name for name in names)
    assert any("'" in name for name in names)
    assert all(name.count(".") > 1 for name in names)


def test_brueghel_boxes_are_inside_and_large_enough_for_a_small_model(paintings):
    dataset = brueghel.load(paintings / "images", paintings / "labels.json")
    for query in dataset.queries:
        height, width = read_image(dataset.folder / query.image).shape[:2]
        x1, y1, x2, y2 = query.box
        assert 0 <= x1 < x2 <= width
        assert 0 <= y1 < y2 <= height
        assert 34 <= 160 * max((x2 - x1) / width, (y2 - y1) / height) <= 110


def masked_correlation(crop: np.ndarray, sprite: Sprite) -> float:
    """Correlation of a crop's lightness with a sprite's, over the sprite."""
    mask = sprite.mask() > 0
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    part = np.s_[ys[0] : ys[-1] + 1, xs[0] : xs[-1] + 1]
    own = cv2.cvtColor(sprite.rgb[part], cv2.COLOR_RGB2Lab)[..., 0]
    seen = cv2.cvtColor(crop.astype(np.float32) / 255, cv2.COLOR_RGB2Lab)[..., 0]
    seen = cv2.resize(seen, own.shape[::-1], interpolation=cv2.INTER_LINEAR)
    seen, own = (cv2.GaussianBlur(picture, (0, 0), 4)[mask[part]] for picture in (seen, own))
    return float(np.corrcoef(seen, own)[0, 1])


def test_brueghel_boxes_hold_their_detail(paintings):
    """Turned by up to 12 degrees the detail still correlates with its drawing, better than the others do."""
    dataset = brueghel.load(paintings / "images", paintings / "labels.json")
    sprites = {detail_category(SEED, n)[1]: draw_detail(SEED, n) for n in range(N_DETAILS)}
    own, right = [], 0
    for query in dataset.queries:
        x1, y1, x2, y2 = map(int, query.box)
        crop = read_image(dataset.folder / query.image)[y1:y2, x1:x2]
        found = {category: masked_correlation(crop, sprite) for category, sprite in sprites.items()}
        own.append(found[query.category])
        right += max(found, key=found.get) == query.category
    assert np.median(own) > 0.6
    assert right >= 0.85 * len(own)


def test_labels_leave_the_query_image_out():
    labels = labels_of({"star-1": [("a.jpg", [0, 0, 2, 2]), ("a.jpg", [4, 4, 6, 6]), ("b.jpg", [1, 1, 3, 3])]})
    assert [entry["gt"] for entry in labels["star-1"]] == [
        [["b.jpg", [1, 1, 3, 3]]],
        [["b.jpg", [1, 1, 3, 3]]],
        [["a.jpg", [0, 0, 2, 2]], ["a.jpg", [4, 4, 6, 6]]],
    ]


def test_categories_are_distinct_and_kinds_come_in_turn():
    labels = [detail_category(1, n)[1] for n in range(20)]
    assert len(set(labels)) == 20
    assert {label.partition("-")[0] for label in labels[:8]} == {category.name for category in CATEGORIES}


# Squares


def marked_wall(azimuth: float) -> Scene:
    """A wall with one white column."""
    wall = np.zeros((BASE, WALL_WIDTH, 3), np.float32)
    middle = round(np.radians(azimuth) * PER_RADIAN)
    wall[:, [(middle + shift) % WALL_WIDTH for shift in range(-8, 8)]] = 1
    return Scene(wall, np.zeros((512, 512, 3), np.float32))


def marked_columns(scene: Scene, camera: Camera) -> np.ndarray:
    picture = photograph(scene, camera, (192, 144))
    return np.flatnonzero(picture[:20, :, 0].mean(0) > 0.5)


@pytest.mark.parametrize("azimuth", [0, 90, 200, 359])
def test_camera_sees_its_heading_in_the_middle(azimuth):
    columns = marked_columns(marked_wall(azimuth), Camera((0, 0), azimuth, pitch=0))
    assert columns.mean() == pytest.approx(95.5, abs=1.5)


def test_camera_turned_right_sees_the_mark_on_the_left():
    columns = marked_columns(marked_wall(90), Camera((0, 0), 100, pitch=0))
    assert columns.mean() == pytest.approx(95.5 - 96 / np.tan(np.radians(30)) * np.tan(np.radians(10)), abs=1.5)


def test_mark_grows_as_the_camera_comes_near():
    far, near = (len(marked_columns(marked_wall(0), Camera((0, y), 0, pitch=0))) for y in (-8, 8))
    assert near / far == pytest.approx((RADIUS + 8) / (RADIUS - 8), rel=0.2)


def test_camera_moved_east_sees_the_northern_mark_on_the_left():
    columns = marked_columns(marked_wall(0), Camera((5, 0), 0, pitch=0))
    assert columns.mean() == pytest.approx(95.5 - 96 / np.tan(np.radians(30)) * 5 / RADIUS, abs=2)


def test_camera_looking_up_sees_more_wall_than_ground():
    scene = Scene(np.ones((BASE, WALL_WIDTH, 3), np.float32), np.zeros((512, 512, 3), np.float32))
    low, high = (photograph(scene, Camera((0, 0), 0, pitch=p), (192, 144)).mean() for p in (0, 10))
    assert 0.5 < low < high < 1


def test_camera_outside_the_square_is_refused():
    with pytest.raises(ValueError, match="outside"):
        photograph(marked_wall(0), Camera((RADIUS, 1), 0), (32, 24))


def test_night_is_dark_with_lit_windows():
    square = draw_square(generator(1, "square"))
    night = by_night(generator(1, "night"), square).wall
    lit = square.lamps.max(2) > 0.5
    assert 0.01 < lit.mean() < 0.2
    assert np.median(night[~lit]) < 0.15
    assert np.median(night[lit].max(1)) > 0.6


# Tokyo 24/7 and Pitts30k


def test_tokyo_loads_with_twelve_consecutive_views_per_place(tokyo):
    dataset = place_data.load(tokyo, TOKYO)
    assert len(dataset.database) == 12 * N_PLACES
    assert len(dataset.queries) == N_QUERIES
    for place in range(N_PLACES):
        views = slice(12 * place, 12 * place + 12)
        assert len({Path(name).parent for name in dataset.database[views]}) == 1
        assert np.ptp(dataset.database_positions[views], axis=0).max() == 0
    assert read_image(tokyo / dataset.queries[0]).shape == (144, 192, 3)


def test_tokyo_places_lie_apart_and_every_query_has_its_place(tokyo):
    dataset = place_data.load(tokyo, TOKYO)
    stations = dataset.database_positions[::12]
    distance = np.linalg.norm(stations[:, None] - stations, axis=2)[~np.eye(N_PLACES, dtype=bool)]
    assert distance.min() >= 60
    for query, found in enumerate(positives_within(dataset.query_positions, dataset.database_positions, 25)):
        place = int(Path(dataset.queries[query]).name[:5])
        assert list(found) == list(range(12 * place, 12 * place + 12))


def test_tokyo_neighbouring_views_overlap(tokyo):
    """A column of one view appears further left in the next, 30 degrees to the right."""
    dataset = place_data.load(tokyo, TOKYO)
    first, second = (cv2.cvtColor(read_image(tokyo / name), cv2.COLOR_RGB2GRAY) for name in dataset.database[:2])
    found = cv2.matchTemplate(second, first[30:110, 130:170], cv2.TM_CCOEFF_NORMED)
    _, best, _, (x, _) = cv2.minMaxLoc(found)
    assert best > 0.6
    assert x < 80


def test_tokyo_queries_are_darker_than_the_database(tokyo):
    dataset = place_data.load(tokyo, TOKYO)
    night, day = ([read_image(tokyo / name).mean() for name in names] for names in (dataset.queries, dataset.database))
    assert max(night) < min(day)


def test_tokyo_first_ranking_is_plausible_and_imperfect(tokyo):
    dataset = place_data.load(tokyo, TOKYO)
    scores = np.load(tokyo / "netvlad_scores.npy", allow_pickle=False)
    assert scores.shape == (N_QUERIES, 12 * N_PLACES)
    assert scores.dtype == np.float32
    positives = positives_within(dataset.query_positions, dataset.database_positions, 25)
    recall = recall_at(first_ranks(np.argsort(-scores, axis=1), positives), (1, 10))
    assert 0 < recall[1] < 1
    assert recall[10] > recall[1]


def test_layout_descriptor_ignores_colour_and_inversion():
    picture = (255 * draw_sprite(generator(1, "any"), CATEGORIES[0]).rgb).astype(np.uint8)
    plain, inverted = layout_descriptor(picture), layout_descriptor(255 - picture)
    assert plain @ plain == pytest.approx(1, abs=1e-5)
    assert plain @ inverted > 0.95


def test_pitts_loads_with_positives_for_every_query(pitts):
    dataset = place_data.load(pitts, PITTS)
    assert len(dataset.database) == 4 * N_PLACES
    assert len(dataset.queries) == N_QUERIES
    assert dataset.first_ranking is None
    found = positives_within(dataset.query_positions, dataset.database_positions, 25)
    neighbours = [{int(index) // 4 for index in items} for items in found]
    assert all(int(Path(dataset.queries[n]).name[:6]) in items for n, items in enumerate(neighbours))
    assert any(len(items) > 1 for items in neighbours)
    assert all(len(items) <= 2 for items in neighbours)
    with np.load(pitts / "positions.npz", allow_pickle=False) as arrays:
        assert arrays["posDistThr"] == 25


# Internet


@pytest.mark.parametrize("name", CLASSES)
def test_internet_loads_with_objects_and_empty_noise(web, name):
    images = internet.load(web, name)
    assert len(images.images) == 6
    for image in images.images:
        picture = read_image(images.folder / image)
        truth = cv2.imread(str(internet.truth_path(images, image)), cv2.IMREAD_UNCHANGED)
        assert truth.shape == picture.shape[:2]
        assert set(np.unique(truth)) <= {0, 255}
        share = (truth > 0).mean()
        assert share == 0 if image.startswith("noise") else 0.14 <= share <= 0.4


def test_figures_of_a_class_share_their_outline_and_not_their_coat():
    for name in FIGURES:
        first, second = (draw_figure(generator(seed, "figure"), name) for seed in (1, 2))
        assert (first.mask() == second.mask()).all()
        assert np.abs(first.rgb - second.rgb)[first.mask() > 0].mean() > 0.1


# Placing and restyling


@pytest.mark.parametrize("size", [40, 160, 600])
def test_sprite_is_placed_inside(size):
    rng = generator(1, "placing", size)
    for _ in range(20):
        sprite = draw_sprite(rng, CATEGORIES[rng.integers(len(CATEGORIES))])
        x1, y1, x2, y2 = place_inside(rng, sprite, (160, 240), size, rng.uniform(-30, 30)).box
        assert min(x1, y1, 240 - x2, 160 - y2) > -1e-6
    free = locate_sprite(sprite, sprite_matrix((0, 0), SPRITE_SIZE, 0)).box
    if size == 600:
        assert max((x2 - x1) / 240, (y2 - y1) / 160) == pytest.approx(1)
    assert free[2] - free[0] < SPRITE_SIZE


def test_restyling_keeps_structure_and_changes_colours():
    picture = draw_sprite(generator(1, "any"), CATEGORIES[1]).rgb
    same, other = (restyle(generator(1, "mood"), picture, (strength, strength)) for strength in (0, 1))
    assert np.abs(same - picture).max() < 0.02
    assert np.abs(other - picture).mean() > 0.05
    grey = [cv2.cvtColor(p, cv2.COLOR_RGB2GRAY).ravel() for p in (picture, other)]
    assert np.corrcoef(grey)[0, 1] > 0.8
