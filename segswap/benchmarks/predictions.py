"""Prediction files: Parquet, written whole, one for each chunk of a benchmark's work."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq

from segswap.errors import InputError
from segswap.files import whole_file
from segswap.program import whole_number


def add_chunk_arguments(parser: argparse.ArgumentParser, what: str) -> None:
    """Add the flags of a program that does one part of the work, for ``chunk_rows``; ``what`` is parted."""
    parser.add_argument("--chunk", type=whole_number(0), required=True, help=f"part of the {what}, from 0")
    parser.add_argument("--chunks", type=whole_number(1), required=True, help="number of parts")


def chunk_rows(n_items: int, chunks: int, chunk: int) -> range:
    """Return the items of one of ``chunks`` nearly equal parts of 0 to ``n_items - 1``; a part may be empty.

    Raises:
        InputError: when there is no part of that number.
    """
    if not 0 <= chunk < chunks:
        raise InputError(f"--chunk {chunk}: of {chunks} parts expected one from 0 to {chunks - 1}")
    return range(n_items * chunk // chunks, n_items * (chunk + 1) // chunks)


def write_predictions(table: pa.Table, path: str | os.PathLike) -> None:
    """Write predictions as a whole Parquet file."""
    with whole_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def read_predictions(paths: Sequence[str | os.PathLike]) -> pa.Table:
    """Read the chunks of a prediction, in order, as one table.

    Raises:
        InputError: when a file is missing or damaged.
    """
    tables = []
    for path in paths:
        try:
            tables.append(pq.read_table(path))
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: not readable as predictions ({error}); delete it and run again") from None
    return pa.concat_tables(tables)


def add_by_matcher_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a program that shows the three matchers side by side, for ``read_by_matcher``."""
    parser.add_argument("--trained", nargs="+", required=True, help="predictions of the trained model")
    parser.add_argument("--untrained", nargs="+", required=True, help="those of the untrained one")
    parser.add_argument("--baseline", nargs="+", required=True, help="those of the cosine baseline")


def read_by_matcher(trained: Sequence[str], untrained: Sequence[str], baseline: Sequence[str]) -> dict[str, pa.Table]:
    """Read the predictions of the three matchers, by the names that pictures show."""
    files = {"SegSwap": trained, "untrained": untrained, "cosine": baseline}
    return {name: read_predictions(paths) for name, paths in files.items()}
