"""The summary of a run: headline measures of every benchmark beside its baselines and the published numbers."""

from __future__ import annotations

import csv
import dataclasses
import io
import os
from collections.abc import Mapping, Sequence
from html import escape

from segswap.benchmarks.published import is_published, published_share
from segswap.errors import InputError
from segswap.files import write_text
from segswap.report.document import number, table
from segswap.report.grid import ABSENT, Cell, Grid, grid_html, grid_markdown, write_fragment
from segswap.report.published_tables import COMPARABLE, Metrics, published_html, published_markdown

_MATCHERS = (("segswap", "SegSwap", ""), ("untrained", "untrained", "untrained_"), ("cosine", "cosine", "baseline_"))
"""Column of the CSV, heading, and prefix of its keys in the metrics."""

_BESIDE = (("sift", "SIFT", "sift_"),)
"""The same of methods that some benchmarks have beside these; they have a column where there is such a benchmark."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """A headline measure.

    Attributes:
        key: in the benchmark's metrics.
        label: in words.
        form: ``percent`` (of a share, one decimal), ``share`` (.NNN) or ``cells`` (two decimals).
        smaller: whether smaller is better.
        contest: whether the matchers compete; False for what is the same for all of them.
        lead: whether it stands for its benchmark where runs are compared.
    """

    key: str
    label: str
    form: str
    smaller: bool = False
    contest: bool = True
    lead: bool = False

    def text(self, value: float | None) -> str:
        """Format a value of the metrics; a dash where there is none."""
        if value is None:
            return ABSENT
        if self.form == "percent":
            return f"{100 * value:.1f}"
        formatted = f"{value:.2f}" if self.form == "cells" else f"{value:.3f}"
        return formatted if self.form == "cells" else formatted.replace("0.", ".", 1)

    def signed(self, difference: float | None) -> str:
        """Format a difference of two values with its sign; nothing where there is none."""
        if difference is None:
            return ""
        return ("-" if difference < 0 else "+") + self.text(abs(difference))


def _recalls(key: str, label: str, contest: bool) -> tuple[Measure, ...]:
    return tuple(
        Measure(f"{key}@{n}", f"{label}@{n}, %", "percent", contest=contest, lead=contest and n == 1)
        for n in (1, 5, 10)
    )


_PLACES = (
    *_recalls("recall", "recall", contest=True),
    *_recalls("first_recall", "before re-ranking, recall", contest=False),
)

_DETAILS = (
    Measure("map", "retrieval mAP, %", "percent", lead=True),
    Measure("detection_map_cosine", "detection mAP, %, cosine boxes", "percent", lead=True),
    Measure("detection_map", "detection mAP, %, direct boxes", "percent"),
)

HEADLINES: dict[str, tuple[str, tuple[Measure, ...]]] = {
    "pairs": (
        "Held-out pairs",
        (
            Measure("mask_iou", "mask IoU", "share", lead=True),
            Measure("within_cell", "correspondences within a cell", "share", lead=True),
            Measure("median_error", "median error, cells", "cells", smaller=True),
            Measure("roc_auc", "ROC AUC, related or not", "share", lead=True),
            Measure("negative_mask", "mean mask of unrelated pairs", "share", smaller=True),
        ),
    ),
    "brueghel": ("Brueghel", _DETAILS),
    "planted": ("Planted details", _DETAILS),
    "altered": (
        "Altered details",
        (
            Measure("recall@1", "recall@1, %", "percent", lead=True),
            Measure("recall@5", "recall@5, %", "percent"),
            Measure("mrr", "mean reciprocal rank", "share"),
            Measure("windows_recall@1", "before the matcher, recall@1, %", "percent", contest=False),
            Measure("box_iou", "median IoU of the box", "share"),
        ),
    ),
    "tokyo247": ("Tokyo 24/7", _PLACES),
    "pitts30k": ("Pitts30k-test", _PLACES),
    "own_places": ("Own places", _PLACES),
    "discovery": ("Discovery in paintings", (Measure("f1", "F1 of the best cluster", "share", lead=True),)),
    "internet": (
        "Internet",
        (
            Measure("precision", "pixels right (P)", "share", lead=True),
            Measure("jaccard", "IoU (J), images with an object", "share", lead=True),
            Measure("jaccard_all", "IoU (J), all images", "share"),
        ),
    ),
}
"""Benchmarks in the order of the tables: name in words, measures."""


@dataclasses.dataclass(frozen=True)
class SummaryRow:
    """One line of the summary: values as in the metrics, None where absent; ``matchers`` by CSV column."""

    benchmark: str
    measure: Measure
    matchers: dict[str, float | None]
    published: float | None

    @property
    def difference(self) -> float | None:
        """This run's value less the published one, in the metrics' units; None where either is absent."""
        own = self.matchers["segswap"]
        return None if own is None or self.published is None else own - self.published

    def best(self) -> set[str]:
        """Return the columns with the best value; none where fewer than two values compete."""
        present = {name: value for name, value in self.matchers.items() if value is not None}
        if not self.measure.contest or len(present) < 2:
            return set()
        best = min(present.values()) if self.measure.smaller else max(present.values())
        return {name for name, value in present.items() if value == best}

    def ahead(self) -> list[str]:
        """Return the columns of the baselines that are better than this run's model."""
        own, sign = self.matchers["segswap"], -1 if self.measure.smaller else 1
        if own is None or not self.measure.contest:
            return []
        return [
            name
            for name in ("untrained", "cosine")
            if (value := self.matchers[name]) is not None and sign * value > sign * own
        ]


def _behind(rows: Sequence[SummaryRow]) -> tuple[str, ...]:
    """Return a note that names the measures in which a baseline is ahead of the trained model; none where none is."""
    named = []
    for benchmark, (name, _) in HEADLINES.items():
        of_it = [(row.measure.label, row.ahead()) for row in rows if row.benchmark == benchmark]
        behind = [f"{label} (than {' and '.join(ahead)})" for label, ahead in of_it if ahead]
        named += [f"{name}: {'; '.join(behind)}"] if behind else []
    if not named:
        return ()
    return (
        f"The trained model is worse than its baselines in: {'. '.join(named)}. There its training has not paid: take "
        "more photos, pairs or steps, or a better backbone.",
    )


def _values(numbers: Mapping[str, float], key: str) -> dict[str, float | None]:
    """Return a measure's values by column; methods beside the matchers are left out where they have none."""
    matchers = {name: numbers.get(prefix + key) for name, _, prefix in _MATCHERS}
    return matchers | {name: numbers[prefix + key] for name, _, prefix in _BESIDE if prefix + key in numbers}


def _columns(rows: Sequence[SummaryRow]) -> tuple[tuple[str, str, str], ...]:
    """Return the columns of some rows, as ``_MATCHERS``."""
    return (*_MATCHERS, *(column for column in _BESIDE if any(column[0] in row.matchers for row in rows)))


def summary_rows(metrics: Metrics, method: str | None) -> list[SummaryRow]:
    """Return the lines of the summary; benchmarks and measures that were not run are left out.

    Args:
        metrics: flat numbers by benchmark.
        method: the published method whose numbers stand beside, see ``segswap.benchmarks.published``; None for none.

    Raises:
        InputError: for a benchmark without headline measures.
    """
    unknown = sorted(set(metrics) - set(HEADLINES))
    if unknown:
        raise InputError(f"no benchmark is called {', '.join(unknown)}; expected metrics of {', '.join(HEADLINES)}")
    rows = []
    for benchmark, (_, measures) in HEADLINES.items():
        numbers = metrics.get(benchmark, {})
        for measure in measures:
            matchers = _values(numbers, measure.key)
            if any(value is not None for value in matchers.values()):
                rows.append(SummaryRow(benchmark, measure, matchers, published_share(benchmark, measure.key, method)))
    return rows


_WITH_PARTS = ("altered", "discovery", "internet")
"""Benchmarks whose headline measures are also shown for each kind, detail or class: keys ``<measure>_<part>``."""


def part_rows(metrics: Metrics, method: str | None) -> list[SummaryRow]:
    """Return the lines of the measures by class and by detail, part after part."""
    rows = []
    for benchmark in _WITH_PARTS:
        numbers = metrics.get(benchmark, {})
        measures = {measure.key: measure for measure in HEADLINES[benchmark][1]}
        found = []
        for key in numbers:
            # ``jaccard_all_Car100`` is of ``jaccard_all``, not of ``jaccard``.
            own = max((name for name in measures if key.startswith(f"{name}_")), key=len, default=None)
            if own and key not in measures:
                found.append((key.removeprefix(f"{own}_"), list(measures).index(own), key, measures[own]))
        for part, _, key, measure in sorted(found, key=lambda entry: entry[:2]):
            named = dataclasses.replace(measure, key=key, label=f"{part}: {measure.label}")
            published = published_share(benchmark, key, method)
            rows.append(SummaryRow(benchmark, named, _values(numbers, key), published))
    return rows


def summary_csv(rows: Sequence[SummaryRow]) -> str:
    """Return the summary as CSV: one line per benchmark and measure.

    Columns: ``benchmark``, ``measure`` (key of the metrics), ``segswap``, ``untrained``, ``cosine``, ``sift`` (where a
    benchmark has it), ``published``, ``difference`` (this run less published).
    Values are as in the metrics (shares in [0, 1], ``median_error`` in cells), in full precision; empty where
    absent.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    names = [name for name, _, _ in _columns(rows)]
    writer.writerow(["benchmark", "measure", *names, "published", "difference"])
    for row in rows:
        values = [*(row.matchers.get(name) for name in names), row.published, row.difference]
        writer.writerow([row.benchmark, row.measure.key, *("" if v is None else repr(float(v)) for v in values)])
    return text.getvalue()


def _summary_grid(rows: Sequence[SummaryRow], method: str, facts: Mapping[str, str] | None) -> Grid:
    and_beside = "".join(f" and {heading}" for _, heading, _ in _columns(rows)[len(_MATCHERS) :])
    bold = f"Bold: the best of the run's own three{and_beside}. Difference: SegSwap here less published."
    beside = (
        f'Published: "{method}", which this run repeats, on the full-size data sets. {COMPARABLE}'
        if is_published(method)
        else f'Published: no table has "{method}", the method of this run.'
    )
    said = (" ".join(f"{title}: {words}." for title, words in facts.items()),) if facts else ()
    return _rows_grid("This run", rows, (*_behind(rows), bold, *said, beside))


def _rows_grid(title: str, rows: Sequence[SummaryRow], notes: tuple[str, ...] = ()) -> Grid:
    body = []
    columns = _columns(rows)
    previous = None
    for row in rows:
        name = HEADLINES[row.benchmark][0] if row.benchmark != previous else ""
        previous, best = row.benchmark, row.best()
        values = [Cell(row.measure.text(row.matchers.get(column)), column in best) for column, _, _ in columns]
        published = "" if row.published is None else row.measure.text(row.published)
        values += [Cell(published), Cell(row.measure.signed(row.difference))]
        body.append([Cell(name, left=True), Cell(row.measure.label, left=True), *values])
    head = [Cell("benchmark", left=True), Cell("measure", left=True)]
    head += [Cell(heading) for _, heading, _ in columns] + [Cell("published"), Cell("difference")]
    return Grid(title, head, body, notes=notes)


def _own_grids(metrics: Metrics, method: str, facts: Mapping[str, str] | None) -> list[Grid]:
    """Return the tables of this run alone: the headline numbers, and those by class and by detail."""
    parts = part_rows(metrics, method)
    by_part = [_rows_grid("By class and by detail", parts)] if parts else []
    return [_summary_grid(summary_rows(metrics, method), method, facts), *by_part]


_THIS_RUN = "this run"


def summary_markdown(metrics: Metrics, method: str, facts: Mapping[str, str] | None = None) -> str:
    """Return the summary and the published tables as Markdown."""
    parts = [grid_markdown(grid, 2) for grid in _own_grids(metrics, method, facts)]
    parts += published_markdown({_THIS_RUN: metrics}, {_THIS_RUN: method}, 2)
    return "\n\n".join(parts) + "\n"


def _all_numbers(benchmark: str, numbers: Mapping[str, float]) -> str:
    """Return every number of a benchmark as a table that opens on demand: a row per measure, a column per matcher."""
    beside = [column for column in _BESIDE if any(key.startswith(column[2]) for key in numbers)]
    columns = (*_MATCHERS, *beside)
    prefixes = tuple(prefix for _, _, prefix in columns if prefix)
    keys = dict.fromkeys(
        next((key.removeprefix(prefix) for prefix in prefixes if key.startswith(prefix)), key) for key in numbers
    )
    rows = (
        [key, *(number(numbers[prefix + key]) if prefix + key in numbers else ABSENT for _, _, prefix in columns)]
        for key in keys
    )
    content = table(["measure", *(heading for _, heading, _ in columns)], rows)
    return f"<details><summary>All numbers: {escape(HEADLINES[benchmark][0])}</summary>{content}</details>"


def summary_html(metrics: Metrics, method: str, facts: Mapping[str, str] | None = None) -> str:
    """Return the summary, the published tables and all numbers as HTML: a section without the frame of a document."""
    parts = [grid_html(grid, 3) for grid in _own_grids(metrics, method, facts)]
    parts += published_html({_THIS_RUN: metrics}, {_THIS_RUN: method}, 3)
    if metrics:
        parts += ["<h3>All numbers</h3>", *(_all_numbers(name, metrics[name]) for name in HEADLINES if name in metrics)]
    return "<section>\n" + "\n".join(parts) + "\n</section>\n"


def write_summary(
    metrics: Metrics,
    csv: str | os.PathLike,
    markdown: str | os.PathLike,
    html: str | os.PathLike,
    *,
    method: str,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the summary of a run three times.

    Args:
        metrics: flat numbers by benchmark, of ``HEADLINES``; benchmarks that were not run are absent. Twins of the
            untrained model and of cosine have the prefixes ``untrained_`` and ``baseline_``.
        csv: machine readable, see ``summary_csv``.
        markdown: formatted as in the field, with the published tables.
        html: the same; opens by itself, and the report page takes it in as it is.
        method: the published method that the run repeats: its numbers stand beside, and the run below it in the
            published tables; see ``segswap.benchmarks.published.repeated_method``.
        facts: how the numbers came about, by title: the protocol, what models were selected by.

    Raises:
        InputError: for a benchmark without headline measures.
    """
    write_text(csv, summary_csv([*summary_rows(metrics, method), *part_rows(metrics, method)]))
    write_text(markdown, summary_markdown(metrics, method, facts))
    write_fragment(html, summary_html(metrics, method, facts))
