"""Planted details: labels say where the objects lie, and nothing depends on chance but the seed."""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
import pytest

from segswap.benchmarks import brueghel
from segswap.benchmarks.planted import PlantedSettings, plant, plant_details
from segswap.drawing import fit
from segswap.errors import InputError
from segswap.files import read_json
from segswap.images import read_image
from segswap.listing import list_images
from segswap.pairs.style import Reinhard
from segswap.randomness import generator

SETTINGS = PlantedSettings(
    details=4,
    copies=3,
    distractors=2,
    size=256,
    scale=(0.3, 0.5),
    rotation=15.0,
    strength=(0.0, 0.5),
    dilation=2,
)


def make(world, folder, settings=SETTINGS, seed=3, styled=True):
    stylist, styles = (Reinhard(), world.styles()) if styled else (None, None)
    plant_details(world.photos(), world.style_images, stylist, styles, folder, settings, seed)
    return folder


@pytest.fixture(scope="module")
def made(tiny_world, tmp_path_factory):
    return make(tiny_world, tmp_path_factory.mktemp("planted") / "set")


def digests(folder) -> dict[str, str]:
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.*")}


def test_the_set_is_one_of_brueghel_s_format(made):
    dataset = brueghel.load(made / "images", made / "labels.json")
    assert len(dataset.images) == 4 * 3 + 2
    assert len(dataset.queries) == 4 * 3
    for query in dataset.queries:
        assert len(query.truths) == 2 and query.image not in {name for name, _ in query.truths}
        height, width = read_image(made / "images" / query.image).shape[:2]
        assert max(height, width) == 256
        x1, y1, x2, y2 = query.box
        assert 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height
        # The object just fits a square of 0.3 to 0.5 of the shorter side, its margin included.
        assert 0.15 * min(height, width) < max(x2 - x1, y2 - y1) <= 0.5 * min(height, width) + 1


def test_pictures_differ_from_their_paintings_in_the_box_alone(tiny_world):
    photos, painting = tiny_world.photos(), fit(read_image(list_images(tiny_world.style_images)[0]), 256)
    for seed in range(6):
        row = int(photos.table.objects_of(int(photos.table.categories[seed % 3]))[0])
        planted, (x1, y1, x2, y2) = plant(photos, row, painting, SETTINGS, generator(seed, "plant"))
        change = np.abs(planted.astype(int) - painting).max(-1)
        # The mask that is blended is wider than the object by its dilation.
        margin = 2 + SETTINGS.dilation
        change[max(0, y1 - margin) : y2 + margin, max(0, x1 - margin) : x2 + margin] = 0
        assert not change.any()


def test_every_detail_is_of_a_photo_of_its_own_and_paintings_are_used_in_turn(tiny_world, made):
    pictures = [read_image(path) for path in sorted((made / "images").iterdir())]
    assert len({picture.tobytes() for picture in pictures}) == len(pictures)
    plain = make(tiny_world, made.parent / "plain", styled=False)
    # Six paintings, fourteen pictures: each is used at least twice, and mirrored the second time.
    assert len(list((plain / "images").iterdir())) == 14 > len(list_images(tiny_world.style_images))


def test_the_same_seed_gives_the_same_bytes_and_another_another(tiny_world, made, tmp_path):
    assert digests(make(tiny_world, tmp_path / "again")) == digests(made)
    assert digests(make(tiny_world, tmp_path / "other", seed=4)) != digests(made)


def test_more_distractors_leave_the_labels_as_they_are(tiny_world, made, tmp_path):
    more = make(tiny_world, tmp_path / "more", dataclasses.replace(SETTINGS, distractors=5))
    assert read_json(more / "labels.json") == read_json(made / "labels.json")


def test_details_too_small_to_be_blended_are_an_error_that_says_what_to_do(tiny_world, tmp_path):
    with pytest.raises(InputError, match=r"too thin; raise benchmarks\.planted\.scale or size"):
        make(tiny_world, tmp_path / "set", dataclasses.replace(SETTINGS, size=64, scale=(0.01, 0.02)))
    assert not (tmp_path / "set").exists()


def test_more_details_than_there_are_objects_is_an_error_that_says_what_to_do(tiny_world, tmp_path):
    with pytest.raises(InputError, match=r"no object of an unused photo.*benchmarks\.planted\.details"):
        make(tiny_world, tmp_path / "set", dataclasses.replace(SETTINGS, details=500))
    assert not (tmp_path / "set").exists()
