"""Eigenvectors of correspondence graphs, and the masks of cells that they make."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from segswap.discovery.nodes import Nodes
from segswap.discovery.spectral import cell_masks, leading_density, principal_eigenvector


def test_several_nodes_on_one_cell():
    pairs, shape = np.array([[0, 1], [0, 2]]), (2, 2)
    cells = np.array([[0, 0, 1, 1], [0, 0, 1, 0], [0, 0, 0, 1]])
    nodes = Nodes(np.array([0, 0, 1]), cells, np.ones(3, np.float32), np.array([0, 2, 3]))
    vector = np.array([0.6, 0.1, 0.3])

    def on_cell(reduction: str, protocol: str) -> float:
        return cell_masks(nodes, pairs, vector, 3, shape, reduction, protocol)[0, 0, 0]

    # The first image pair's second node replaces its first one in the published protocol.
    for protocol, expected in (("corrected", (1.0, 0.6, 1 / 3)), ("published", (0.4, 0.3, 0.2))):
        assert [on_cell(r, protocol) for r in ("sum", "max", "mean")] == pytest.approx(expected)
    masks = cell_masks(nodes, pairs, vector, 3, shape)
    assert masks[1].tolist() == pytest.approx(np.array([[0, 0.1], [0, 0.6]]))
    assert masks[2].tolist() == pytest.approx(np.array([[0, 0], [0.3, 0]]))


def test_eigenvector_of_parts_with_the_same_eigenvalue_is_determined():
    # Thirty separate edges: every vector that is equal on both ends of each is a principal one.
    edges = sparse.block_diag([np.array([[0, 0.5], [0.5, 0]], np.float32)] * 30, format="csr")
    np.testing.assert_allclose(principal_eigenvector(edges), 60**-0.5, rtol=1e-6)
    weaker = sparse.block_diag([edges, sparse.csr_matrix((3, 3)), np.full((40, 40), 0.01)], format="csr")
    vector = principal_eigenvector(weaker.astype(np.float32))
    np.testing.assert_allclose(vector[:60], 60**-0.5, rtol=1e-6)
    assert not vector[60:].any()


def test_eigenvector_of_a_large_bipartite_graph():
    rng = np.random.default_rng(0)
    block = rng.random((60, 50)).astype(np.float32)
    graph = sparse.csr_matrix(np.block([[np.zeros((60, 60)), block], [block.T, np.zeros((50, 50))]]), dtype=np.float32)
    _, vectors = np.linalg.eigh(graph.toarray().astype(np.float64))
    np.testing.assert_allclose(principal_eigenvector(graph), np.abs(vectors[:, -1]), atol=1e-6)


def test_published_sign_follows_the_denser_leading_nodes():
    # A star has an eigenvalue of 10 and a mean weight of about 2 per node, a clique of 10 nodes 9 of both.
    star = np.zeros((101, 101), np.float32)
    star[0, 1:] = star[1:, 0] = 1
    clique = np.ones((10, 10), np.float32) - np.eye(10, dtype=np.float32)
    graph = sparse.block_diag([clique, star], format="csr")
    assert principal_eigenvector(graph).min() >= 0
    assert principal_eigenvector(graph, "published").max() <= 0
    assert leading_density(graph, np.arange(111, 0, -1.0)) == pytest.approx(9)
