"""The nodes of a collection's correspondence graph: from the predictions of image pairs to cells that correspond.

Shared specification, section "Discovery", steps 2 and 3. A node is a correspondence between one cell of each of two
images; ``segswap.discovery.graph`` connects those that agree.

Arrays used throughout the package, for P image pairs of one collection whose grids are all h x w cells:

- ``pairs`` int (P, 2): image numbers from 0; no pair twice (in either order), no image with itself.
- ``maps_1``, ``maps_2`` float (P, 3, h, w): the predictions for the first and the second image of each pair.
  Channels 0 and 1 are the normalised (x, y) of each cell in the *other* image, channel 2 the mask, all in [0, 1].
- A cell is written (x, y): column, row.

``protocol`` is "corrected" (default) or "published", which reproduces the released code; each function says
where the two differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    check_protocol(protocol)
    pairs = checked_pairs(pairs, n_images)
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
    check_protocol(protocol)
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
    check_protocol(protocol)
    pairs = checked_pairs(pairs)
    shape = checked_shape(pairs, maps_1, maps_2)
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


def pair_keys(pairs: np.ndarray, n_images: int) -> np.ndarray:
    """Return one number for each image pair, int64 (P,), the same in either order."""
    return pairs.min(axis=1) * n_images + pairs.max(axis=1)


def check_protocol(protocol: str) -> None:
    if protocol not in PROTOCOLS:
        raise ValueError(f"protocol {protocol!r}: expected one of {', '.join(PROTOCOLS)}")


def checked_pairs(pairs: np.ndarray, n_images: int | None = None) -> np.ndarray:
    """Return image pairs as int64 (P, 2)."""
    pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
    if not len(pairs):
        return pairs
    largest = int(pairs.max())
    if pairs.min() < 0 or (n_images is not None and largest >= n_images):
        raise ValueError(f"image pairs: found images {pairs.min()} to {largest} in a collection of {n_images}")
    if (pairs[:, 0] == pairs[:, 1]).any():
        raise ValueError("image pairs: found an image with itself")
    if len(np.unique(pair_keys(pairs, largest + 1))) < len(pairs):
        raise ValueError("image pairs: found one twice (either order)")
    return pairs


def checked_shape(pairs: np.ndarray, maps_1: np.ndarray, maps_2: np.ndarray) -> tuple[int, int]:
    """Return (h, w) of the maps."""
    if maps_1.ndim != 4 or maps_1.shape[:2] != (len(pairs), 3) or maps_1.shape != maps_2.shape:
        raise ValueError(f"maps {maps_1.shape} and {maps_2.shape}: expected ({len(pairs)}, 3, h, w) for both")
    return maps_1.shape[2:]
