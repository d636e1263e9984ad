"""Galleries: what they show and say, and that they stand alone."""

from __future__ import annotations

import re

import numpy as np
import pytest
from html_pages import NASTY, outside, parse

from segswap.errors import InputError
from segswap.files import read_json, write_json
from segswap.images import read_image
from segswap.pairs.pair_set import PairSet
from segswap.pairs.shards import write_set_manifest, write_shard
from segswap.report.galleries import describe_sample, describe_set, gallery_sheet, write_gallery


class TestGalleries:
    @pytest.mark.parametrize("kind", ["1obj", "2obj"])
    def test_a_gallery_is_self_contained_and_shows_pictures_masks_and_all_combinations(
        self, tiny_world, tmp_path, kind
    ):
        write_gallery(tiny_world.pairs[kind], tmp_path / "gallery.html", 5)
        page = parse(tmp_path / "gallery.html")
        assert outside(page) == []
        assert page.tags.count("article") == 5
        # Four pictures, two masks, four combinations of source and target, plain and restyled.
        assert page.tags.count("figure") == page.tags.count("svg") == 5 * (4 + 2 + 4)
        # Each picture is embedded once, each mask as a tint.
        assert page.tags.count("image") == 5 * (4 + 2)
        assert "url(" not in (tmp_path / "gallery.html").read_text()

    def test_a_gallery_refers_to_nothing_that_is_not_in_it(self, tiny_world, tmp_path):
        write_gallery(tiny_world.pairs["2obj"], tmp_path / "gallery.html", 5)
        text = (tmp_path / "gallery.html").read_text()
        identities = re.findall(r' id="([^"]*)"', text)
        assert len(set(identities)) == len(identities)
        assert {reference[1:] for reference in parse(tmp_path / "gallery.html").references if reference[0] == "#"} <= {
            *identities
        }

    def test_lines_lead_from_cells_of_the_source_to_their_places_in_the_target(self, tiny_world, tmp_path):
        write_gallery(tiny_world.pairs["1obj"], tmp_path / "gallery.html", 1)
        labels = PairSet(tiny_world.pairs["1obj"]).sample(0).labels
        text = (tmp_path / "gallery.html").read_text()
        found = re.findall(r'stroke="#\w+" d="M([\d.]+) ([\d.]+)L([\d.]+) ([\d.]+)"', text)
        drawn = np.array([[float(value) for value in numbers] for numbers in found])
        assert len(drawn) == min(12, (labels.mask_a > 0.5).sum())
        side, gap = 240, 8
        columns, rows = (drawn[:, :2] / side * labels.mask_a.shape[0] - 0.5).round().astype(int).T
        assert (labels.mask_a[rows, columns] > 0.5).all()
        expected = labels.corr_a[:, rows, columns].T * side + (side + gap, 0)
        np.testing.assert_allclose(drawn[:, 2:], expected, atol=0.06)

    def test_a_set_without_style_has_one_combination(self, tiny_world, tmp_path):
        tar = tmp_path / "1obj-000000.tar"
        write_shard(
            tiny_world.photos(), tiny_world.pair_settings, None, None, (1, "1obj"), range(2), tar,
            tar.with_suffix(".parquet"), jpeg_quality=95, max_unreadable_share=0.05,
        )  # fmt: skip
        write_set_manifest([tar], tmp_path / "manifest.json", "1obj", {})
        write_gallery(tmp_path / "manifest.json", tmp_path / "gallery.html", 2)
        assert parse(tmp_path / "gallery.html").tags.count("figure") == 2 * (2 + 2 + 1)

    def test_the_header_has_the_numbers_of_the_set(self, tiny_world, tmp_path):
        manifest = read_json(tiny_world.pairs["2obj"])
        write_gallery(tiny_world.pairs["2obj"], tmp_path / "gallery.html", 2)
        text = parse(tmp_path / "gallery.html").whole_text
        assert "two objects" in text and f"{manifest['pairs']:,}" in text
        for reason, count in manifest["rejected_draws"].items():
            assert f"{count:,} {reason}" in text

    def test_a_gallery_shows_no_more_pairs_than_there_are(self, tiny_world, tmp_path):
        pairs = PairSet(tiny_world.pairs["1obj"])
        write_gallery(tiny_world.pairs["1obj"], tmp_path / "gallery.html", 1000)
        text = (tmp_path / "gallery.html").read_text()
        assert all(f'<article id="{pairs.key(n)}"' in text for n in range(len(pairs)))

    def test_messages_of_unreadable_photos_are_escaped(self, tiny_world, tmp_path):
        source = tiny_world.pairs["1obj"]
        content = read_json(source) | {"unreadable_photos": [f"{NASTY}: does not open"]}
        for file in source.parent.iterdir():
            (tmp_path / file.name).symlink_to(file)
        (tmp_path / "manifest.json").unlink()
        write_json(tmp_path / "manifest.json", content)
        write_gallery(tmp_path / "manifest.json", tmp_path / "gallery.html", 1)
        page = parse(tmp_path / "gallery.html")
        assert f"{NASTY}: does not open" in page.text and "b" not in page.tags

    def test_a_missing_shard_is_an_error(self, tiny_world, tmp_path):
        write_json(tmp_path / "manifest.json", read_json(tiny_world.pairs["1obj"]))
        with pytest.raises(InputError, match="missing"):
            write_gallery(tmp_path / "manifest.json", tmp_path / "gallery.html", 1)

    def test_the_facts_of_a_pair_come_from_its_recipe(self, tiny_world):
        sample = PairSet(tiny_world.pairs["2obj"]).sample(0)
        facts = describe_sample(sample)
        assert f"{sample.record['angle'][1]:+.1f}" in facts["object 2"]
        assert sample.record["style_a"] in facts["source style"]
        assert facts["layout"].startswith(str(sample.record["layout"]))

    def test_a_set_is_described_without_rejections_too(self):
        content = {
            "kind": "1obj", "pairs": 0, "bytes": 0, "rejected_draws": {}, "unreadable_photos": [], "shards": [],
        }  # fmt: skip
        assert describe_set(content)["rejected draws"] == "none"

    def test_a_sheet_is_one_small_picture_with_a_row_per_pair(self, tiny_world, tmp_path):
        shapes = []
        for count in (4, 12):
            gallery_sheet(tiny_world.pairs["2obj"], tmp_path / "sheet.jpg", count)
            shapes.append(read_image(tmp_path / "sheet.jpg").shape)
        assert shapes[0][1] == shapes[1][1] and (shapes[1][0] - shapes[0][0]) % 8 == 0
        assert (tmp_path / "sheet.jpg").stat().st_size < 300_000
