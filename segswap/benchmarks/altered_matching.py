"""Altered details: every query searched in the index of the pictures, as ``segswap search`` does."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa

from segswap.benchmarks.altered import SCHEMA, AlteredQuery
from segswap.models.segswap import SegSwap
from segswap.names import as_text
from segswap.progress import progress
from segswap.search.index import Index
from segswap.search.query import read_query
from segswap.search.search import SearchSettings, search_all


def predict(queries: Sequence[AlteredQuery], index: Index, model: SegSwap, matched: int) -> pa.Table:
    """Search every query.

    Args:
        index: of the pictures that the details are cut out of.
        model: in evaluation mode, with the backbone of the index, on the device that is to be used.
        matched: places that the matcher looks at for each query; 0: none.

    Returns:
        a row for each place of each query, of ``altered.SCHEMA``.
    """
    settings = SearchSettings(shortlist=0, matched=matched, negatives=0)
    asked = (read_query(query.file, query.query_box) for query in queries)
    results = search_all(index, model, asked, settings, show_progress=False)
    rows = [
        {
            "query": number,
            "picture": as_text(hit.image),
            "similarity": hit.similarity,
            "score": hit.score,
            "box": hit.box,
        }
        for number, result in enumerate(progress(results, "queries", total=len(queries)))
        for hit in result.hits
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)
