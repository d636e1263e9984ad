"""Chunks of a benchmark's work and their prediction files."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segswap.benchmarks.predictions import chunk_rows, read_predictions, write_predictions
from segswap.errors import InputError


@given(st.integers(0, 500), st.integers(1, 40))
def test_chunks_share_the_items_evenly_in_order_each_once(n_items: int, chunks: int) -> None:
    parts = [chunk_rows(n_items, chunks, chunk) for chunk in range(chunks)]
    assert [item for part in parts for item in part] == list(range(n_items))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize(("chunk", "chunks"), [(2, 2), (-1, 2), (0, 0), (0, -1)])
def test_a_part_that_is_none_is_said(chunk: int, chunks: int) -> None:
    with pytest.raises(InputError, match=f"--chunk {chunk}: of {chunks} parts"):
        chunk_rows(10, chunks, chunk)


def test_chunks_are_read_back_as_one_table_also_when_one_is_empty(tmp_path: Path) -> None:
    tables = [pa.table({"query": pa.array(rows, pa.int32())}) for rows in ([0, 1], [], [2])]
    paths = [tmp_path / f"{n}.parquet" for n in range(3)]
    for table, path in zip(tables, paths, strict=True):
        write_predictions(table, path)
    assert read_predictions(paths).column("query").to_pylist() == [0, 1, 2]


def test_a_damaged_chunk_is_named(tmp_path: Path) -> None:
    path = tmp_path / "predictions-3.parquet"
    path.write_bytes(b"PAR1 and then nothing")
    with pytest.raises(InputError, match=r"predictions-3\.parquet: not readable as predictions .* run again"):
        read_predictions([path])
