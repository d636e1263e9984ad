"""Runs side by side in one table, and beside the published numbers."""

from __future__ import annotations

import csv
import io

import pytest
from html_pages import NASTY, outside, parse

from segswap.benchmarks.published import TABLES, published_share, repeated_method
from segswap.errors import InputError
from segswap.report.comparison import changes_in_words, comparison_csv, write_comparison

RUNS = {
    "study-full": {
        "pairs": {
            "mask_iou": 0.48,
            "within_cell": 0.9,
            "roc_auc": 0.97,
            "median_error": 0.4,
            "untrained_mask_iou": 0.1,
        },
        "tokyo247": {"recall@1": 0.625, "recall@5": 0.7, "first_recall@1": 0.3},
    },
    "study-no|pipe": {"pairs": {"mask_iou": 0.50, "within_cell": 0.9, "roc_auc": 0.90, "median_error": 0.3}},
}
RUNS_AS_TEXT = ("study-full", "study-no\\|pipe")
CHANGES = {"study-full": {}, "study-no|pipe": {"train": {"loss": {"eta": 0}, "batch": {"negatives": 3}}}}
FORMS = ("csv", "md", "html")
METHODS = dict.fromkeys(RUNS, repeated_method("annotations", "transformer"))

# The four models of the paper, better than published by 0.01 to 0.04.
FOUR_METHODS = {
    f"paper-{source}-{architecture}": repeated_method(source, architecture)
    for source in ("annotations", "segments")
    for architecture in ("transformer", "ncnet")
}
FOUR = {
    run: {
        benchmark: {
            column.key: published_share(benchmark, column.key, method) + number / 100 for column in table.columns
        }
        for benchmark, table in TABLES.items()
    }
    for number, (run, method) in enumerate(FOUR_METHODS.items(), 1)
}


def test_changes_are_said_in_words() -> None:
    assert changes_in_words(CHANGES["study-no|pipe"]) == "train.loss.eta: 0, train.batch.negatives: 3"
    assert changes_in_words({"benchmarks": {"run": ["pairs"]}}) == "benchmarks.run: ['pairs']"
    assert changes_in_words({}) == "nothing"


def test_the_csv_has_every_measure_of_every_run_that_was_run() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(RUNS, METHODS))))
    found = {(row["run"], row["benchmark"], row["measure"]): float(row["value"]) for row in rows}
    assert found["study-full", "tokyo247", "recall@5"] == 0.7
    assert found["study-no|pipe", "pairs", "median_error"] == 0.3
    assert ("study-no|pipe", "tokyo247", "recall@1") not in found
    assert not any("untrained" in measure or "first" in measure for _, _, measure in found)


def test_the_csv_sets_each_run_beside_the_method_that_it_repeats() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(FOUR, FOUR_METHODS))))
    assert list(rows[0]) == ["run", "benchmark", "measure", "value", "published", "difference"]
    number = {run: number for number, run in enumerate(FOUR, 1)}
    for row in rows:
        published = published_share(row["benchmark"], row["measure"], FOUR_METHODS[row["run"]])
        assert float(row["published"]) == published
        assert float(row["difference"]) == pytest.approx(number[row["run"]] / 100)
    assert {(row["run"], row["measure"]) for row in rows} >= {(run, "detection_map_cosine") for run in FOUR}


def test_the_csv_has_nothing_beside_what_is_not_published_and_runs_that_repeat_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(RUNS, {"study-full": METHODS["study-full"]}))))
    assert {row["measure"] for row in rows if row["published"]} == {"recall@1", "recall@5"}
    assert all((row["published"] == "") == (row["difference"] == "") for row in rows)
    rows = list(csv.DictReader(io.StringIO(comparison_csv(FOUR, {}))))
    assert rows and not any(row["published"] or row["difference"] for row in rows)


def test_an_unknown_benchmark_is_refused() -> None:
    with pytest.raises(InputError, match="paris"):
        comparison_csv({"study": {"paris": {"map": 0.5}}}, {})


def test_the_four_models_stand_in_every_published_table_each_below_its_own_row(tmp_path) -> None:
    write_comparison(FOUR, {run: {} for run in FOUR}, FOUR_METHODS, *(tmp_path / f"c.{form}" for form in FORMS))
    text = (tmp_path / "c.md").read_text()
    sections = text.split("\n### ")[1:]
    assert [section.splitlines()[0] for section in sections] == [table.title for table in TABLES.values()]
    for section, table in zip(sections, TABLES.values(), strict=True):
        lines = [line.strip("| ").replace("*", "").split(" | ") for line in section.splitlines() if line[:1] == "|"][2:]
        assert len(lines) == len(table.rows) + 4
        names = [line[0] for line in lines]
        for run, method in FOUR_METHODS.items():
            place = names.index(run)
            assert names[place - 1] == method and names.count(run) == 1
            for column, published, own in zip(table.columns, lines[place - 1][1:], lines[place][1:], strict=True):
                share = FOUR[run][table.benchmark][column.key]
                assert own == column.text(column.printed(share))
                assert published == column.text(column.printed(published_share(table.benchmark, column.key, method))), (
                    "as published"
                )
    page = parse(tmp_path / "c.html")
    assert page.tags.count("table") == 1 + len(TABLES) and "style" in page.tags and not outside(page)
    assert (tmp_path / "c.html").read_text().count('<tr class="ours">') == 4 * len(TABLES)


def test_the_table_of_runs_is_the_first_and_alone_in_its_section(tmp_path) -> None:
    write_comparison(FOUR, {run: {} for run in FOUR}, FOUR_METHODS, *(tmp_path / f"c.{form}" for form in FORMS))
    before, first, *_ = (tmp_path / "c.md").read_text().split("## ")
    assert not before and all(f"| {run} | nothing |" in first for run in FOUR)
    assert first.startswith("The runs of this study\n") and "SegSwap, COCO" not in first


def test_a_run_without_a_benchmark_has_dashes_in_its_table(tmp_path) -> None:
    write_comparison(RUNS, CHANGES, METHODS, *(tmp_path / f"c.{form}" for form in FORMS))
    text = (tmp_path / "c.md").read_text()
    assert text.count("\n### ") == 1, "Tokyo 24/7; held-out pairs have no published table"
    assert f"\n| {METHODS['study-full']} | 80.0 | 86.0 | 87.9 |\n| study-full | 62.5 | 70.0 | - |\n" in text
    assert "\n| study-no\\|pipe | - | - | - |\n" in text


def test_without_a_published_table_the_runs_stand_alone(tmp_path) -> None:
    runs = {run: {"pairs": metrics["pairs"]} for run, metrics in RUNS.items()}
    write_comparison(runs, CHANGES, METHODS, *(tmp_path / f"c.{form}" for form in FORMS))
    assert "published" not in (tmp_path / "c.md").read_text()
    assert parse(tmp_path / "c.html").tags.count("table") == 1


def test_names_of_runs_are_text_in_the_page(tmp_path) -> None:
    runs, methods = {NASTY: FOUR["paper-segments-ncnet"]}, {NASTY: FOUR_METHODS["paper-segments-ncnet"]}
    write_comparison(runs, {NASTY: {}}, methods, *(tmp_path / f"c.{form}" for form in FORMS))
    page = parse(tmp_path / "c.html")
    assert page.text.count(NASTY) == 1 + len(TABLES) and "b" not in page.tags


def test_the_table_has_the_leading_measures_the_best_in_bold_and_what_was_changed(tmp_path) -> None:
    write_comparison(RUNS, CHANGES, METHODS, *(tmp_path / f"c.{form}" for form in FORMS))
    lines = (tmp_path / "c.md").read_text().splitlines()
    head, full, other = (
        next(line for line in lines if line.startswith(f"| {name}")) for name in ("run", *RUNS_AS_TEXT)
    )
    assert head.count("Held-out pairs: ") == 3 and "Tokyo 24/7: recall@1, %" in head and "recall@5" not in head
    assert full == "| study-full | nothing | .480 | **.900** | **.970** | 62.5 |", (
        "one value alone is not the best of any"
    )
    assert other.endswith("| train.loss.eta: 0, train.batch.negatives: 3 | **.500** | **.900** | .900 | - |")
    page = (tmp_path / "c.html").read_text()
    assert "study-no|pipe" in page and "<strong>.500</strong>" in page and page.isascii()
