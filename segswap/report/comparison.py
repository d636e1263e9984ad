"""Runs side by side: the leading measures of every benchmark, a row for each run; the same among published rows."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from typing import Any

from segswap.files import write_text
from segswap.report.grid import Cell, Grid, grid_html, grid_markdown, write_fragment
from segswap.report.published_tables import Runs, published_html, published_markdown
from segswap.report.tables import HEADLINES, Measure, summary_rows


def changes_in_words(changes: Mapping[str, Any]) -> str:
    """Return nested keys and values as text: ``{"train": {"loss": {"eta": 0}}}`` is ``train.loss.eta: 0``."""

    def parts(section: Mapping[str, Any], prefix: str) -> list[str]:
        found = []
        for key, value in section.items():
            name = f"{prefix}{key}"
            found += parts(value, f"{name}.") if isinstance(value, Mapping) else [f"{name}: {value}"]
        return found

    return ", ".join(parts(changes, "")) or "nothing"


def _columns(runs: Runs) -> list[tuple[str, Measure]]:
    """Return benchmark and measure of each leading measure that any run has a number for."""
    return [
        (benchmark, measure)
        for benchmark, (_, measures) in HEADLINES.items()
        for measure in measures
        if measure.lead and any(measure.key in metrics.get(benchmark, {}) for metrics in runs.values())
    ]


def comparison_csv(runs: Runs, methods: Mapping[str, str]) -> str:
    """Return all measures of all runs as CSV: one line per run, benchmark and measure that was run.

    Columns: ``run``, ``benchmark``, ``measure`` (key of the metrics), ``value``, ``published`` (of the method that the
    run repeats), ``difference`` (the value less the published one). Values are shares in [0, 1], ``median_error`` is in
    cells; ``published`` and ``difference`` are empty where nothing is published.

    Args:
        runs: metrics by run.
        methods: by run, the published method that it repeats; a run without one has nothing published beside.

    Raises:
        InputError: for a benchmark without headline measures.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "benchmark", "measure", "value", "published", "difference"])
    for run, metrics in runs.items():
        for row in summary_rows(metrics, methods.get(run)):
            value = row.matchers["segswap"]
            if value is not None and row.measure.contest:
                numbers = ("" if v is None else repr(float(v)) for v in (value, row.published, row.difference))
                writer.writerow([run, row.benchmark, row.measure.key, *numbers])
    return text.getvalue()


def comparison_grid(runs: Runs, changes: Mapping[str, Mapping[str, Any]]) -> Grid:
    """Return the table of runs.

    Args:
        runs: metrics by run, in the order of the rows; a run without a benchmark has a dash there.
        changes: by run, the keys in which its configuration differs from the study's.
    """
    columns = _columns(runs)
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
    methods: Mapping[str, str],
    csv: str | os.PathLike,
    markdown: str | os.PathLike,
    html: str | os.PathLike,
) -> None:
    """Write the comparison of runs three times.

    Args:
        runs: metrics by run, in the order of the rows.
        changes: by run, the keys in which its configuration differs from the study's.
        methods: by run, the published method that it repeats (``segswap.benchmarks.published.repeated_method``).
        csv: all measures, see ``comparison_csv``.
        markdown: the table of runs with the leading measures, then the published tables with the runs among their rows.
        html: the same; opens by itself.

    Raises:
        InputError: for a benchmark without headline measures.
    """
    write_text(csv, comparison_csv(runs, methods))
    grid = comparison_grid(runs, changes)
    write_text(markdown, "\n\n".join([grid_markdown(grid, 2), *published_markdown(runs, methods, 2)]) + "\n")
    section = "\n".join([grid_html(grid, 3), *published_html(runs, methods, 3)])
    write_fragment(html, f"<section>\n{section}\n</section>\n")
