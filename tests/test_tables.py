"""The summary: values as the field writes them, beside both baselines and the published numbers."""

from __future__ import annotations

import csv
import io

import pytest
from html_pages import parse

from segswap.benchmarks.published import TABLES, published_share, repeated_method
from segswap.benchmarks.published import Column as PublishedColumn
from segswap.errors import InputError
from segswap.report.tables import summary_csv, summary_html, summary_markdown, summary_rows, write_summary

METHOD = repeated_method("annotations", "transformer")
METHODS = [
    repeated_method(source, architecture)
    for source in ("annotations", "segments")
    for architecture in ("transformer", "ncnet")
]


class TestPublished:
    def test_every_row_has_a_number_or_none_for_every_column(self):
        for table in TABLES.values():
            for row in table.rows:
                assert len(row.values) == len(table.columns)
                for column, value in zip(table.columns, row.values, strict=True):
                    assert value is None or 0 < value <= (100 if column.percent else 1)

    def test_the_four_models_of_the_paper_have_one_row_in_every_table(self):
        assert len(set(METHODS)) == 4
        for table in TABLES.values():
            names = [row.method for row in table.rows]
            assert sorted(name for name in names if name.startswith("SegSwap")) == sorted(METHODS)
            assert len(set(names)) == len(names)

    def test_a_source_or_an_architecture_that_was_not_published_is_an_error(self):
        with pytest.raises(KeyError):
            repeated_method("drawings", "transformer")
        with pytest.raises(KeyError):
            repeated_method("segments", "cnn")

    def test_a_name_that_a_table_prints_otherwise_is_in_the_row_s_note(self):
        noted = {row.method for row in TABLES["brueghel"].rows if "Sparse-NcNet" in row.note}
        assert noted == {repeated_method(source, "ncnet") for source in ("annotations", "segments")}

    @pytest.mark.parametrize(
        ("method", "benchmark", "key", "share"),
        [
            (METHOD, "brueghel", "map", 0.844),
            (METHOD, "brueghel", "detection_map_cosine", 0.818),
            (METHOD, "tokyo247", "recall@1", 0.80),
            (METHOD, "tokyo247", "recall@10", 0.879),
            (METHOD, "pitts30k", "recall@5", 0.935),
            (METHOD, "internet", "precision", 0.928),
            (METHOD, "internet", "jaccard_Horse100", 0.60),
            (repeated_method("annotations", "ncnet"), "brueghel", "detection_map_cosine", 0.737),
            (repeated_method("segments", "transformer"), "tokyo247", "recall@1", 0.74),
            (repeated_method("segments", "ncnet"), "internet", "jaccard", 0.44),
        ],
    )
    def test_published_numbers_become_shares_as_our_metrics_are(self, method, benchmark, key, share):
        assert published_share(benchmark, key, method) == pytest.approx(share)

    def test_what_is_not_published_is_none(self):
        assert published_share("pairs", "mask_iou", METHOD) is None
        assert published_share("brueghel", "detection_map", METHOD) is None
        assert published_share("brueghel", "map", None) is None
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
        text = summary_markdown(metrics(), METHOD)
        assert markdown_line(text, "mask IoU")[2:] == ["**.713**", ".356", ".641", "", ""]
        assert markdown_line(text, "retrieval mAP, %")[2:] == ["**90.1**", "45.1", "81.1", "84.4", "+5.7"]
        assert markdown_line(text, "ROC AUC, related or not")[2] == "**1.000**"

    def test_smaller_is_better_for_errors(self):
        text = summary_markdown(metrics(), METHOD)
        assert markdown_line(text, "median error, cells")[2:5] == [
            "0.50",
            "**0.25**",
            "0.45",
        ]

    def test_where_a_baseline_is_ahead_of_the_trained_model_it_is_said_first(self, tmp_path):
        given = {
            "pairs": {"mask_iou": 0.0, "untrained_mask_iou": 0.125, "baseline_mask_iou": 0.15}
            | {"median_error": 9.5, "untrained_median_error": 12.1, "baseline_median_error": 9.1}
            | {"roc_auc": 0.6, "untrained_roc_auc": 0.6, "baseline_roc_auc": 0.5},
            "tokyo247": {
                "recall@1": 0.5,
                "baseline_recall@1": 0.6,
                "first_recall@1": 0.4,
                "baseline_first_recall@1": 0.9,
            },
        }
        said = (
            "The trained model is worse than its baselines in: Held-out pairs: mask IoU (than untrained and cosine); "
            "median error, cells (than cosine). Tokyo 24/7: recall@1, % (than cosine). There its training has not paid"
        )
        write_summary(given, tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html", method=METHOD)
        text = (tmp_path / "s.md").read_text()
        assert said in text and text.index(said) < text.index("Bold: the best")
        assert said in parse(tmp_path / "s.html").whole_text

    def test_of_a_model_that_is_ahead_or_equal_nothing_is_said(self):
        given = metrics()
        for numbers in given.values():
            numbers.pop("untrained_median_error", None), numbers.pop("untrained_negative_mask", None)
            numbers.pop("baseline_median_error", None), numbers.pop("baseline_negative_mask", None)
        assert "worse than" not in summary_markdown(given, METHOD)

    def test_what_all_share_is_no_contest(self):
        assert markdown_line(summary_markdown(metrics(), METHOD), "before re-ranking, recall@1, %")[2:5] == ["50.0"] * 3

    def test_this_run_stands_in_the_published_tables(self):
        text = summary_markdown(metrics(), METHOD)
        brueghel = text[text.index("### Brueghel") : text.index("### Tokyo")]
        assert markdown_line(brueghel, METHOD) == [METHOD, "**84.4**", "**81.8**"]
        assert markdown_line(brueghel, "this run") == ["this run", "**90.1**", "61.0"]
        internet = text[text.index("### Internet") :]
        assert markdown_line(internet, "this run") == ["this run", "-", "-", "**.950**", "-", "-", "-", ".900", ".60"]

    @pytest.mark.parametrize("method", METHODS)
    def test_a_run_is_set_beside_the_method_that_it_repeats_and_says_which(self, method):
        text = summary_markdown(metrics(), method)
        published = published_share("tokyo247", "recall@1", method)
        line = markdown_line(text, "recall@1, %")
        assert line[-2:] == [f"{100 * published:.1f}", f"{100 * (0.7 - published):+.1f}"]
        part = markdown_line(text, "Car100: pixels right (P)")
        assert part[-2] == f"{published_share('internet', 'precision_Car100', method):.3f}"[1:]
        assert f'Published: "{method}"' in text
        names = [line.split("|")[1].strip() for line in text.splitlines() if line.startswith("|")]
        above = [names[number - 1] for number, name in enumerate(names) if name == "this run"]
        assert above == [method] * 3, "directly below it, in each of three tables"

    @pytest.mark.parametrize("architecture", ["transformer", "ncnet"])
    def test_a_model_of_both_kinds_of_objects_repeats_no_published_method_and_says_so(self, architecture):
        method = repeated_method("both", architecture)
        assert method not in METHODS and "COCO and unsupervised segments" in method
        text = summary_markdown(metrics(), method)
        assert f'Published: no table has "{method}"' in text and "which this run repeats" not in text
        assert markdown_line(text, "recall@1, %")[-2:] == ["", ""]

    def test_absent_benchmarks_and_measures_are_left_out(self):
        text = summary_markdown({"brueghel": {"map": 0.5}}, METHOD)
        assert "Tokyo" not in text and "Held-out" not in text and "direct boxes" not in text
        assert markdown_line(text, "retrieval mAP, %")[2:] == ["50.0", "-", "-", "84.4", "-34.4"]

    def test_no_benchmark_at_all_gives_an_empty_table(self):
        assert summary_rows({}, METHOD) == []
        assert "| benchmark |" in summary_markdown({}, METHOD)

    def test_an_unknown_benchmark_is_refused(self):
        with pytest.raises(InputError, match="paris"):
            summary_rows({"paris": {"map": 1.0}}, METHOD)

    def test_the_csv_gives_back_the_metrics(self):
        given = metrics()
        rows = list(csv.DictReader(io.StringIO(summary_csv(summary_rows(given, METHOD)))))
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
        write_summary(metrics(), tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html", method=METHOD, facts=facts)
        said = "Protocol: corrected. Models selected by: roc_auc & more."
        assert said in (tmp_path / "s.md").read_text() and said in parse(tmp_path / "s.html").whole_text

    def test_the_html_is_balanced_ascii_and_says_what_published_means(self, tmp_path):
        write_summary(metrics(), tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html", method=METHOD)
        page = parse(tmp_path / "s.html")
        assert (tmp_path / "s.html").read_bytes().isascii()
        assert "config/paper.yaml" in page.whole_text and "config/paper.yaml" in (tmp_path / "s.md").read_text()
        assert "<strong>90.1</strong>" in summary_html(metrics(), METHOD)
        assert page.tags.count("table") == 1 + 1 + 3 + 4, "own, by class, published, all numbers"

    def test_classes_and_details_have_a_table_of_their_own(self, tmp_path):
        numbers = {"f1": 0.5, "f1_star-1": 0.25, "f1_fish-1": 0.75, "clusters": 20, "regions": 70}
        numbers |= {f"baseline_{key}": value / 2 for key, value in numbers.items()}
        given = {**metrics(), "discovery": numbers}
        text = summary_markdown(given, METHOD)
        parts = text[text.index("## By class and by detail") : text.index("## Beside the published results")]
        assert markdown_line(parts, "fish-1: F1 of the best cluster")[2:5] == ["**.750**", "-", ".375"]
        assert parts.index("fish-1") < parts.index("star-1") and "clusters" not in parts.replace("best cluster", "")
        published = markdown_line(parts, "Car100: pixels right (P)")
        assert (
            published[2] == "**.950**"
            and published[5] == f"{published_share('internet', 'precision_Car100', METHOD):.3f}"[1:]
        )
        write_summary(given, tmp_path / "s.csv", tmp_path / "s.md", tmp_path / "s.html", method=METHOD)
        assert "discovery,f1_star-1,0.25,,0.125,," in (tmp_path / "s.csv").read_text()

    def test_all_numbers_stand_in_the_html_beside_their_twins(self):
        numbers = {"map": 0.9, "queries": 4000, "untrained_map": 0.1, "baseline_map@0.5": 0.25}
        text = summary_html({"brueghel": numbers}, METHOD)
        assert "All numbers: Brueghel" in text and "All numbers: Internet" not in text
        for row in (["map", "0.9", "0.1", "-"], ["queries", "4,000", "-", "-"], ["map@0.5", "-", "-", "0.25"]):
            assert f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" in text
