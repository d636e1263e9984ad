"""Runs side by side in one table."""

from __future__ import annotations

import csv
import io

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


def test_changes_are_said_in_words() -> None:
    assert changes_in_words(CHANGES["study-no|pipe"]) == "train.loss.eta: 0, train.batch.negatives: 3"
    assert changes_in_words({"benchmarks": {"run": ["pairs"]}}) == "benchmarks.run: ['pairs']"
    assert changes_in_words({}) == "nothing"


def test_the_csv_has_every_measure_of_every_run_that_was_run() -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_csv(RUNS))))
    found = {(row["run"], row["benchmark"], row["measure"]): float(row["value"]) for row in rows}
    assert found["study-full", "tokyo247", "recall@5"] == 0.7
    assert found["study-no|pipe", "pairs", "median_error"] == 0.3
    assert ("study-no|pipe", "tokyo247", "recall@1") not in found
    assert not any("untrained" in measure or "first" in measure for _, _, measure in found)


def test_the_table_has_the_leading_measures_the_best_in_bold_and_what_was_changed(tmp_path) -> None:
    write_comparison(RUNS, CHANGES, tmp_path / "c.csv", tmp_path / "c.md", tmp_path / "c.html")
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
