"""Galleries, tables, curves and the report page: what they say, and that they stand alone."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from segswap.benchmarks.published import REFERENCE, TABLES, published_share
from segswap.benchmarks.published import Column as PublishedColumn
from segswap.drawing import write_picture
from segswap.errors import InputError
from segswap.files import read_json, write_json, write_text
from segswap.images import read_image
from segswap.pairs.shards import PairSet, write_set_manifest, write_shard
from segswap.report.galleries import describe_sample, describe_set, gallery_sheet, write_gallery
from segswap.report.page import write_page
from segswap.report.plots import plot_history, read_history
from segswap.report.tables import summary_csv, summary_html, summary_markdown, summary_rows, write_summary
from segswap.report.times import read_times
from segswap.training.history import history_csv

NASTY = """Hans & "Anna's" <b>v.2</b>.jpg"""


class _Page(HTMLParser):
    """Collects what a page refers to, its text, and whether its tags are balanced."""

    void = frozenset({"meta", "img", "br", "link", "input"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.references: list[str] = []
        self.text: list[str] = []
        self.tags: list[str] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "srcset") and value]
        if tag not in self.void:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.void:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"{tag} closed out of order"

    def handle_data(self, data):
        self.text.append(data)

    @property
    def whole_text(self) -> str:
        return " ".join(self.text)


def parse(path) -> _Page:
    page = _Page(path.read_text(encoding="utf-8"))
    assert not page.open, f"not closed: {page.open}"
    return page


def outside(page: _Page) -> list[str]:
    """Return what a page refers to beyond itself."""
    return [reference for reference in page.references if not reference.startswith(("data:", "#"))]


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


class TestPublished:
    def test_every_row_has_a_number_or_none_for_every_column(self):
        for table in TABLES.values():
            for row in table.rows:
                assert len(row.values) == len(table.columns)
                for column, value in zip(table.columns, row.values, strict=True):
                    assert value is None or 0 < value <= (100 if column.percent else 1)

    def test_the_reference_is_in_every_table(self):
        assert all(REFERENCE in {row.method for row in table.rows} for table in TABLES.values())

    @pytest.mark.parametrize(
        ("benchmark", "key", "share"),
        [
            ("brueghel", "map", 0.844),
            ("brueghel", "detection_map_cosine", 0.818),
            ("tokyo247", "recall@1", 0.80),
            ("tokyo247", "recall@10", 0.879),
            ("pitts30k", "recall@5", 0.935),
            ("internet", "precision", 0.928),
            ("internet", "jaccard_Horse100", 0.60),
        ],
    )
    def test_published_numbers_become_shares_as_our_metrics_are(self, benchmark, key, share):
        assert published_share(benchmark, key) == pytest.approx(share)

    def test_what_is_not_published_is_none(self):
        assert published_share("pairs", "mask_iou") is None
        assert published_share("brueghel", "detection_map") is None
        assert published_share("brueghel", "map", "nobody") is None

    def test_numbers_are_written_as_printed(self):
        assert PublishedColumn("map", "mAP", True, 1).text(84.4) == "84.4"
        assert PublishedColumn("precision", "P", False, 3).text(0.941) == ".941"


def metrics() -> dict[str, dict[str, float]]:
    own = {
        "pairs": {"mask_iou": 0.7125, "median_error": 0.5, "negative_mask": 0.02, "roc_auc": 1.0},
        "brueghel": {"map": 0.9012, "detection_map": 0.5, "detection_map_cosine": 0.61, "queries": 40},
        "tokyo247": {"recall@1": 0.7, "recall@5": 0.8, "first_recall@1": 0.5, "first_recall@5": 0.75},
        "internet": {"precision": 0.9, "jaccard": 0.6, "jaccard_all": 0.5, "precision_Car100": 0.95},
    }
    for numbers in own.values():
        for key, value in dict(numbers).items():
            numbers[f"untrained_{key}"] = value if key.startswith("first") else value * 0.5
            numbers[f"baseline_{key}"] = value if key.startswith("first") else value * 0.9
    return own


def markdown_line(text: str, start: str) -> list[str]:
    lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")
    ]
    return next(line for line in lines if start in line)


class TestTables:
    def test_values_are_formatted_as_in_the_field_and_the_best_is_bold(self):
        text = summary_markdown(metrics())
        assert markdown_line(text, "mask IoU")[2:] == ["**.713**", ".356", ".641", "", ""]
        assert markdown_line(text, "retrieval mAP, %")[2:] == ["**90.1**", "45.1", "81.1", "84.4", "+5.7"]
        assert markdown_line(text, "ROC AUC, related or not")[2] == "**1.000**"

    def test_smaller_is_better_for_errors(self):
        assert markdown_line(summary_markdown(metrics()), "median error, cells")[2:5] == ["0.50", "**0.25**", "0.45"]

    def test_what_all_share_is_no_contest(self):
        assert markdown_line(summary_markdown(metrics()), "before re-ranking, recall@1, %")[2:5] == ["50.0"] * 3

    def test_this_run_stands_in_the_published_tables(self):
        text = summary_markdown(metrics())
        brueghel = text[text.index("### Brueghel") : text.index("### Tokyo")]
        assert markdown_line(brueghel, REFERENCE) == [REFERENCE, "**84.4**", "**81.8**"]
        assert markdown_line(brueghel, "this run") == ["this run", "**90.1**", "61.0"]
        internet = text[text.index("### Internet") :]
        assert markdown_line(internet, "this run") == ["this run", "-", "-", "**.950**", "-", "-", "-", ".900", ".60"]

    def test_absent_benchmarks_and_measures_are_left_out(self):
        text = summary_markdown({"brueghel": {"map": 0.5}})
        assert "Tokyo" not in text and "Held-out" not in text and "direct boxes" not in text
        assert markdown_line(text, "retrieval mAP, %")[2:] == ["50.0", "-", "-", "84.4", "-34.4"]

    def test_no_benchmark_at_all_gives_an_empty_table(self):
        assert summary_rows({}) == []
        assert "| benchmark |" in summary_markdown({})

    def test_an_unknown_benchmark_is_refused(self):
        with pytest.raises(ValueError, match="paris"):
            summary_rows({"paris": {"map": 1.0}})

    def test_the_csv_gives_back_the_metrics(self):
        given = metrics()
        rows = list(csv.DictReader(io.StringIO(summary_csv(summary_rows(given)))))
        assert list(rows[0]) == [
            "benchmark", "measure", "segswap", "untrained", "cosine", "published", "difference",
        ]  # fmt: skip
        assert len(rows) == sum(not k.startswith(("untrained", "baseline")) for v in given.values() for k in v) - 2
        for row in rows:
            numbers, key = given[row["benchmark"]], row["measure"]
            for column, prefix in (("segswap", ""), ("untrained", "untrained_"), ("cosine", "baseline_")):
                assert float(row[column]) == numbers[prefix + key]
            assert row["published"] == "" or 0 < float(row["published"]) <= 1
            assert (row["difference"] == "") == (row["published"] == "")
            if row["published"]:
                assert float(row["difference"]) == pytest.approx(float(row["segswap"]) - float(row["published"]))

    def test_how_the_numbers_came_about_is_said(self, tmp_path):
        facts = {"Protocol": "corrected", "Models selected by": "roc_auc & more"}
        write_summary(metrics(), tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html", facts)
        said = "Protocol: corrected. Models selected by: roc_auc & more."
        assert said in (tmp_path / "s.md").read_text() and said in parse(tmp_path / "s.html").whole_text

    def test_the_html_is_balanced_ascii_and_says_what_published_means(self, tmp_path):
        write_summary(metrics(), tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html")
        page = parse(tmp_path / "s.html")
        assert (tmp_path / "s.html").read_bytes().isascii()
        assert "config/paper.yaml" in page.whole_text and "config/paper.yaml" in (tmp_path / "s.md").read_text()
        assert "<strong>90.1</strong>" in summary_html(metrics())
        assert page.tags.count("table") == 1 + 1 + 3

    def test_classes_and_details_have_a_table_of_their_own(self, tmp_path):
        numbers = {"f1": 0.5, "f1_star-1": 0.25, "f1_fish-1": 0.75, "clusters": 20, "regions": 70}
        numbers |= {f"baseline_{key}": value / 2 for key, value in numbers.items()}
        given = {**metrics(), "discovery": numbers}
        text = summary_markdown(given)
        parts = text[text.index("## By class and by detail") : text.index("## Beside the published results")]
        assert markdown_line(parts, "fish-1: F1 of the best cluster")[2:5] == ["**.750**", "-", ".375"]
        assert parts.index("fish-1") < parts.index("star-1") and "clusters" not in parts.replace("best cluster", "")
        published = markdown_line(parts, "Car100: pixels right (P)")
        assert (
            published[2] == "**.950**" and published[5] == f"{published_share('internet', 'precision_Car100'):.3f}"[1:]
        )
        write_summary(given, tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html")
        assert "discovery,f1_star-1,0.25,,0.125,," in (tmp_path / "s.csv").read_text()


@pytest.fixture
def histories(tmp_path):
    steps = range(10, 110, 10)
    pretraining = [{"step": n, "loss": 5 / n} for n in steps]
    stage = [
        {"epoch": 0, "step": n, "loss": 3 / n, "mask_loss": 1 / n, "accuracy_positive": 1 - 1 / n} for n in steps
    ] + [{"epoch": 0, "step": 100, "heldout_mask_iou": 0.6, "heldout_median_error": 3.5}]
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


class TestPage:
    def write(self, folder, tiny_world, histories, **changes):
        write_summary(metrics(), folder / "s.csv", folder / "s.md", folder / "s.html")
        plot_history(histories, folder / "h.svg")
        write_picture(folder / "b.png", np.zeros((20, 30, 3), np.uint8))
        problems = read_json(tiny_world.problems)
        problems["images_missing"] = [NASTY]
        problems["annotations_broken"] = [{"annotation_id": 7, "reason": f"bad {NASTY}"}]
        write_json(folder / "problems.json", problems)
        write_json(folder / "brueghel.json", metrics()["brueghel"])
        arguments = {
            "config": {"run": NASTY, "pairs": {"size": 128, "stretch": [0.7, 1.0]}},
            "metrics": {"brueghel": folder / "brueghel.json"},
            "summary": folder / "s.html",
            "history": folder / "h.svg",
            "pictures": {"brueghel": folder / "b.png"},
            "objects": {"train": folder / "problems.json"},
            "pair_sets": {"train, 1obj": tiny_world.pairs["1obj"]},
            "galleries": {NASTY: folder / "galleries" / "it's 100% & more.html"},
            "seconds": {"stage 1": 3725.0, "stage 2": 61.0, "tables": 0.4},
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
        for text in (f"Run {NASTY}", f"annotation 7: bad {NASTY}"):
            assert text in page.text
        assert NASTY in page.text

    def test_every_part_has_its_facts(self, tiny_world, histories, tmp_path):
        text = self.write(tmp_path, tiny_world, histories).whole_text
        for expected in ("1 h 02 min", "1 min 01 s", "0.4 s", "All numbers: Brueghel", "stage 1: losses", "size: 128"):
            assert expected in text
        problems = read_json(tiny_world.problems)
        assert f"{problems['objects']:,}" in text

    def test_links_of_the_page_lead_to_its_sections(self, tiny_world, histories, tmp_path):
        page = self.write(tmp_path, tiny_world, histories)
        text = (tmp_path / "report" / "index.html").read_text()
        anchors = [reference[1:] for reference in page.references if reference.startswith("#") and "<" not in reference]
        own = [anchor for anchor in anchors if f'<section id="{anchor}">' in text]
        assert own == ["results", "training", "pictures", "data", "times", "settings"]

    def test_what_is_not_given_is_left_out(self, tmp_path):
        write_page(tmp_path / "page.html", "Nothing", config={})
        page = parse(tmp_path / "page.html")
        assert "section" not in page.tags and outside(page) == []

    @pytest.mark.parametrize(
        ("argument", "name"), [("pictures", "brueghel"), ("objects", "train"), ("metrics", "pairs"), ("pair_sets", "x")]
    )
    def test_a_missing_file_is_an_error_that_names_it(self, tmp_path, argument, name):
        with pytest.raises(InputError, match=r"absent\.(png|json)"):
            path = tmp_path / ("absent.png" if argument == "pictures" else "absent.json")
            write_page(tmp_path / "page.html", "Nothing", config={}, **{argument: {name: path}})
        assert not (tmp_path / "page.html").exists()

    def test_json_of_another_form_is_an_error(self, tmp_path):
        write_text(tmp_path / "other.json", json.dumps({"images": 3}))
        with pytest.raises(InputError, match=re.escape("other.json")):
            write_page(tmp_path / "page.html", "Nothing", config={}, objects={"train": tmp_path / "other.json"})


def test_times_are_summed_over_the_jobs_of_a_stage(tmp_path):
    for name, seconds in (("pair_shard-train-1obj-000000", 2.5), ("pair_shard-train-1obj-000001", 3.5), ("train", 60)):
        (tmp_path / f"{name}.tsv").write_text(f"s\th:m:s\n{seconds}\t0:00:01\n")
    assert list(read_times(tmp_path).items()) == [("train", 60.0), ("pair_shard", 6.0)]
    assert read_times(tmp_path / "absent") == {}
