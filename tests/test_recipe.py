"""The recipe of a pair: what is drawn, by which law, and that it stays what it was.

``python tests/test_recipe.py`` freezes the present recipes anew in ``golden/recipes.json``: to be done when
``RECIPE_VERSION`` rises, never otherwise.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.files import read_json, write_json
from segswap.pairs.objects import SCHEMA, ObjectTable
from segswap.pairs.recipe import (
    KINDS,
    RECIPE_VERSION,
    PairRecipe,
    PairSettings,
    Placement,
    Rejected,
    draw_recipe,
    layout_boxes,
    pair_key,
)
from segswap.pairs.render import pair_geometry
from segswap.randomness import generator

FROZEN = Path(__file__).parent / "golden" / "recipes.json"
PUBLISHED = PairSettings(
    size=480,
    dilation=20,
    crop_probability=0.2,
    stretch=(0.7, 1.0),
    rotation=15.0,
    fit_steps=10,
    fit_decay=10.0,
    fit_min={"1obj": 0.2, "2obj": 0.5},
    min_cells=9,
    max_attempts=50,
)

# The published boxes of objects 1 and 2 in a target of 480 pixels: middle m, one cell before it b, after it n.
S, M, B, N = 480, 240, 224, 256
PUBLISHED_LAYOUTS = [
    ((0, 0, M, B), (0, N, M, S)),
    ((0, 0, B, B), (N, N, S, S)),
    ((0, 0, B, M), (N, 0, S, M)),
    ((0, 0, M, B), (0, N, S, S)),
    ((0, 0, B, M), (N, 0, S, S)),
    ((0, M, B, S), (N, M, S, S)),
    ((0, N, B, S), (N, 0, S, B)),
    ((0, N, M, S), (0, 0, S, B)),
    ((0, M, B, S), (N, 0, S, S)),
    ((M, N, S, S), (M, 0, S, B)),
    ((M, N, S, S), (0, 0, S, B)),
    ((N, M, S, S), (0, 0, B, S)),
    ((N, 0, S, M), (0, 0, B, S)),
    ((M, 0, S, B), (0, N, S, S)),
    ((0, 0, S, B), (0, N, S, S)),
    ((0, 0, B, S), (N, 0, S, S)),
]


def polygon(x: float, y: float, radius: float, corners: int) -> list[float]:
    """Return a regular polygon as a flat list x, y, ..."""
    angle = 2 * np.pi * np.arange(corners) / corners
    points = np.stack([x + radius * np.cos(angle), y + radius * np.sin(angle)], axis=1)
    return np.round(points, 2).ravel().tolist()


def frozen_table() -> ObjectTable:
    """Return a table of 8 images of 640 x 480 pixels, two objects each, that no other code draws."""
    rows = []
    for image in range(1, 9):
        for number in (0, 1):
            outline = polygon(170 + 300 * number, 200 + 10 * image, 90 + 4 * image, 5 + image % 3)
            rows.append(
                {
                    "image_id": image,
                    "file_name": f"{image}.png",
                    "width": 640,
                    "height": 480,
                    "annotation_id": 10 * image + number,
                    "category_id": 1 + (image + 2 * number) % 5,
                    "category": "any",
                    "area": 1.0,
                    "bbox": [0.0, 0.0, 1.0, 1.0],
                    "segmentation": json.dumps([outline]),
                    "iscrowd": False,
                    "touches_border": False,
                }
            )
    return ObjectTable(pa.Table.from_pylist(rows, schema=SCHEMA))


def present_recipes() -> dict[str, Any]:
    """Return recipes of some addresses and where their objects go, as frozen in ``golden/recipes.json``."""
    table, pairs = frozen_table(), []
    for kind in KINDS:
        for index in (0, 1, 2, 17, 99_999):
            recipe = draw_recipe(table, PUBLISHED, generator(1, "pair", kind, index), (1, kind, index))
            entry = {"recipe": recipe.to_flat(), "matrices": None}
            try:
                geometry = pair_geometry(table, PUBLISHED, recipe)
                entry["matrices"] = [matrix.round(9).tolist() for matrix in geometry.matrices]
                entry["source_box"] = list(geometry.source_box)
            except Rejected as reason:
                entry["rejected"] = str(reason)
            pairs.append(entry)
    return {"version": RECIPE_VERSION, "pairs": pairs}


@pytest.fixture
def draw(tiny_world):
    """A function that draws the recipe of (kind, index) from the tiny world; None when the draw is rejected."""
    table = tiny_world.table()

    def drawn(kind: str, index: int, table: ObjectTable = table, **changes: Any) -> PairRecipe | None:
        settings = dataclasses.replace(tiny_world.pair_settings, **changes)
        try:
            return draw_recipe(table, settings, generator(1, "pair", kind, index), (1, kind, index))
        except Rejected:
            return None

    return drawn


def some(draw, kind: str, n: int, **changes: Any) -> list[PairRecipe]:
    """Return the recipes of the first ``n`` addresses that are not rejected."""
    return [recipe for index in range(n) if (recipe := draw(kind, index, **changes))]


# What stays


def test_recipes_are_what_they_were_under_this_version():
    frozen, present = read_json(FROZEN), json.loads(json.dumps(present_recipes()))
    assert frozen["version"] == present["version"], (
        "RECIPE_VERSION has risen: run `python tests/test_recipe.py` to freeze the new recipes"
    )
    message = (
        "the same address gives another pair: pairs on disk would no longer be what their recipe says. "
        "Undo the change, or raise RECIPE_VERSION and run `python tests/test_recipe.py`"
    )
    for was, now in zip(frozen["pairs"], present["pairs"], strict=True):
        assert set(was["recipe"]) == set(now["recipe"]), message
        for name, value in was["recipe"].items():
            expected = pytest.approx(value, rel=1e-12) if name in FLOATS else value
            assert now["recipe"][name] == expected, f"{name}: {message}"
        assert was.get("rejected") == now.get("rejected"), message
        assert was.get("source_box") == now.get("source_box"), message
        if was["matrices"]:
            np.testing.assert_allclose(now["matrices"], was["matrices"], atol=1e-6, err_msg=message)


FLOATS = [field.name for field in dataclasses.fields(Placement) if field.name != "annotation_id"]


def test_frozen_recipes_cover_both_kinds_and_usable_pairs():
    pairs = read_json(FROZEN)["pairs"]
    for kind in KINDS:
        assert sum(pair["recipe"]["kind"] == kind and pair["matrices"] is not None for pair in pairs) >= 2
    assert {pair["recipe"]["crop"] for pair in pairs} == {True, False}


@pytest.mark.parametrize("kind", KINDS)
def test_recipe_is_a_function_of_its_address_alone(draw, kind):
    forwards = [draw(kind, index) for index in range(30)]
    backwards = [draw(kind, index) for index in reversed(range(30))]
    assert forwards == backwards[::-1]
    drawn = [recipe.placements for recipe in forwards if recipe]
    assert len(set(drawn)) == len(drawn)


def test_a_repeated_draw_goes_on_where_the_last_one_stopped(tiny_world):
    rng = generator(1, "pair", "1obj", 0)
    table, settings = tiny_world.table(), tiny_world.pair_settings
    first, second = (draw_recipe(table, settings, rng, (1, "1obj", 0), reasons) for reasons in ([], ["mask too small"]))
    assert first.placements != second.placements
    assert second.rejected == ("mask too small",)
    assert first.key == second.key == "1obj-00000000"


# What is drawn


def test_object_of_a_category_in_the_background_is_never_pasted(draw, tiny_world):
    table = tiny_world.table()
    for recipe in some(draw, "1obj", 300):
        category = table.category_of(table.row_of(recipe.source_image_id, recipe.placements[0].annotation_id))
        assert category not in table.categories_in(recipe.target_image_id)


def test_category_present_as_a_crowd_alone_is_present(make_table, draw):
    square = polygon(50, 50, 20, 4)
    table = make_table([(1, 1, square), (1, 2, square), (2, 2, square), (2, 3, square)], (100, 100), crowds=(1,))
    recipes = some(draw, "1obj", 200, table=table)
    onto_first = {recipe.placements[0].annotation_id for recipe in recipes if recipe.target_image_id == 1}
    # Category 2 is in image 1 only as a crowd: its object in image 2 may not go there.
    assert onto_first == {4}


@pytest.mark.parametrize("kind", KINDS)
def test_crowd_is_never_pasted(make_table, draw, kind):
    square = polygon(50, 50, 20, 4)
    objects = [(image, category, square) for image in range(1, 6) for category in (1, 2, image + 2)]
    crowds = tuple(range(0, len(objects), 3))
    table = make_table(objects, (100, 100), crowds)
    used = {p.annotation_id for recipe in some(draw, kind, 200, table=table) for p in recipe.placements}
    assert used
    assert not used & {position + 1 for position in crowds}


def test_background_that_holds_every_category_is_rejected(make_table, draw):
    table = make_table([(1, 1, polygon(50, 50, 20, 4))], (100, 100))
    with pytest.raises(Rejected, match="every category"):
        draw_recipe(table, PUBLISHED, generator(1), (1, "1obj", 0))


def test_source_of_one_category_is_rejected_for_two_objects(make_table):
    square = polygon(50, 50, 20, 4)
    table = make_table([(1, 1, square), (1, 1, square)], (100, 100))
    with pytest.raises(Rejected, match="two categories"):
        draw_recipe(table, PUBLISHED, generator(1), (1, "2obj", 0))


def test_two_objects_are_of_two_categories_of_one_photo(draw, tiny_world):
    table = tiny_world.table()
    recipes = some(draw, "2obj", 300)
    for recipe in recipes:
        rows = [table.row_of(recipe.source_image_id, placement.annotation_id) for placement in recipe.placements]
        assert {table.image_of(row) for row in rows} == {recipe.source_image_id}
        assert len({table.category_of(row) for row in rows}) == len(rows) == 2
        assert not recipe.crop
    assert len({recipe.target_image_id for recipe in recipes}) > 30


def test_categories_are_equally_likely_however_many_objects_they_have(make_table, draw):
    """A category of one object is drawn as often as one of nineteen."""
    square = polygon(50, 50, 20, 4)
    objects = [(1, 1, square), *((2, 2, square) for _ in range(19)), (3, 3, square)]
    recipes = some(draw, "1obj", 1500, table=make_table(objects, (100, 100)))
    onto_third = [recipe.placements[0].annotation_id for recipe in recipes if recipe.target_image_id == 3]
    assert np.mean([number == 1 for number in onto_third]) == pytest.approx(0.5, abs=0.1)


def test_all_sixteen_layouts_occur_about_equally_often(draw):
    layouts = [recipe.layout for recipe in some(draw, "2obj", 1600)]
    counts = np.bincount(layouts, minlength=16)
    assert len(counts) == 16
    expected = len(layouts) / 16
    assert (np.abs(counts - expected) < 5 * np.sqrt(expected)).all()


@pytest.mark.parametrize(("probability", "low", "high"), [(0.0, 0, 0), (0.2, 0.12, 0.28), (1.0, 1, 1)])
def test_source_is_cropped_as_often_as_asked(draw, probability, low, high):
    cropped = np.mean([recipe.crop for recipe in some(draw, "1obj", 400, crop_probability=probability)])
    assert low <= cropped <= high


@pytest.mark.parametrize("kind", KINDS)
def test_draws_span_their_bounds_and_nothing_beyond(draw, tiny_world, kind):
    settings = tiny_world.pair_settings
    placements = [placement for recipe in some(draw, kind, 600) for placement in recipe.placements]
    bounds = {
        "stretch_x": settings.stretch,
        "stretch_y": settings.stretch,
        "angle": (-settings.rotation, settings.rotation),
        "position_x": (0, 1),
        "position_y": (0, 1),
    }
    for name, (low, high) in bounds.items():
        values = np.array([getattr(placement, name) for placement in placements])
        assert low <= values.min() < low + 0.02 * (high - low), name
        assert high - 0.02 * (high - low) < values.max() <= high, name
        # Uniform: five standard errors of the mean.
        tolerance = 5 * (high - low) / np.sqrt(12 * len(values))
        assert values.mean() == pytest.approx((low + high) / 2, abs=tolerance), name


@pytest.mark.parametrize("kind", KINDS)
def test_sizes_follow_the_published_law(draw, kind):
    changes = {"fit_min": PUBLISHED.fit_min, "fit_steps": 10, "fit_decay": 10.0}
    fits = np.array([p.fit for recipe in some(draw, kind, 1500, **changes) for p in recipe.placements])
    sizes, weights = np.linspace(PUBLISHED.fit_min[kind], 1, 10), np.exp(-np.arange(10) / 10)
    shares = np.isclose(fits[:, None], sizes).mean(0)
    assert shares.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares, weights / weights.sum(), atol=5 * np.sqrt(0.1 / len(fits)))


# Layouts


@pytest.mark.parametrize("layout", range(16))
def test_layouts_are_the_published_ones(layout):
    assert layout_boxes(layout, 480) == PUBLISHED_LAYOUTS[layout]


@given(layout=st.integers(0, 15), cells=st.integers(4, 40))
def test_boxes_lie_in_the_target_one_cell_apart(layout, cells):
    size = 16 * cells
    boxes = np.array(layout_boxes(layout, size))
    assert (boxes >= 0).all()
    assert (boxes <= size).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    gaps = np.maximum(boxes[0, :2] - boxes[1, 2:], boxes[1, :2] - boxes[0, 2:])
    assert gaps.max() >= 16


# Keeping a recipe

FINITE = st.floats(allow_nan=False, allow_infinity=False)
PLACEMENTS = st.builds(Placement, st.integers(0, 10**9), FINITE, FINITE, FINITE, FINITE, FINITE, FINITE)
RECIPES = st.builds(
    PairRecipe,
    version=st.just(RECIPE_VERSION),
    seed=st.integers(0, 2**63 - 1),
    kind=st.sampled_from(KINDS),
    index=st.integers(0, 10**8 - 1),
    source_image_id=st.integers(0, 10**12),
    target_image_id=st.integers(0, 10**12),
    crop=st.booleans(),
    layout=st.integers(-1, 15),
    placements=st.lists(PLACEMENTS, min_size=1, max_size=2).map(tuple),
    rejected=st.lists(st.text("abc ", min_size=1), max_size=3).map(tuple),
)


@given(recipe=RECIPES)
def test_recipe_survives_being_flat_json(recipe):
    flat = json.loads(json.dumps(recipe.to_flat()))
    assert PairRecipe.from_flat({**flat, "style_a": "other keys are ignored"}) == recipe
    assert recipe.key == pair_key(recipe.kind, recipe.index)


@pytest.mark.parametrize("version", [0, RECIPE_VERSION + 1])
def test_recipe_of_another_version_is_refused(version):
    flat = {**read_json(FROZEN)["pairs"][0]["recipe"], "version": version}
    with pytest.raises(ValueError, match=rf"version {version}.*version {RECIPE_VERSION}"):
        PairRecipe.from_flat(flat)


def test_key_holds_no_dot_and_sorts_by_index():
    keys = [pair_key("1obj", index) for index in (0, 9, 10, 12_345_678)]
    assert keys == sorted(keys)
    assert not any("." in key for key in keys)
    assert keys[-1] == "1obj-12345678"


if __name__ == "__main__":
    write_json(FROZEN, present_recipes())
