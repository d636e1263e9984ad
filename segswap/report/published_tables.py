"""Published tables with rows of runs among them, each below the published method that it repeats."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from segswap.benchmarks.published import TABLES, Row, Table
from segswap.report.grid import ABSENT, Cell, Grid, grid_html, grid_markdown

Metrics = Mapping[str, Mapping[str, float]]
"""Flat numbers by benchmark, as in ``results/<run>/metrics/<benchmark>.json``."""

Runs = Mapping[str, Metrics]
"""Metrics by run."""

COMPARABLE = (
    "The numbers are only comparable with a run at the settings of config/paper.yaml; other configurations judge "
    "smaller data by the same code."
)

_TITLE = "Beside the published results"

_NOTE = (
    "A run stands below the published method that it repeats. Bold: the best published number of a column, and each "
    f"number of a run that is at least as good. {COMPARABLE}"
)


def _run_row(table: Table, name: str, metrics: Metrics) -> Row:
    """Return a run as a row of a table: its numbers rounded as printed, None for what was not run."""
    numbers = metrics.get(table.benchmark, {})
    printed = (
        round(column.printed(numbers[column.key]), column.decimals) if column.key in numbers else None
        for column in table.columns
    )
    return Row(name, tuple(printed))


def _notes(table: Table) -> tuple[str, ...]:
    """Return the notes of a table's rows, each once, with the methods that it is about."""
    methods: dict[str, list[str]] = {}
    for row in table.rows:
        if row.note:
            methods.setdefault(row.note, []).append(row.method)
    return tuple(f"{'; '.join(names)}: {note}." for note, names in methods.items())


def published_grid(table: Table, runs: Runs, methods: Mapping[str, str]) -> Grid:
    """Return a published table with a row for each run.

    Args:
        table: of a benchmark.
        runs: metrics by run, in the order of the rows; a dash stands for what was not run.
        methods: by run, the published method that it repeats; a run that repeats none of the table stands at its end.
    """
    below: dict[str | None, list[Row]] = {row.method: [] for row in table.rows}
    at_end: list[Row] = []
    for name, metrics in runs.items():
        below.get(methods.get(name), at_end).append(_run_row(table, name, metrics))
    lines = [(line, line is not row) for row in table.rows for line in (row, *below[row.method])]
    lines += [(line, True) for line in at_end]

    bests = [
        max(value for value in values if value is not None)
        for values in zip(*(row.values for row in table.rows), strict=True)
    ]
    body = []
    for line, _ in lines:
        cells = [
            Cell(ABSENT) if value is None else Cell(column.text(value), value >= best)
            for column, value, best in zip(table.columns, line.values, bests, strict=True)
        ]
        body.append([Cell(line.method, left=True), *cells])
    head = [Cell("method", left=True)] + [Cell(column.heading) for column in table.columns]
    ours = frozenset(number for number, (_, is_run) in enumerate(lines) if is_run)
    return Grid(table.title, head, body, ours, _notes(table))


def _grids(runs: Runs, methods: Mapping[str, str]) -> list[Grid]:
    """Return the published tables of the benchmarks that any run has numbers for."""
    return [
        published_grid(table, runs, methods)
        for benchmark, table in TABLES.items()
        if any(benchmark in metrics for metrics in runs.values())
    ]


def published_markdown(runs: Runs, methods: Mapping[str, str], level: int) -> list[str]:
    """Return the published tables as parts of a Markdown document, below a heading of a level; none without tables."""
    grids = [grid_markdown(grid, level + 1) for grid in _grids(runs, methods)]
    return [f"{'#' * level} {_TITLE}", _NOTE, *grids] if grids else []


def published_html(runs: Runs, methods: Mapping[str, str], level: int) -> list[str]:
    """Return the published tables as parts of an HTML section, below a heading of a level; none without tables."""
    grids = [grid_html(grid, level + 1) for grid in _grids(runs, methods)]
    return [f"<h{level}>{_TITLE}</h{level}>", f'<p class="note">{escape(_NOTE)}</p>', *grids] if grids else []
