"""Published tables with rows of runs among them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.benchmarks.published import TABLES, repeated_method
from segswap.report.published_tables import COMPARABLE, published_grid, published_html, published_markdown

TRANSFORMER = repeated_method("annotations", "transformer")
NCNET = repeated_method("segments", "ncnet")


@st.composite
def runs_of_a_table(draw):
    """Draw a table, metrics of runs with gaps, and the method of each run: of the table, of none, or not given."""
    table = draw(st.sampled_from(list(TABLES.values())))
    numbers = st.dictionaries(st.sampled_from([column.key for column in table.columns]), st.floats(0, 1))
    metrics = st.one_of(st.just({}), numbers.map(lambda found: {table.benchmark: found}))
    runs = draw(st.dictionaries(st.text(st.sampled_from("ab|<-"), min_size=1, max_size=4), metrics, max_size=8))
    method = st.sampled_from([*(row.method for row in table.rows), "of no row", None])
    methods = {name: found for name in runs if (found := draw(method)) is not None}
    return table, runs, methods


@given(runs_of_a_table())
def test_published_rows_keep_their_order_and_each_run_stands_below_its_method(drawn):
    table, runs, methods = drawn
    grid = published_grid(table, runs, methods)
    names = [row[0].text for row in grid.body]
    assert [name for number, name in enumerate(names) if number not in grid.ours] == [row.method for row in table.rows]
    assert sorted(names[number] for number in grid.ours) == sorted(runs), "each run once"
    above = None
    groups: dict[str, list[str]] = {}
    for number, name in enumerate(names):
        if number in grid.ours:
            groups.setdefault(above, []).append(name)
        else:
            above = name
    published = {row.method for row in table.rows}
    last = table.rows[-1].method
    for method in published:
        expected = [name for name in runs if methods.get(name) == method]
        at_end = [name for name in runs if methods.get(name) not in published] if method == last else []
        assert groups.get(method, []) == expected + at_end, "in the order of the runs; others at the end"


@given(runs_of_a_table())
def test_numbers_stand_as_printed_and_are_bold_where_no_published_one_is_better(drawn):
    table, runs, methods = drawn
    grid = published_grid(table, runs, methods)
    for number, (name, *cells) in enumerate(grid.body):
        for index, (column, cell) in enumerate(zip(table.columns, cells, strict=True)):
            published = [row.values[index] for row in table.rows if row.values[index] is not None]
            if number not in grid.ours:
                value = next(row.values[index] for row in table.rows if row.method == name.text)
                assert cell.text == column.text(value) and cell.bold == (value == max(published))
                continue
            share = runs[name.text].get(table.benchmark, {}).get(column.key)
            assert (cell.text == "-") == (share is None)
            if share is None:
                assert not cell.bold
            else:
                assert float(cell.text) == pytest.approx(column.printed(share), abs=0.51 * 10**-column.decimals)
                assert cell.bold == (float(cell.text) >= max(published))


def test_several_runs_may_be_bold_in_one_column():
    runs = {"one": {"brueghel": {"map": 0.844}}, "two": {"brueghel": {"map": 0.9}}, "three": {"brueghel": {"map": 0.8}}}
    text = "\n".join(published_markdown(runs, dict.fromkeys(runs, TRANSFORMER), 2))
    assert f"| {TRANSFORMER} | **84.4** | **81.8** |\n| one | **84.4** | - |\n| two | **90.0** | - |\n| three |" in text
    assert "| three | 80.0 | - |" in text


def test_only_tables_of_benchmarks_that_a_run_has_are_there_each_once():
    runs = {"one": {"tokyo247": {"recall@1": 0.5}, "pairs": {"mask_iou": 0.5}}, "two": {"internet": {"jaccard": 0.5}}}
    parts = published_markdown(runs, {"one": TRANSFORMER, "two": NCNET}, 2)
    headings = [line for part in parts for line in part.splitlines() if line.startswith("#")]
    assert headings == ["## Beside the published results"] + [
        f"### {TABLES[benchmark].title}" for benchmark in ("tokyo247", "internet")
    ]
    assert published_markdown({"one": {"pairs": {"mask_iou": 0.5}}}, {"one": TRANSFORMER}, 2) == []
    assert published_html({"one": {}}, {}, 3) == []


def test_both_forms_say_what_is_bold_what_is_comparable_and_what_is_printed_otherwise():
    runs = {"one": {"brueghel": {"map": 0.5}}}
    for parts in (published_markdown(runs, {"one": NCNET}, 2), published_html(runs, {"one": NCNET}, 3)):
        text = "\n".join(parts)
        assert COMPARABLE in text and "Bold:" in text and "stands below the published method" in text
        assert text.count("printed as Sparse-NcNet") == 1, "one note for both rows"
