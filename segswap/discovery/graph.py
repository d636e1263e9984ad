"""The correspondence graph of a collection: nodes that agree, mostly by closing a cycle over three images.

Shared specification, section "Discovery", step 4. Arrays and protocols are those of ``segswap.discovery.nodes``.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from segswap.discovery.nodes import (
    Nodes,
    build_nodes,
    cell_hit,
    check_protocol,
    checked_pairs,
    checked_shape,
    pair_keys,
    top_k_neighbours,
)
from segswap.discovery.predictions import PairPredictions
from segswap.files import read_arrays, write_arrays
from segswap.progress import progress

_AT_ONCE = 1 << 17
"""Couples of nodes that are looked at together: few enough to stay in a processor's cache."""


@dataclass(frozen=True)
class GraphSettings:
    """How predictions become a graph.

    Attributes:
        top_k: neighbours of an image.
        mask_threshold: cells above it are nodes.
        sigma: of the edge weights, in cells.
        two_cycles: whether nodes of one pair are connected.
        mask_weighting: whether 3-cycles are weighted by the third pair's mask.
        protocol: ``corrected`` or ``published``.
    """

    top_k: int
    mask_threshold: float
    sigma: float
    two_cycles: bool
    mask_weighting: bool
    protocol: str


@dataclass(frozen=True)
class CorrespondenceGraph:
    """The graph of a collection.

    Attributes:
        n_images: of the collection.
        shape: (h, w) of the images' grids.
        pairs: int64 (P, 2), the image pairs that the nodes belong to.
        nodes: N of them.
        weights: float32 (N, N), symmetric.
    """

    n_images: int
    shape: tuple[int, int]
    pairs: np.ndarray
    nodes: Nodes
    weights: sparse.csr_matrix

    def write(self, path: str | os.PathLike) -> None:
        """Write as an npz file, not compressed: it may have gigabytes."""
        write_arrays(
            path,
            compressed=False,
            size=np.array([self.n_images, *self.shape]),
            pairs=self.pairs,
            pair=self.nodes.pair,
            cells=self.nodes.cells,
            confidence=self.nodes.confidence,
            starts=self.nodes.starts,
            data=self.weights.data,
            indices=self.weights.indices,
            indptr=self.weights.indptr,
        )

    @classmethod
    def read(cls, path: str | os.PathLike, with_weights: bool = True) -> CorrespondenceGraph:
        """Read a file of ``write``.

        Args:
            with_weights: False leaves them out (no edges): what they take most of the file for is then not read.

        Raises:
            InputError: when the file is not of that form.
        """
        names = ["size", "pairs", "pair", "cells", "confidence", "starts"]
        found = read_arrays(path, "correspondence graph", names + ["data", "indices", "indptr"] * with_weights)
        n_images, h, w = found["size"].tolist()
        nodes = Nodes(found["pair"], found["cells"], found["confidence"], found["starts"])
        size = (len(nodes), len(nodes))
        weights = (
            sparse.csr_matrix((found["data"], found["indices"], found["indptr"]), shape=size)
            if with_weights
            else sparse.csr_matrix(size, dtype=np.float32)
        )
        return cls(n_images, (h, w), found["pairs"], nodes, weights)


def collection_graph(predictions: PairPredictions, n_images: int, settings: GraphSettings) -> CorrespondenceGraph:
    """Return the graph of a collection of ``n_images``; without nodes where nothing matches."""
    pairs, shape = predictions.pairs, predictions.maps_1.shape[-2:]
    maps = predictions.maps_1.astype(np.float32), predictions.maps_2.astype(np.float32)
    neighbours = top_k_neighbours(pairs, predictions.scores, n_images, settings.top_k, settings.protocol)
    nodes = build_nodes(pairs, *maps, settings.mask_threshold, settings.protocol, neighbours)
    weights = build_graph(
        nodes,
        pairs,
        *maps,
        settings.sigma,
        two_cycles=settings.two_cycles,
        mask_weighting=settings.mask_weighting,
        protocol=settings.protocol,
    )
    print(
        f"{n_images} images, {len(pairs)} pairs that share something, {neighbours.sum()} of neighbours: "
        f"{len(nodes)} nodes, {weights.nnz} edges",
        flush=True,
    )
    if not weights.nnz:
        print("nothing repeats: no correspondence agrees with another one; all masks are empty", flush=True)
    return CorrespondenceGraph(n_images, shape, pairs, nodes, weights)


def build_graph(
    nodes: Nodes,
    pairs: np.ndarray,
    maps_1: np.ndarray,
    maps_2: np.ndarray,
    sigma: float,
    two_cycles: bool = False,
    mask_weighting: bool = False,
    minimum: float = 0.01,
    protocol: str = "corrected",
) -> sparse.csr_matrix:
    """Return the weights between the nodes.

    Two nodes of the image pairs (i, j) and (i, n) form a **3-cycle** when (j, n) is in ``pairs``, whether it has
    nodes or not. With confidences m and m', d_0 the distance between their cells in the shared image i, d_1
    between the cell that j's cell hits in n (map of (j, n)) and n's cell, d_2 the same from n to j, in cells:

        m m' exp(-d_0 / sigma) * (exp(-d_1 / sigma) + exp(-d_2 / sigma)) / 2

    Two nodes of one image pair form a **2-cycle** (optional): m m' exp(-(d_first + d_second) / (2 sigma)); the
    node itself is one of them, so its diagonal entry is m^2.

    Only image pairs that share an image are visited, only node pairs that are near enough in it are followed
    further (the other factors are at most 1), and rows are made whole, one after the other: beside the edges there are
    never more than a fixed number of node pairs in memory.

    Args:
        nodes: of ``build_nodes``. pairs, maps_1, maps_2: what they were made of, **all** kept pairs, also those
            that are no neighbours.
        sigma: in cells, above 0.
        mask_weighting: multiply exp(-d_1 / sigma) by the mask of (j, n) at j's cell and exp(-d_2 / sigma) by the one at
            n's cell.
        minimum: weights up to this are dropped, at least 0.
        protocol: see ``cell_hit``; nothing else differs.

    Returns:
        float32 (N, N), symmetric, without explicit zeros, column indices sorted.

    Raises:
        ValueError: for an unknown protocol, a sigma or minimum out of range, or arrays that do not fit.
    """
    check_protocol(protocol)
    pairs = checked_pairs(pairs)
    shape = checked_shape(pairs, maps_1, maps_2)
    if not sigma > 0 or not minimum >= 0:
        raise ValueError(f"sigma = {sigma}, minimum = {minimum}: expected sigma > 0 and minimum >= 0")
    if len(nodes.starts) != len(pairs) + 1:
        raise ValueError(f"nodes of {len(nodes.starts) - 1} image pairs, but {len(pairs)} image pairs")
    cells = nodes.cells.reshape(-1, 2, 2) @ np.array([1, shape[1]])
    maps = _FlatMaps.of(maps_1, maps_2, protocol)
    graph = _matrix(_three_cycles(nodes, cells, pairs, maps, _decay(shape, sigma), mask_weighting, minimum), len(nodes))
    if two_cycles:
        graph += _matrix(_two_cycles(nodes, cells, _decay(shape, 2 * sigma), minimum), len(nodes))
    return graph


Rows = tuple[int, np.ndarray, np.ndarray, np.ndarray]
"""Some rows of the matrix: the first one's number, entries of each, and all their columns (ascending) and weights."""


@dataclass(frozen=True)
class _FlatMaps:
    """What each cell of each side of each image pair hits, cells as positions in their flattened grid.

    Attributes:
        hits: int64 (2, P, h w): cells of the second image that those of the first hit, and the other way round.
        masks: float32 (2, P, h w): of the first images, and of the second.
    """

    hits: np.ndarray
    masks: np.ndarray

    @classmethod
    def of(cls, maps_1: np.ndarray, maps_2: np.ndarray, protocol: str) -> _FlatMaps:
        count, _, h, w = maps_1.shape
        hits = np.empty((2, count, h * w), np.int64)
        masks = np.empty((2, count, h * w), np.float32)
        for side, maps in enumerate((maps_1, maps_2)):
            for pair, (x, y, mask) in enumerate(maps.reshape(count, 3, h * w).astype(np.float32, copy=False)):
                column, row = cell_hit(np.stack([x, y], axis=-1), (h, w), protocol).T
                hits[side, pair], masks[side, pair] = row * w + column, mask
        return cls(hits, masks)


@dataclass(frozen=True)
class _Triangles:
    """Couples of image pairs with nodes that share an image and whose other two images are a pair as well.

    Every couple stands here in both orders, in the order of the first pair, then of the second.

    Attributes:
        first, second: int64 (T,), rows of ``pairs``.
        shared_1, shared_2: at which place (0, 1) the shared image stands in the first and in the second.
        third: row of ``pairs`` of the third pair.
        forward: 0 where the third pair's first image is the first pair's other one, else 1.
    """

    first: np.ndarray
    second: np.ndarray
    shared_1: np.ndarray
    shared_2: np.ndarray
    third: np.ndarray
    forward: np.ndarray

    @classmethod
    def of(cls, pairs: np.ndarray, with_nodes: np.ndarray) -> _Triangles:
        if not len(with_nodes):
            return cls(*(np.empty(0, np.int64) for _ in range(6)))
        own = pairs[with_nodes]
        n_images = int(pairs.max()) + 1
        place = (np.ones(own.size, np.int32), own.ravel(), np.arange(0, own.size + 1, 2))
        incidence = sparse.csr_matrix(place, shape=(len(own), n_images))
        couples = (incidence @ incidence.T).tocoo()
        different = couples.row != couples.col
        first, second = couples.row[different].astype(np.int64), couples.col[different].astype(np.int64)
        # No image pair occurs twice, so that exactly one of the four comparisons holds.
        shared = (own[first][:, :, None] == own[second][:, None, :]).reshape(-1, 4).argmax(axis=1)
        shared_1, shared_2 = shared // 2, shared % 2
        ends = np.stack([own[first, 1 - shared_1], own[second, 1 - shared_2]], axis=1)
        keys, wanted = pair_keys(pairs, n_images), pair_keys(ends, n_images)
        order = np.argsort(keys)
        third = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
        forward = (pairs[third, 0] != ends[:, 0]).astype(np.int64)
        found = np.flatnonzero(keys[third] == wanted)
        found = found[np.lexsort((second[found], first[found]))]
        columns = (with_nodes[first], with_nodes[second], shared_1, shared_2, third, forward)
        return cls(*(column[found] for column in columns))


def _three_cycles(
    nodes: Nodes,
    cells: np.ndarray,
    pairs: np.ndarray,
    maps: _FlatMaps,
    decay: np.ndarray,
    mask_weighting: bool,
    minimum: float,
) -> Iterator[Rows]:
    """Yield the rows of the nodes that form 3-cycles with others, some at a time.

    ``cells`` int64 (N, 2): of the nodes in the pair's first and second image, as positions in the flattened grid.
    """
    triangles = _Triangles.of(pairs, np.flatnonzero(np.diff(nodes.starts)))
    n_cells = len(decay)
    groups = np.unique(triangles.first, return_index=True, return_counts=True)
    shown = progress(zip(*groups, strict=True), "graph (image pairs)", total=len(groups[0]))
    for pair, start, length in shown:
        of = slice(start, start + length)
        seconds, shared_1, shared_2 = triangles.second[of], triangles.shared_1[of], triangles.shared_2[of]
        third, forward = triangles.third[of], triangles.forward[of]
        # The columns: all nodes of the pairs that this one has triangles with; ``which`` says in which triangle.
        ends = np.cumsum(np.diff(nodes.starts)[seconds])
        blocks = [slice(*block) for block in itertools.pairwise([0, *ends.tolist()])]
        columns = np.concatenate([np.arange(nodes.starts[second], nodes.starts[second + 1]) for second in seconds])
        which = np.repeat(np.arange(length), [block.stop - block.start for block in blocks])
        near, far = cells[columns, shared_2[which]], cells[columns, 1 - shared_2[which]]
        back = maps.hits[1 - forward[which], third[which], far]
        back_mask = maps.masks[1 - forward[which], third[which], far]
        rows_at_once = max(1, _AT_ONCE // len(columns))
        for row in range(nodes.starts[pair], nodes.starts[pair + 1], rows_at_once):
            some = slice(row, min(row + rows_at_once, nodes.starts[pair + 1]))
            # The other two factors are on average at most 1, and so are masks: this bounds the weight.
            by_side = [decay[cells[some, side]] for side in (0, 1)]
            bound = np.concatenate(
                [by_side[side].take(near[block], axis=1) for block, side in zip(blocks, shared_1, strict=True)], axis=1
            )
            # In this order the product of two nodes is the same, to the last bit, from either side.
            bound *= nodes.confidence[some, None] * nodes.confidence[columns]
            possible = bound > minimum
            place = np.flatnonzero(possible)
            at = np.repeat(np.arange(len(bound)), np.count_nonzero(possible, axis=1))
            column = place - at * len(columns)
            # By row and triangle: where the other end is, and what it hits in the triangle's third image.
            end = cells[some, 1 - shared_1]
            hit = maps.hits[forward, third, end]
            by_triangle = at * length + which.take(column)
            closing = decay.take((hit * n_cells).take(by_triangle) + far.take(column))
            closing_back = decay.take((end * n_cells).take(by_triangle) + back.take(column))
            if mask_weighting:
                closing *= maps.masks[forward, third, end].take(by_triangle)
                closing_back *= back_mask.take(column)
            weight = bound.take(place) * ((closing + closing_back) / 2)
            kept = np.flatnonzero(weight > minimum)
            counts = np.bincount(at.take(kept), minlength=some.stop - some.start)
            yield row, counts, columns.take(column.take(kept)), weight.take(kept)


def _two_cycles(nodes: Nodes, cells: np.ndarray, decay: np.ndarray, minimum: float) -> Iterator[Rows]:
    """Yield the rows of the nodes that form 2-cycles, those of an image pair together.

    ``decay``: with twice sigma, as each image counts half.
    """
    for start, end in zip(nodes.starts, nodes.starts[1:], strict=False):
        own = slice(start, end)
        weight = nodes.confidence[own, None] * nodes.confidence[own]
        for place in cells[own].T:
            weight *= decay[place[:, None], place]
        at, column = np.nonzero(weight > minimum)
        yield start, np.bincount(at, minlength=end - start), start + column, weight[at, column]


def _matrix(parts: Iterator[Rows], size: int) -> sparse.csr_matrix:
    """Return the matrix (size, size) of some of its rows, the others empty."""
    counts = np.zeros(size + 1, np.int64)
    columns, weights = _Blocks(np.int32), _Blocks(np.float32)
    for row, count, own_columns, own_weights in parts:
        counts[row + 1 : row + 1 + len(count)] = count
        columns.add(own_columns)
        weights.add(own_weights)
    return sparse.csr_matrix((weights.joined(), columns.joined(), np.cumsum(counts)), (size, size))


class _Blocks:
    """Numbers that come in parts, gathered in large blocks: what is as large as the graph is in memory once.

    Blocks of 64 MB go back to the system as soon as they are freed; small arrays would stay with the process.
    """

    _LENGTH = 1 << 24

    def __init__(self, dtype: type) -> None:
        self._dtype, self._blocks, self._size = dtype, [], 0

    def add(self, part: np.ndarray) -> None:
        """Add numbers at the end."""
        while len(part):
            filled = self._size % self._LENGTH
            if filled == 0:
                self._blocks.append(np.empty(self._LENGTH, self._dtype))
            taken = part[: self._LENGTH - filled]
            self._blocks[-1][filled : filled + len(taken)] = taken
            self._size += len(taken)
            part = part[len(taken) :]

    def joined(self) -> np.ndarray:
        """Return all numbers; each block is freed when it is copied."""
        whole = np.empty(self._size, self._dtype)
        while self._blocks:
            start = (len(self._blocks) - 1) * self._LENGTH
            own = whole[start : start + self._LENGTH]
            own[:] = self._blocks.pop()[: len(own)]
        return whole


def _decay(shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Return exp(-d / sigma), float32 (h w, h w), between all cells of a grid."""
    y, x = (numbers.ravel() for numbers in np.indices(shape))
    return np.exp(-np.hypot(x[:, None] - x, y[:, None] - y) / sigma).astype(np.float32)
