"""The report page and the curves on it: what they say, and that they stand alone."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from html_pages import NASTY, outside, parse

from segswap.benchmarks.published import repeated_method
from segswap.drawing import write_picture
from segswap.errors import InputError
from segswap.files import read_json, write_json, write_text
from segswap.report.page import write_page
from segswap.report.plots import plot_history, read_history
from segswap.report.provenance import collect, write_provenance
from segswap.report.tables import write_summary
from segswap.report.times import Cost
from segswap.training.history import history_csv


@pytest.fixture
def histories(tmp_path):
    steps = range(10, 110, 10)
    pretraining = [{"step": n, "loss": 5 / n} for n in steps]
    stage = [
        {"epoch": 0, "step": n, "loss": 3 / n, "mask_loss": 1 / n, "accuracy_positive": 1 - 1 / n} for n in steps
    ] + [{"epoch": 0, "step": 100, "heldout_mask_iou": 0.6, "heldout_median_error": 0.5, "heldout_mask_iou_1obj": 0.7}]
    write_text(tmp_path / "pretrain.csv", history_csv(pretraining))
    write_text(tmp_path / "stage1.csv", history_csv(stage))
    write_text(tmp_path / "stage2.csv", "\n")
    return {name: tmp_path / file for name, file in
            (("pretraining", "pretrain.csv"), ("stage 1", "stage1.csv"), ("stage 2", "stage2.csv"))}  # fmt: skip


class TestPlots:
    def test_equal_numbers_give_equal_bytes(self, histories, tmp_path):
        for name in ("one.svg", "two.svg"):
            plot_history(histories, tmp_path / name)
        assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
        assert "<dc:date>" not in (tmp_path / "one.svg").read_text()

    def test_every_group_of_numbers_has_a_panel(self, histories, tmp_path):
        plot_history(histories, tmp_path / "curves.svg")
        text = (tmp_path / "curves.svg").read_text()
        for title in ("pretraining: loss", "stage 1: losses", "stage 1: held-out pairs"):
            assert title in text
        # Errors in cells do not fit an axis of shares; an empty history has no panel.
        assert "median" not in text and "stage 2" not in text
        # Numbers of a part of the pairs would hide those of all.
        assert ">mask iou<" in text and "1obj" not in text

    def test_points_are_read_where_there_are_numbers(self, histories):
        series = read_history(histories["stage 1"])
        assert len(series["loss"]) == 10 and series["heldout_mask_iou"] == [(100.0, 0.6)]

    @pytest.mark.parametrize("content", ["loss\n1\n", "step,loss\n1,high\n"])
    def test_a_file_that_is_no_history_is_an_error_that_names_it(self, tmp_path, content):
        write_text(tmp_path / "h.csv", content)
        with pytest.raises(InputError, match=r"h\.csv, line 2"):
            read_history(tmp_path / "h.csv")

    def test_a_missing_history_is_an_error(self, tmp_path):
        with pytest.raises(InputError, match=r"none\.csv"):
            plot_history({"stage 1": tmp_path / "none.csv"}, tmp_path / "x.svg")


COSTS = {"stage1": Cost(1, 3725.0, 3725.0, 900.4, 180.0), "tables": Cost(2, 0.4, 0.3, None, None)}


class TestPage:
    def write(self, folder, tiny_world, histories, **changes):
        tables = (folder / "s.csv", folder / "s.md", folder / "s.html")
        write_summary({"brueghel": {"map": 0.9}}, *tables, method=repeated_method("annotations", "transformer"))
        plot_history(histories, folder / "h.svg")
        write_picture(folder / "b.png", np.zeros((20, 30, 3), np.uint8))
        problems = read_json(tiny_world.problems)
        problems["images_missing"] = [NASTY]
        problems["images_turned"] = [f"{NASTY}.jpg: EXIF orientation 6"]
        problems["annotations_broken"] = [{"annotation_id": 7, "reason": f"bad {NASTY}"}]
        write_json(folder / "problems.json", problems)
        config = {"run": NASTY, "pairs": {"size": 128, "stretch": [0.7, 1.0]}}
        content = collect(config, [folder / "b.png"], folder / "absent", COSTS)
        write_provenance(content, folder / "p.json", folder / "p.html")
        arguments = {
            "summary": folder / "s.html",
            "history": folder / "h.svg",
            "pictures": {"brueghel": folder / "b.png"},
            "objects": {"train": folder / "problems.json"},
            "pair_sets": {"train, 1obj": tiny_world.pairs["1obj"]},
            "galleries": {NASTY: folder / "galleries" / "it's 100% & more.html"},
            "provenance": folder / "p.html",
        }
        write_page(folder / "report" / "index.html", f"Run {NASTY}", **{**arguments, **changes})
        return parse(folder / "report" / "index.html")

    def test_the_page_stands_alone_but_for_relative_links_to_galleries(self, tiny_world, histories, tmp_path):
        page = self.write(tmp_path, tiny_world, histories)
        assert outside(page) == ["../galleries/it%27s%20100%25%20%26%20more.html"]
        assert "script" not in page.tags and page.tags.count("svg") == 1 and page.tags.count("img") == 1

    def test_all_text_is_escaped(self, tiny_world, histories, tmp_path):
        page = self.write(tmp_path, tiny_world, histories)
        assert "b" not in page.tags
        for text in (f"Run {NASTY}", f"annotation 7: bad {NASTY}", f"{NASTY}.jpg: EXIF orientation 6"):
            assert text in page.text
        assert NASTY in page.text

    def test_every_part_has_its_facts(self, tiny_world, histories, tmp_path):
        text = self.write(tmp_path, tiny_world, histories).whole_text
        for expected in ("1 h 02 min", "0.4 s", "All numbers: Brueghel", "stage 1: losses", "size: 128"):
            assert expected in text
        problems = read_json(tiny_world.problems)
        assert f"{problems['objects']:,}" in text

    def test_several_sources_stand_below_their_split_and_what_is_wrong_is_named_with_its_source(
        self, tiny_world, histories, tmp_path
    ):
        facts = read_json(tiny_world.problems)
        own = {**facts, "images_listed": 4321, "photos_left_out": []}
        joined = {
            **facts,
            "annotations_broken": [{"source": 2, "annotation_id": "7.txt:3", "reason": f"bad {NASTY}"}],
            "photos_left_out": [{"photo": f"b/{NASTY}.jpg", "same_as": "a/1.jpg"}],
            "sources": [
                {"source": "annotations", "annotations": "a.json", "images": "a", **own},
                {"source": "yolo", "labels": "labels", "images": NASTY, **own},
            ],
        }
        write_json(tmp_path / "joined.json", joined)
        page = self.write(tmp_path, tiny_world, histories, objects={"train": tmp_path / "joined.json"})
        for text in (
            "train, source 1: annotations of a.json, a",
            f"train, source 2: yolo of labels, {NASTY}",
            f"source 2, annotation 7.txt:3: bad {NASTY}",
            f"b/{NASTY}.jpg is a/1.jpg",
        ):
            assert text in page.text
        assert page.text.count("4,321") == 2 and "b" not in page.tags

    def test_links_of_the_page_lead_to_its_sections(self, tiny_world, histories, tmp_path):
        page = self.write(tmp_path, tiny_world, histories)
        text = (tmp_path / "report" / "index.html").read_text()
        anchors = [reference[1:] for reference in page.references if reference.startswith("#") and "<" not in reference]
        own = [anchor for anchor in anchors if f'<section id="{anchor}">' in text]
        assert own == ["results", "training", "pictures", "data", "provenance"]

    def test_what_is_not_given_is_left_out(self, tmp_path):
        write_page(tmp_path / "page.html", "Nothing")
        page = parse(tmp_path / "page.html")
        assert "section" not in page.tags and outside(page) == []

    @pytest.mark.parametrize(("argument", "name"), [("pictures", "brueghel"), ("objects", "train"), ("pair_sets", "x")])
    def test_a_missing_file_is_an_error_that_names_it(self, tmp_path, argument, name):
        with pytest.raises(InputError, match=r"absent\.(png|json)"):
            path = tmp_path / ("absent.png" if argument == "pictures" else "absent.json")
            write_page(tmp_path / "page.html", "Nothing", **{argument: {name: path}})
        assert not (tmp_path / "page.html").exists()

    def test_json_of_another_form_is_an_error(self, tmp_path):
        write_text(tmp_path / "other.json", json.dumps({"images": 3}))
        with pytest.raises(InputError, match=re.escape("other.json")):
            write_page(tmp_path / "page.html", "Nothing", objects={"train": tmp_path / "other.json"})
