"""The correspondence graph of a collection: from the predictions of all image pairs to one sparse matrix.

Shared specification, section "Discovery", steps 2 to 4. A node is a correspondence between one cell of each of
two images; an edge says how well two correspondences agree, mostly by closing a cycle over three images.

Arrays used throughout, for P image pairs of one collection whose grids are all h x w cells:

- ``pairs`` int (P, 2): image numbers from 0; no pair twice (in either order), no image with itself.
- ``maps_1``, ``maps_2`` float (P, 3, h, w): the predictions for the first and the second image of each pair.
  Channels 0 and 1 are the normalised (x, y) of each cell in the *other* image, channel 2 the mask, all in [0, 1].
- A cell is written (x, y): column, row.

``protocol`` is "corrected" (default) or "published", which reproduces the released code; each function says
where the two differ.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import sparse

PROTOCOLS = ("corrected", "published")


@dataclass(frozen=True)
class Nodes:
    """The nodes of the graph, those of one image pair next to each other, pairs in their given order.

    Attributes:
        pair: int64 (N,): the row of ``pairs`` that each node belongs to.
        cells: int64 (N, 4): (x, y) of the cell in the pair's first image, then in its second.
        confidence: float32 (N,): the predicted mask of the node, in [0, 1].
        starts: int64 (P + 1,): the nodes of pair p are ``starts[p]`` up to, not including, ``starts[p + 1]``.
    """

    pair: np.ndarray
    cells: np.ndarray
    confidence: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.pair)

    def of_pair(self, pair: int) -> slice:
        """Return where the nodes of a pair are."""
        return slice(int(self.starts[pair]), int(self.starts[pair + 1]))


def top_k_neighbours(
    pairs: np.ndarray, scores: np.ndarray, n_images: int, top_k: int, protocol: str = "corrected"
) -> np.ndarray:
    """Tell which image pairs count as neighbours: either image has the other among its best partners.

    Partners of equal score are taken in the order of their image number. A pair of score 0 and the image itself
    are never partners ("corrected"). "published" ranks every image of the collection, itself included and with
    score 0 where there is no pair, so that a pair of score 0 in one direction can count.

    Args:
        pairs: int (P, 2).
        scores: float (P, 2), >= 0: the score with the first image as the source, then with the second.
        n_images: images of the collection.
        top_k: partners of each image, at least 1.

    Returns:
        bool (P,).

    Raises:
        ValueError: for an unknown protocol, a top_k below 1, a negative or undefined score, or arrays that do
            not fit.
    """
    _check_protocol(protocol)
    pairs = _checked_pairs(pairs, n_images)
    scores = np.asarray(scores)
    if scores.shape != pairs.shape:
        raise ValueError(f"scores of shape {scores.shape}: expected one per pair and direction, {pairs.shape}")
    if not (scores >= 0).all():
        raise ValueError("scores: expected numbers >= 0, found a negative or undefined one")
    if top_k < 1:
        raise ValueError(f"top_k = {top_k}: expected at least 1")
    image, partner = np.concatenate([pairs, pairs[:, ::-1]]).T
    score = scores.T.ravel()
    if protocol == "published":
        table = np.zeros((n_images, n_images))
        table[image, partner] = score
        best = np.argsort(-table, axis=1, kind="stable")[:, :top_k]
        chosen = np.zeros(table.shape, bool)
        np.put_along_axis(chosen, best, True, axis=1)
        among_best = chosen[image, partner]
    else:
        order = np.lexsort((partner, -score, image))
        first = np.searchsorted(image[order], image[order])
        among_best = np.empty(len(order), bool)
        among_best[order] = (np.arange(len(order)) - first < top_k) & (score[order] > 0)
    return among_best.reshape(2, -1).any(axis=0)


def cell_hit(position: np.ndarray, shape: tuple[int, int], protocol: str = "corrected") -> np.ndarray:
    """Return the cells (x, y), int64 (..., 2), that normalised positions (..., 2) fall on, inside the grid.

    A cell covers [j / w, (j + 1) / w), so "corrected" is floor(x * w). "published" is round(x * (w - 1)), halves
    to the even side, which takes the outermost cell *centres* for 0 and 1.

    Raises:
        ValueError: for an unknown protocol or an undefined position.
    """
    _check_protocol(protocol)
    if not np.isfinite(position).all():
        raise ValueError("correspondence map: expected finite positions, found an undefined one")
    size = np.array(shape[::-1])
    if protocol == "published":
        cells = np.round(position * (size - 1).astype(position.dtype))
    else:
        cells = np.floor(position * size.astype(position.dtype))
    return np.clip(cells.astype(np.int64), 0, size - 1)


def build_nodes(
    pairs: np.ndarray,
    maps_1: np.ndarray,
    maps_2: np.ndarray,
    threshold: float = 0.85,
    protocol: str = "corrected",
    neighbours: np.ndarray | None = None,
) -> Nodes:
    """Make the nodes: the confident cells of one side of each neighbour pair, with the cells that they hit.

    A cell is confident where the mask is above ``threshold``. Only the side with more such cells gives nodes
    (the second on a tie), row by row; a pair without any on either side gives none. The protocols differ in
    ``cell_hit`` alone. Two nodes of a pair never have all four coordinates in common, as one side's are all
    different: the released code's removal of duplicates has nothing to do.

    Args:
        pairs, maps_1, maps_2: see the module.
        neighbours: bool (P,), the pairs that give nodes (``top_k_neighbours``); None: all.

    Raises:
        ValueError: for an unknown protocol or arrays that do not fit.
    """
    _check_protocol(protocol)
    pairs = _checked_pairs(pairs)
    shape = _checked_shape(pairs, maps_1, maps_2)
    if neighbours is not None and np.shape(neighbours) != (len(pairs),):
        raise ValueError(f"neighbours of shape {np.shape(neighbours)}: expected one per image pair, {len(pairs)}")
    used = np.arange(len(pairs)) if neighbours is None else np.flatnonzero(neighbours)
    confident_1, confident_2 = maps_1[used, 2] > threshold, maps_2[used, 2] > threshold
    first_side = confident_1.sum(axis=(1, 2)) > confident_2.sum(axis=(1, 2))
    which, y, x = np.nonzero(np.where(first_side[:, None, None], confident_1, confident_2))
    pair, from_first = used[which], first_side[which][:, None]
    values = np.where(from_first, maps_1[pair, :, y, x], maps_2[pair, :, y, x]).astype(np.float32)
    here, there = np.stack([x, y], axis=1), cell_hit(values[:, :2], shape, protocol)
    cells = np.where(from_first, np.hstack([here, there]), np.hstack([there, here]))
    starts = np.searchsorted(pair, np.arange(len(pairs) + 1))
    return Nodes(pair, cells, values[:, 2], starts)


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
    further (the other factors are at most 1), and only edges are stored: memory grows with the edges, apart
    from one block of at most (h w)^2 numbers.

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
    _check_protocol(protocol)
    pairs = _checked_pairs(pairs)
    shape = _checked_shape(pairs, maps_1, maps_2)
    if not sigma > 0 or not minimum >= 0:
        raise ValueError(f"sigma = {sigma}, minimum = {minimum}: expected sigma > 0 and minimum >= 0")
    if len(nodes.starts) != len(pairs) + 1:
        raise ValueError(f"nodes of {len(nodes.starts) - 1} image pairs, but {len(pairs)} image pairs")

    decay = _decay_table(shape, sigma)
    rows, columns, weights = [], [], []

    def keep(first: slice, second: slice, edges: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
        rows.append((edges[0] + first.start).astype(np.int32))
        columns.append((edges[1] + second.start).astype(np.int32))
        weights.append(edges[2].astype(np.float32))

    with_nodes = np.flatnonzero(np.diff(nodes.starts))
    if two_cycles:
        half = _decay_table(shape, 2 * sigma)
        for pair in with_nodes:
            here = nodes.of_pair(pair)
            keep(here, here, _two_cycle_edges(nodes.cells[here], nodes.confidence[here], half, minimum))
    for first, second, shared_1, shared_2, third, forward in _triangles(pairs, with_nodes):
        here, there = nodes.of_pair(first), nodes.of_pair(second)
        sides = (maps_1[third], maps_2[third]) if forward else (maps_2[third], maps_1[third])
        cells_1, cells_2 = nodes.cells[here].reshape(-1, 2, 2), nodes.cells[there].reshape(-1, 2, 2)
        edges = _three_cycle_edges(
            (cells_1[:, shared_1], cells_2[:, shared_2]),
            (cells_1[:, 1 - shared_1], cells_2[:, 1 - shared_2]),
            (nodes.confidence[here], nodes.confidence[there]),
            sides,
            decay,
            minimum,
            mask_weighting,
            protocol,
        )
        keep(here, there, edges)
    return _symmetric(rows, columns, weights, len(nodes))


def _triangles(pairs: np.ndarray, with_nodes: np.ndarray) -> Iterator[tuple[int, int, int, int, int, bool]]:
    """Yield the couples of image pairs with nodes that share an image and whose other two images are a pair as well.

    Each as (first, second, shared_1, shared_2, third, forward): rows of ``pairs``; at which place (0, 1) the
    shared image stands in the first and in the second; the row of the third pair, and whether that one's first image is
    the first pair's other one.
    """
    if len(with_nodes) < 2:
        return
    own = pairs[with_nodes]
    n_images = int(pairs.max()) + 1
    place = (np.ones(own.size, np.int32), own.ravel(), np.arange(0, own.size + 1, 2))
    incidence = sparse.csr_matrix(place, shape=(len(own), n_images))
    couples = sparse.triu(incidence @ incidence.T, k=1).tocoo()
    first, second = couples.row, couples.col
    # No image pair occurs twice, so that exactly one of the four comparisons holds.
    shared = (own[first][:, :, None] == own[second][:, None, :]).reshape(-1, 4).argmax(axis=1)
    shared_1, shared_2 = shared // 2, shared % 2
    ends = np.stack([own[first, 1 - shared_1], own[second, 1 - shared_2]], axis=1)
    keys = _keys(pairs, n_images)
    order = np.argsort(keys)
    wanted = _keys(ends, n_images)
    third = order[np.searchsorted(keys, wanted, sorter=order).clip(max=len(keys) - 1)]
    exists = keys[third] == wanted
    forward = pairs[third, 0] == ends[:, 0]
    columns = (with_nodes[first], with_nodes[second], shared_1, shared_2, third, forward)
    yield from zip(*(column[exists].tolist() for column in columns), strict=True)


def _three_cycle_edges(
    shared: tuple[np.ndarray, np.ndarray],
    other: tuple[np.ndarray, np.ndarray],
    confidence: tuple[np.ndarray, np.ndarray],
    sides: tuple[np.ndarray, np.ndarray],
    decay: np.ndarray,
    minimum: float,
    mask_weighting: bool,
    protocol: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (row, column, weight) of the edges between A nodes of one image pair and B of another.

    ``shared``, ``other``: cells (A, 2) and (B, 2) in the shared image and in the two others. ``sides``: maps
    (3, h, w) from the first other image to the second, and back.
    """
    # Masks are at most 1, and so is the mean of the two other factors: this bounds the weight.
    bound = confidence[0][:, None].astype(np.float64) * confidence[1]
    bound *= _decay(decay, shared[0][:, None], shared[1])
    row, column = np.nonzero(bound > minimum)
    closing = np.zeros(len(row))
    for side, start, end in ((0, row, column), (1, column, row)):
        x, y = other[side].T
        carried = cell_hit(sides[side][:2, y, x].T.astype(np.float32), decay.shape, protocol)
        closeness = _decay(decay, carried[start], other[1 - side][end])
        closing += closeness * sides[side][2, y, x][start] if mask_weighting else closeness
    weight = bound[row, column] * closing / 2
    kept = weight > minimum
    return row[kept], column[kept], weight[kept]


def _two_cycle_edges(
    cells: np.ndarray, confidence: np.ndarray, half: np.ndarray, minimum: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (row, column, weight), row <= column, of the edges between the A nodes (A, 4) of one image pair.

    ``half``: the decay with twice sigma, as each image counts half.
    """
    weight = confidence[:, None].astype(np.float64) * confidence
    for end in (cells[:, :2], cells[:, 2:]):
        weight *= _decay(half, end[:, None], end)
    row, column = np.nonzero(np.triu(weight > minimum))
    return row, column, weight[row, column]


def _symmetric(
    rows: list[np.ndarray], columns: list[np.ndarray], weights: list[np.ndarray], size: int
) -> sparse.csr_matrix:
    """Return the symmetric matrix of edges, each of which is given once, in one direction."""
    none = [np.empty(0, np.int32)]
    where = (np.concatenate(none + rows), np.concatenate(none + columns))
    values = np.concatenate([np.empty(0, np.float32)] + weights)
    values[where[0] == where[1]] /= 2  # the sum counts the diagonal twice
    half = sparse.csr_matrix((values, where), shape=(size, size))
    graph = (half + half.T).tocsr()
    graph.sort_indices()
    return graph


def _decay_table(shape: tuple[int, int], sigma: float) -> np.ndarray:
    """Return exp(-d / sigma), float64 (h, w), of two cells that are y rows and x columns apart."""
    y, x = np.indices(shape)
    return np.exp(-np.hypot(x, y) / sigma)


def _decay(table: np.ndarray, cells_1: np.ndarray, cells_2: np.ndarray) -> np.ndarray:
    """Return exp(-d / sigma) between cells (..., 2), with broadcasting."""
    x, y = np.moveaxis(np.abs(cells_1 - cells_2), -1, 0)
    return table[y, x]


def _keys(pairs: np.ndarray, n_images: int) -> np.ndarray:
    """Return one number for each image pair, int64 (P,), the same in either order."""
    return pairs.min(axis=1) * n_images + pairs.max(axis=1)


def _check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")


def _checked_pairs(pairs: np.ndarray, n_images: int | None = None) -> np.ndarray:
    """Return image pairs as int64 (P, 2)."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not len(pairs):
        return pairs
    largest = int(pairs.max())
    if pairs.min() < 0 or (n_images is not None and largest >= n_images):
        raise ValueError(f"image pairs: found images {pairs.min()} to {largest} in a collection of {n_images}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("image pairs: found an image with itself")
    if len(np.unique(_keys(pairs, largest + 1))) < len(pairs):
        raise ValueError("image pairs: found one twice (either order)")
    return pairs


def _checked_shape(pairs: np.ndarray, maps_1: np.ndarray, maps_2: np.ndarray) -> tuple[int, int]:
    """Return (h, w) of the maps."""
    if maps_1.ndim != 4 or maps_1.shape[:2] != (len(pairs), 3) or maps_1.shape != maps_2.shape:
        raise ValueError(f"maps {maps_1.shape} and {maps_2.shape}: expected ({len(pairs)}, 3, h, w) for both")
    return maps_1.shape[2:]
