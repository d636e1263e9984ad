"""Runs side by side: the leading measures of every benchmark, a row for each run."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from segswap.files import write_text
from segswap.report.grid import Cell, Grid, grid_html, grid_markdown, write_fragment
from segswap.report.tables import HEADLINES, Measure, Metrics

Runs = Mapping[str, Metrics]
"""Metrics by run; each as in ``segswap.report.tables``."""


def changes_in_words(changes: Mapping[str, Any]) -> str:
    """Return nested keys and values as text: ``{"train": {"loss": {"eta": 0}}}`` is ``train.loss.eta: 0``."""

    def parts(section: Mapping[str, Any], prefix: str) -> list[str]:
        found = []
        for key, value in section.items():
            name = f"{prefix}{key}"
            found += parts(value, f"{name}.") if isinstance(value, Mapping) else [f"{name}: {value}"]
        return found

    return ", ".join(parts(changes, "")) or "nothing"


def _columns(runs: Runs, leading: bool) -> list[tuple[str, Measure]]:
    """Return benchmark and measure of each column that any run has a number for."""
    return [
        (benchmark, measure)
        for benchmark, (_, measures) in HEADLINES.items()
        for measure in measures
        if (measure.lead if leading else measure.contest)
        and any(measure.key in metrics.get(benchmark, {}) for metrics in runs.values())
    ]


def comparison_csv(runs: Runs) -> str:
    """Return all measures of all runs as CSV: ``run``, ``benchmark``, ``measure``, ``value``; shares in [0, 1]."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "benchmark", "measure", "value"])
    for run, metrics in runs.items():
        for benchmark, measure in _columns(runs, leading=False):
            value = metrics.get(benchmark, {}).get(measure.key)
            if value is not None:
                writer.writerow([run, benchmark, measure.key, repr(float(value))])
    return text.getvalue()


def comparison_grid(runs: Runs, changes: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Return the table of runs.

    Args:
        runs: metrics by run, in the order of the rows; a run without a benchmark has a dash there.
        changes: by run, the keys in which its configuration differs from the study's.
    """
    columns = _columns(runs, leading=True)
    best = {}
    for benchmark, measure in columns:
        values = [
            metrics[benchmark][measure.key] for metrics in runs.values() if measure.key in metrics.get(benchmark, {})
        ]
        if len(values) > 1:
            best[benchmark, measure.key] = min(values) if measure.smaller else max(values)
    body = []
    for run, metrics in runs.items():
        cells = [Cell(run, left=True), Cell(changes_in_words(changes[run]), left=True)]
        for benchmark, measure in columns:
            value = metrics.get(benchmark, {}).get(measure.key)
            is_best = value is not None and value == best.get((benchmark, measure.key))
            cells.append(Cell(measure.text(value), is_best))
        body.append(cells)
    head = [Cell("run", left=True), Cell("differs in", left=True)]
    head += [Cell(f"{HEADLINES[benchmark][0]}: {measure.label}") for benchmark, measure in columns]
    note = "SegSwap's numbers in each run. Bold: the best of a column. A dash: not run."
    return Grid("The runs of this study", head, body, notes=(note,))


def write_comparison(
    runs: Runs,
    changes: Mapping[str, Mapping[str, Any]],
    csv: str | os.PathLike,
    markdown: str | os.PathLike,
    html: str | os.PathLike,
) -> None:
    """Write the comparison of runs three times: all measures as CSV, the leading ones as Markdown and HTML."""
    write_text(csv, comparison_csv(runs))
    grid = comparison_grid(runs, changes)
    write_text(markdown, grid_markdown(grid, 2) + "\n")
    write_fragment(html, f"<section>\n{grid_html(grid, 3)}\n</section>\n")
