"""The drawn photos: textures, sprites and scenes, and the COCO data set made of them."""

from __future__ import annotations

import contextlib
import io
import itertools
from collections import Counter

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from segswap.demo_world.coco import SHAPES, draw_coco, draw_crowd, draw_scene, draw_style_images
from segswap.demo_world.scenes import draw_background, locate_sprite, paint_sprite, sprite_matrix, to_uint8
from segswap.demo_world.sprites import CATEGORIES, SPRITE_SIZE, draw_sprite
from segswap.demo_world.textures import FIELDS, colour, random_palette, random_texture, stretch
from segswap.files import read_json
from segswap.images import UnreadableImage, read_image
from segswap.listing import list_images
from segswap.pairs.annotation_masks import decode_segmentation
from segswap.randomness import generator

# Textures


@pytest.mark.parametrize("pattern", FIELDS)
@pytest.mark.parametrize("shape", [(64, 96), (33, 20)])
def test_fields_span_no_more_than_0_to_1(pattern, shape):
    field = FIELDS[pattern](generator(1, pattern), shape, 15.0)
    assert (field.shape, field.dtype) == (shape, np.float32)
    assert field.min() >= 0
    assert field.max() <= 1
    assert field.std() > 0.05


@pytest.mark.parametrize("pattern", FIELDS)
def test_textures_are_functions_of_the_generator(pattern):
    first, same, other = (
        random_texture(rng, (40, 50), random_palette(rng), pattern, 12.0)
        for rng in (generator(seed, "texture") for seed in (1, 1, 2))
    )
    np.testing.assert_array_equal(first, same)
    assert first.shape == (40, 50, 3)
    assert first.min() >= 0
    assert first.max() <= 1
    assert np.abs(first - other).mean() > 0.02


def test_stretched_field_spans_0_to_1_and_a_flat_one_is_0():
    assert (stretch(np.array([[2.0, 4.0, 6.0]])) == [[0, 0.5, 1]]).all()
    assert not stretch(np.full((3, 3), 7.0)).any()


def test_colours_run_along_the_palette():
    palette = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 1]], np.float32)
    found = colour(np.array([[0.0, 0.25, 0.5, 1.0]], np.float32), palette)
    np.testing.assert_allclose(found[0], [[0, 0, 0], [0.5, 0, 0], [1, 0, 0], [1, 1, 1]], atol=0.01)


def test_palette_of_one_hue_keeps_its_colours_related():
    palettes = np.concatenate([random_palette(generator(n, "palette"), 5, 0.0, 0.05) for n in range(20)])
    assert palettes.min() >= 0
    assert palettes.max() <= 1
    # Around red: the red channel is never the smallest.
    assert (palettes[:, 0] >= palettes.min(1)).all()
    assert (palettes[:, 0] > palettes[:, 1:].min(1)).mean() > 0.95


# Sprites


@pytest.mark.parametrize("category", CATEGORIES, ids=lambda category: category.name)
def test_every_category_draws_a_whole_object_unlike_the_next(category):
    sprites = [draw_sprite(generator(seed, "sprite"), category) for seed in (1, 2)]
    for sprite in sprites:
        mask = sprite.mask()
        assert sprite.category == category.name
        assert (mask.shape, set(np.unique(mask))) == ((SPRITE_SIZE, SPRITE_SIZE), {0, 255})
        assert 0.1 < (mask > 0).mean() < 0.9
        assert (sprite.rgb.shape, sprite.rgb.dtype) == ((SPRITE_SIZE, SPRITE_SIZE, 3), np.float32)
        assert sprite.rgb.min() >= 0
        assert sprite.rgb.max() <= 1
        assert sprite.rgb[mask > 0].std() > 0.05
        outlines = np.concatenate(sprite.parts)
        assert outlines.min() >= 0
        assert outlines.max() <= 1
    assert np.abs(sprites[0].rgb - sprites[1].rgb).mean() > 0.05


def test_ring_has_a_hole():
    sprite = draw_sprite(generator(1, "sprite"), next(c for c in CATEGORIES if c.name == "ring"))
    mask = sprite.mask()
    assert sprite.holes
    assert mask[SPRITE_SIZE // 2, SPRITE_SIZE // 2] == 0
    assert cv2.connectedComponents((mask == 0).astype(np.uint8))[0] == 3


# Scenes


@pytest.mark.parametrize("seed", range(6))
def test_sprite_is_painted_where_its_outlines_say(seed):
    rng = generator(seed, "placed")
    shape = (120, 160)
    sprite = draw_sprite(rng, CATEGORIES[seed])
    placed = locate_sprite(sprite, sprite_matrix((80, 60), rng.uniform(50, 90), rng.uniform(-25, 25)))
    scene = np.full((*shape, 3), 2.0, np.float32)  # a value that no sprite has
    painted = np.abs(paint_sprite(scene, placed) - scene).max(-1) > 0.5
    mask = placed.mask(shape) > 0
    assert (painted & mask).sum() / (painted | mask).sum() > 0.95
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5), np.uint8)) > 0
    np.testing.assert_array_equal(paint_sprite(scene, placed)[~grown], scene[~grown])
    ys, xs = np.nonzero(mask)
    np.testing.assert_allclose(placed.box, [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], atol=1.5)


def test_sprite_matrix_puts_the_middle_at_the_centre():
    matrix = sprite_matrix((31.0, 47.0), 60, 20)
    np.testing.assert_allclose(matrix @ [SPRITE_SIZE / 2, SPRITE_SIZE / 2, 1], [31, 47, 1])
    assert np.sqrt(np.linalg.det(matrix[:2, :2])) == pytest.approx(60 / SPRITE_SIZE)


@pytest.mark.parametrize("shape", SHAPES)
def test_objects_of_a_scene_do_not_overlap(shape):
    scene, placed, taken = draw_scene(generator(3, "scene"), shape, 4)
    assert scene.shape == (*shape, 3)
    assert len(placed) >= 1
    masks = [p.mask(shape) > 0 for p in placed]
    for first, second in itertools.combinations(masks, 2):
        assert not (first & second).any()
    assert taken[np.any(masks, axis=0)].all()


def test_backgrounds_are_unlike_each_other_and_within_range():
    first, second = (draw_background(generator(seed, "background"), (100, 140)) for seed in (1, 2))
    assert first.shape == (100, 140, 3)
    assert min(first.min(), second.min()) >= 0
    assert max(first.max(), second.max()) <= 1
    assert np.abs(first - second).mean() > 0.05


def test_crowd_lies_on_free_pixels_alone():
    shape = (120, 160)
    free = np.zeros(shape, bool)
    free[:, :100] = True
    scene = np.zeros((*shape, 3), np.float32)
    drawn, crowd = draw_crowd(generator(1, "crowd"), scene, free)
    assert crowd.any()
    assert not (crowd & ~free).any()
    np.testing.assert_array_equal(drawn[~crowd], scene[~crowd])


def test_pictures_are_rounded_and_clipped_to_bytes():
    assert to_uint8(np.array([-1.0, 0.0, 0.5, 1.0, 2.0])).tolist() == [0, 0, 128, 255, 255]


# The data set


@pytest.fixture(scope="module")
def content(tiny_world):
    return read_json(tiny_world.annotations)


def test_data_set_is_read_by_pycocotools(tiny_world):
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(tiny_world.annotations))
    assert len(coco.getImgIds()) == 40
    assert len(coco.getCatIds()) == len(CATEGORIES)
    assert {coco.cats[n]["name"] for n in coco.getCatIds()} == {category.name for category in CATEGORIES}
    for annotation in coco.loadAnns(coco.getAnnIds()):
        if annotation["segmentation"] != [[]]:
            size = coco.imgs[annotation["image_id"]]
            assert coco.annToMask(annotation).shape == (size["height"], size["width"])


def test_annotations_say_what_their_masks_are(content):
    images = {image["id"]: image for image in content["images"]}
    assert len({annotation["id"] for annotation in content["annotations"]}) == len(content["annotations"])
    for annotation in content["annotations"]:
        if annotation["segmentation"] == [[]]:
            continue
        image = images[annotation["image_id"]]
        mask = decode_segmentation(annotation["segmentation"], image["height"], image["width"])
        # Polygons are filled by other rules than the drawing: a pixel along the outline, two at a thin tip.
        assert mask.sum() == pytest.approx(annotation["area"], rel=0.08)
        ys, xs = np.nonzero(mask)
        x, y, width, height = annotation["bbox"]
        found = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        np.testing.assert_allclose(found, [x, y, x + width, y + height], atol=2.5)


def test_pictures_have_the_size_that_is_annotated_and_one_is_cut_short(tiny_world, content):
    unreadable = []
    for image in content["images"]:
        try:
            picture = read_image(tiny_world.images / image["file_name"])
        except UnreadableImage:
            unreadable.append(image["id"])
            continue
        assert picture.shape == (image["height"], image["width"], 3)
    assert unreadable == [21]


def test_data_set_holds_the_oddities_of_real_ones(content):
    segmentations = [annotation["segmentation"] for annotation in content["annotations"]]
    kinds = Counter(
        type(s["counts"]).__name__ if isinstance(s, dict) else "parts" if len(s) > 1 else "polygon"
        for s in segmentations
    )
    assert {"str", "list", "parts", "polygon"} <= set(kinds)
    assert segmentations.count([[]]) == 1
    crowds = [annotation for annotation in content["annotations"] if annotation["iscrowd"]]
    assert crowds
    assert all(isinstance(crowd["segmentation"]["counts"], list) for crowd in crowds)


def test_scene_is_a_function_of_seed_split_and_number(tmp_path):
    """However many are drawn, and again: only the picture that is cut short moves with the number of scenes."""
    for name, seed, split, n in (("a", 1, "train", 3), ("b", 1, "train", 6), ("c", 1, "val", 3), ("d", 2, "train", 3)):
        draw_coco(tmp_path / name, seed, split, n)
    pictures = {name: [path.read_bytes() for path in list_images(tmp_path / name / "images")] for name in "abcd"}
    assert [pictures["a"][n] for n in (0, 2)] == [pictures["b"][n] for n in (0, 2)]
    assert not set(pictures["a"]) & (set(pictures["c"]) | set(pictures["d"]))
    before = (tmp_path / "a" / "annotations.json").read_bytes()
    draw_coco(tmp_path / "a", 1, "train", 3)
    assert (tmp_path / "a" / "annotations.json").read_bytes() == before
    assert [path.read_bytes() for path in list_images(tmp_path / "a" / "images")] == pictures["a"]


def test_style_images_differ_and_do_not_depend_on_their_number(tmp_path, tiny_world):
    draw_style_images(tmp_path / "few", tiny_world.seed, 3)
    few, many = (list_images(folder) for folder in (tmp_path / "few", tiny_world.style_images))
    assert [path.read_bytes() for path in few] == [path.read_bytes() for path in many[:3]]
    means = np.array([read_image(path).mean((0, 1)) for path in many])
    distances = [np.abs(a - b).max() for a, b in itertools.combinations(means, 2)]
    assert np.median(distances) > 30
