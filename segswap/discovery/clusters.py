"""Several clusters of a collection: each a detail that some of its images share, as regions of them.

The graph's principal eigenvector gives the strongest cluster; without its nodes the next one is sought (deflation),
and so on. Correspondences of different details hardly agree with each other, so that the graph falls into parts and
each eigenvector is a small one.
"""

from __future__ import annotations

import dataclasses
import heapq
import itertools
import os
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from scipy import ndimage, sparse

from segswap.discovery.collection import Collection
from segswap.discovery.graph import CorrespondenceGraph
from segswap.discovery.spectral import connected_subgraphs, perron_vector, principal_eigenvector
from segswap.files import read_arrays, write_arrays
from segswap.names import as_text


@dataclasses.dataclass(frozen=True)
class Eigenvectors:
    """Some eigenvectors of a graph or of its parts, largest eigenvalue first, by their entries that are not 0.

    Attributes:
        values: float64 (K,), eigenvalues.
        starts: int64 (K + 1,): those of vector k are ``starts[k]`` up to, not including, ``starts[k + 1]``.
        members: int64 (M,), nodes of the graph.
        entries: float32 (M,).
    """

    values: np.ndarray
    starts: np.ndarray
    members: np.ndarray
    entries: np.ndarray

    @classmethod
    def of(cls, found: Iterable[tuple[float, np.ndarray, np.ndarray]]) -> Eigenvectors:
        """Return eigenvectors of their (value, members, entries)."""
        values, members, entries = [], [np.empty(0, np.int64)], [np.empty(0, np.float32)]
        for value, own, own_entries in found:
            values.append(value)
            members.append(own)
            entries.append(own_entries)
        starts = np.cumsum([len(own) for own in members])
        joined = np.concatenate(members).astype(np.int64), np.concatenate(entries).astype(np.float32)
        return cls(np.array(values, np.float64), starts, *joined)

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[tuple[float, np.ndarray, np.ndarray]]:
        """Yield value, members and entries of each."""
        for value, (start, end) in zip(self.values.tolist(), itertools.pairwise(self.starts.tolist()), strict=True):
            yield value, self.members[start:end], self.entries[start:end]

    def dense(self, number: int, size: int) -> np.ndarray:
        """Return one of them with all its entries, float32 (size,)."""
        vector = np.zeros(size, np.float32)
        own = slice(*self.starts[number : number + 2])
        vector[self.members[own]] = self.entries[own]
        return vector

    def write(self, path: str | os.PathLike) -> None:
        """Write as an npz file."""
        write_arrays(path, **dataclasses.asdict(self))


def read_eigenvectors(path: str | os.PathLike) -> Eigenvectors:
    """Read a file of ``Eigenvectors.write``.

    Raises:
        InputError: when the file is not of that form.
    """
    names = [field.name for field in dataclasses.fields(Eigenvectors)]
    return Eigenvectors(**read_arrays(path, "eigenvectors", names))


def principal_only(weights: sparse.csr_matrix, protocol: str = "corrected") -> Eigenvectors:
    """Return the principal eigenvector of a graph alone; no vector for a graph without edges."""
    if not weights.nnz:
        return Eigenvectors.of([])
    vector = principal_eigenvector(weights, protocol)
    members = np.flatnonzero(vector)
    return Eigenvectors.of([(float(vector @ (weights @ vector)), members, vector[members])])


def leading_clusters(weights: sparse.csr_matrix, count: int, node_share: float) -> Eigenvectors:
    """Return the strongest clusters of a graph, no node in two of them.

    A cluster is the nodes whose entries in the principal eigenvector are above a share of the largest. They are taken
    out, and the next cluster is sought in what is left. Only the connected part with the largest eigenvalue is cut, so
    that the others need not be computed again; the largest row sum bounds an eigenvalue and tells which part may be
    next.

    Args:
        weights: float32 (N, N), symmetric, not negative.
        count: largest number of clusters, at least 1.
        node_share: in [0, 1).

    Raises:
        ValueError: for a value out of range.
    """
    if count < 1 or not 0 <= node_share < 1:
        raise ValueError(f"count = {count}, node_share = {node_share}: expected at least 1, and a share in [0, 1)")
    # (bound of the eigenvalue or itself, number that breaks ties, nodes, what gives the graph, eigenvector if known),
    # largest first. A part is cut out only when its turn comes: most never do.
    parts: list[tuple[float, int, np.ndarray, Callable[[], sparse.csr_matrix], np.ndarray | None]] = []
    numbers = itertools.count()

    def add(members: np.ndarray, graph: sparse.csr_matrix) -> None:
        for own, part, bound in connected_subgraphs(graph):
            heapq.heappush(parts, (-float(bound), next(numbers), members[own], part, None))

    if weights.nnz:
        add(np.arange(weights.shape[0]), weights)
    found = []
    while parts and len(found) < count:
        bound, _, members, part, vector = heapq.heappop(parts)
        graph = part()
        if vector is None:
            value, vector = perron_vector(graph)
            heapq.heappush(parts, (-value, next(numbers), members, lambda graph=graph: graph, vector))
            continue
        inside = vector > node_share * vector.max()
        found.append((-bound, members[inside], vector[inside]))
        rest = np.flatnonzero(~inside)
        left = graph[rest][:, rest]
        if left.nnz:
            add(members[rest], left)
    return Eigenvectors.of(found)


REGIONS = pa.schema(
    [
        ("cluster", pa.int32()),
        ("strength", pa.float64()),
        ("image", pa.string()),
        ("box", pa.list_(pa.float32(), 4)),
        ("weight", pa.float64()),
        ("cells", pa.int32()),
    ]
)
"""Regions: cluster from 1 and its eigenvalue; image and box (x1, y1, x2, y2) in its pixels; sum of entries; cells."""

CORRESPONDENCES = pa.schema(
    [
        ("cluster", pa.int32()),
        ("image_1", pa.string()),
        ("image_2", pa.string()),
        ("cell_1", pa.list_(pa.float32(), 2)),
        ("cell_2", pa.list_(pa.float32(), 2)),
        ("confidence", pa.float32()),
        ("weight", pa.float32()),
    ]
)
"""Correspondences: normalised centres (x, y) of both cells, predicted mask, entry in the eigenvector."""


def cluster_regions(
    graph: CorrespondenceGraph, eigenvectors: Eigenvectors, collection: Collection, region_share: float
) -> pa.Table:
    """Return the regions of clusters, strongest first: connected cells (also by corners) with nodes of the cluster.

    Args:
        region_share: cells with less than this share of the image's largest cell, and regions with less than this
            share of its heaviest one, are left out; in [0, 1].

    Returns:
        a table of ``REGIONS``.
    """
    h, w = graph.shape
    rows = []
    for number, (strength, members, entries) in enumerate(eigenvectors, 1):
        images = graph.pairs[graph.nodes.pair[members]].ravel()
        cells = graph.nodes.cells[members].reshape(-1, 2)
        found = []
        for image in np.unique(images):
            mask = np.zeros(graph.shape)
            own = images == image
            np.add.at(mask, (cells[own, 1], cells[own, 0]), np.repeat(entries, 2)[own])
            height, width = collection.read(image).shape[:2]
            label, count = ndimage.label((mask > 0) & (mask >= region_share * mask.max()), np.ones((3, 3)))
            sums = ndimage.sum_labels(mask, label, np.arange(1, count + 1))
            for part, (rows_of, columns_of) in enumerate(ndimage.find_objects(label), 1):
                if sums[part - 1] >= region_share * sums.max():
                    box = [columns_of.start / w, rows_of.start / h, columns_of.stop / w, rows_of.stop / h]
                    found.append(
                        {
                            "cluster": number,
                            "strength": strength,
                            "image": as_text(collection.images[image]),
                            "box": (np.array(box) * [width, height, width, height]).tolist(),
                            "weight": float(sums[part - 1]),
                            "cells": int((label == part).sum()),
                        }
                    )
        rows += sorted(found, key=lambda row: (-row["weight"], row["image"]))
    return pa.Table.from_pylist(rows, schema=REGIONS)


def cluster_correspondences(graph: CorrespondenceGraph, eigenvectors: Eigenvectors, collection: Collection) -> pa.Table:
    """Return the correspondences of clusters, those of an image pair together; a table of ``CORRESPONDENCES``."""
    size = np.array(graph.shape[::-1] * 2)
    cluster = np.repeat(np.arange(1, len(eigenvectors) + 1), np.diff(eigenvectors.starts))
    members = eigenvectors.members
    names = np.array([as_text(name) for name in collection.images])[graph.pairs[graph.nodes.pair[members]]]
    centres = ((graph.nodes.cells[members] + 0.5) / size).astype(np.float32)
    columns = {
        "cluster": cluster,
        "image_1": names[:, 0].tolist(),
        "image_2": names[:, 1].tolist(),
        "cell_1": list(centres[:, :2]),
        "cell_2": list(centres[:, 2:]),
        "confidence": graph.nodes.confidence[members],
        "weight": eigenvectors.entries,
    }
    order = np.lexsort((members, cluster))
    return pa.table(columns, schema=CORRESPONDENCES).take(order)
