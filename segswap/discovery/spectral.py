"""Eigenvectors of the correspondence graph, and from one of them to one soft mask per image.

Shared specification, section "Discovery", steps 5 and 6.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import sparse
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import eigsh

from segswap.discovery.nodes import PROTOCOLS, Nodes

REDUCTIONS = ("sum", "max", "mean")

_DENSE_SIZE = 32
"""Up to this many nodes the whole spectrum is quicker than Lanczos, which needs room to iterate."""

_EDGES_FIRST = 4
"""Edges of each node that are looked at first for what is connected."""

_VECTORS = 10
"""Lanczos vectors. The graphs' largest eigenvalue stands apart, so that few steps find it and more are idle."""

_TIE = 1e-6
"""Eigenvalues this close, relatively, are one eigenvalue: the rounding of float32."""


def principal_eigenvector(graph: sparse.csr_matrix, protocol: str = "corrected") -> np.ndarray:
    """Return the unit eigenvector of the largest eigenvalue of a symmetric graph without negative weights.

    Lanczos with a start vector of ones. A largest eigenvalue that several parts of the graph without a
    connection have in common does not determine the vector; then it is the projection of the vector of ones
    on their eigenvectors. Part by part also keeps ARPACK from drawing random vectors that show in the result.

    Sign: by Perron and Frobenius one sign has no negative entry, and that one is taken ("corrected"). "published"
    takes the sign whose leading nodes are more densely connected (``leading_density``), which is the same one
    except when the eigenvector's nodes are less densely connected than the graph's other nodes.

    Args:
        graph: (N, N).

    Returns:
        float32 (N,), zeros for a graph without edges. Entries of size 1e-7 may have either sign.

    Raises:
        ValueError: for an unknown protocol.
    """
    _check(protocol, PROTOCOLS, "protocol")
    vector = np.zeros(graph.shape[0], np.float32)
    if not graph.nnz:
        return vector
    best: list[tuple[float, np.ndarray, np.ndarray]] = []
    for members, part, bound in connected_subgraphs(graph):
        if best and bound < best[0][0] * (1 - _TIE):
            break
        value, own = perron_vector(part())
        if not best or value > best[0][0] * (1 + _TIE):
            best = [(value, members, own)]
        elif value >= best[0][0] * (1 - _TIE):
            best.append((value, members, own))
    for _, members, own in best:
        vector[members] = own.sum() * own
    vector /= np.linalg.norm(vector)
    if protocol == "published" and leading_density(graph, -vector) > leading_density(graph, vector):
        return -vector
    return vector


def connected_subgraphs(
    graph: sparse.csr_matrix,
) -> Iterator[tuple[np.ndarray | slice, Callable[[], sparse.csr_matrix], float]]:
    """Yield the connected parts with edges as (nodes, function that gives the graph, bound of the eigenvalues).

    Largest bound first; it is the largest row sum.
    """
    degree = np.asarray(graph.sum(axis=1, dtype=np.float64)).ravel()
    count, label = _connected_parts(graph)
    bound = np.zeros(count)
    np.maximum.at(bound, label, degree)
    order = np.argsort(-bound, kind="stable")
    connected = order[bound[order] > 0]
    if len(connected) == 1:
        # Nodes without edges do no harm, and cutting them out would copy the graph.
        yield slice(None), lambda: graph, bound[connected[0]]
        return
    by_label = np.argsort(label, kind="stable")
    starts = np.searchsorted(label[by_label], np.arange(count + 1))
    for part in connected:
        members = by_label[starts[part] : starts[part + 1]]
        yield members, lambda members=members: graph[members][:, members], bound[part]


def _connected_parts(graph: sparse.csr_matrix) -> tuple[int, np.ndarray]:
    """Return the number of connected parts of a symmetric graph, and the part of each node.

    A few edges of each node connect almost all that all edges do; of the others only those matter that lead from one
    part to another. ``connected_components`` on the whole graph would copy it twice.
    """
    count = np.diff(graph.indptr)
    rows = np.repeat(np.flatnonzero(count), _EDGES_FIRST)
    spread = np.tile(np.linspace(0, 1, _EDGES_FIRST), len(rows) // _EDGES_FIRST)
    some = graph.indices[graph.indptr[rows] + np.round(spread * (count[rows] - 1)).astype(np.int64)]
    parts, label = _components(rows, some, graph.shape[0])
    if parts > 1 + (count == 0).sum():
        here = np.repeat(label, count)
        there = label.take(graph.indices)
        between = here != there
        parts, joined = _components(here[between], there[between], parts)
        label = joined[label]
    return parts, label


def _components(rows: np.ndarray, columns: np.ndarray, size: int) -> tuple[int, np.ndarray]:
    edges = sparse.csr_matrix((np.ones(len(rows), bool), (rows, columns)), shape=(size, size))
    return connected_components(edges, directed=False)


def perron_vector(graph: sparse.csr_matrix) -> tuple[float, np.ndarray]:
    """Return the largest eigenvalue of a graph with one connected part, and its unit eigenvector, not negative."""
    size = graph.shape[0]
    if size <= _DENSE_SIZE:
        values, vectors = np.linalg.eigh(graph.toarray().astype(np.float64))
        values, vectors = values[-1:], vectors[:, -1:]
    else:
        # "LA", not "LM": a bipartite part has the eigenvalue of opposite sign as well.
        # The row sums are the vector of ones after one step: they are found faster than by a product.
        start = np.asarray(graph.sum(axis=1)).ravel()
        values, vectors = eigsh(graph, k=1, which="LA", v0=start, ncv=_VECTORS, tol=_TIE)
    vector = vectors[:, 0]
    return float(values[0]), -vector if vector.sum() < 0 else vector


def leading_density(graph: sparse.csr_matrix, vector: np.ndarray) -> float:
    """Return the largest mean weight per node among the first nodes in descending order of a vector.

    For the first k nodes, the indicator vector u gives (u' graph u) / (u' u); k runs over the rounded powers of 1.1
    up to N, and N.

    Args:
        graph: symmetric (N, N), N at least 1. vector: (N,).
    """
    size = graph.shape[0]
    rank = np.empty(size, np.int64)
    rank[np.argsort(-vector, kind="stable")] = np.arange(size)
    rows = np.repeat(np.arange(size), np.diff(graph.indptr))
    # An edge is inside the first k nodes from the moment its later node is.
    complete = np.maximum(rank[rows], rank[graph.indices])
    inside = np.cumsum(np.bincount(complete, weights=graph.data, minlength=size))
    steps = np.round(1.1 ** np.arange(np.log(size) / np.log(1.1) + 1)).astype(np.int64)
    lengths = np.append(steps[steps < size], size)
    return float((inside[lengths - 1] / lengths).max())


def cell_masks(
    nodes: Nodes,
    pairs: np.ndarray,
    eigenvector: np.ndarray,
    n_images: int,
    shape: tuple[int, int],
    reduction: str = "sum",
    protocol: str = "corrected",
) -> np.ndarray:
    """Bring the eigenvector back to the images.

    A cell gets the sum, maximum or mean of the entries of the nodes on it, 0 where there is none. In "published"
    only the last node of each image pair on a cell takes part: it has overwritten the earlier ones.

    Args:
        nodes, pairs: see ``segswap.discovery.graph``.
        eigenvector: float (N,).
        shape: (h, w) of the grid.
        reduction: "sum", "max" or "mean".

    Returns:
        float32 (n_images, h, w).

    Raises:
        ValueError: for an unknown protocol or reduction, or an eigenvector of another length.
    """
    _check(protocol, PROTOCOLS, "protocol")
    _check(reduction, REDUCTIONS, "reduction")
    if len(eigenvector) != len(nodes):
        raise ValueError(f"eigenvector of {len(eigenvector)} entries for {len(nodes)} nodes")
    h, w = shape
    images = np.asarray(pairs, np.int64).reshape(-1, 2)[nodes.pair]
    cells = nodes.cells.reshape(-1, 2, 2)
    place = (images * h + cells[:, :, 1]) * w + cells[:, :, 0]
    size = n_images * h * w
    place, entries = place.ravel(), np.repeat(np.asarray(eigenvector, np.float64), 2)
    if protocol == "published":
        last = _last_of_pair(np.repeat(nodes.pair, 2), place, size)
        place, entries = place[last], entries[last]
    count = np.bincount(place, minlength=size)
    if reduction == "max":
        masks = np.full(size, -np.inf)
        np.maximum.at(masks, place, entries)
        masks[count == 0] = 0
    else:
        masks = np.bincount(place, weights=entries, minlength=size).astype(np.float64)
        if reduction == "mean":
            masks /= np.maximum(count, 1)
    return masks.reshape(n_images, h, w).astype(np.float32)


def _last_of_pair(pair: np.ndarray, place: np.ndarray, size: int) -> np.ndarray:
    """Return the indices of the places (N,) that the same image pair does not have again further on."""
    keys = pair * size + place
    _, from_end = np.unique(keys[::-1], return_index=True)
    return np.sort(keys.size - 1 - from_end)


def _check(value: str, allowed: tuple[str, ...], name: str) -> None:
    if value not in allowed:
        raise ValueError(f"{name} {value!r}: expected one of {', '.join(allowed)}")
