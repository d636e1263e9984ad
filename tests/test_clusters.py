"""Clusters of a collection: several eigenvectors, their regions and correspondences, and F1 against labelled boxes."""

from __future__ import annotations

import dataclasses
import itertools

import cv2
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from segswap.benchmarks import discovery
from segswap.benchmarks.brueghel import Brueghel, Query
from segswap.discovery.clusters import (
    CORRESPONDENCES,
    REGIONS,
    Eigenvectors,
    cluster_correspondences,
    cluster_regions,
    leading_clusters,
    principal_only,
    read_eigenvectors,
)
from segswap.discovery.collection import Collection
from segswap.discovery.graph import CorrespondenceGraph, GraphSettings, collection_graph
from segswap.discovery.nodes import Nodes
from segswap.discovery.predictions import PairPredictions
from segswap.discovery.spectral import principal_eigenvector
from segswap.errors import InputError
from segswap.images import read_image


def clique(size: int, weight: float) -> np.ndarray:
    return np.full((size, size), weight, np.float32) - weight * np.eye(size, dtype=np.float32)


def random_graph(seed: int, size: int, density: float) -> sparse.csr_matrix:
    upper = sparse.random(size, size, density, "csr", np.float32, np.random.default_rng(seed))
    graph = (upper + upper.T).tocsr()
    graph.sort_indices()
    return graph


# Eigenvectors


def test_separate_parts_are_clusters_by_their_eigenvalues():
    graph = sparse.block_diag([clique(4, 0.5), clique(6, 0.9), np.zeros((2, 2)), clique(3, 0.8)], "csr", np.float32)
    found = list(leading_clusters(graph, 10, 0.5))
    assert [members.tolist() for _, members, _ in found] == [[4, 5, 6, 7, 8, 9], [12, 13, 14], [0, 1, 2, 3]]
    assert [value for value, _, _ in found] == pytest.approx([4.5, 1.6, 1.5])
    assert len(leading_clusters(graph, 2, 0.5)) == 2


def test_what_hangs_together_loosely_is_taken_apart():
    weights = sparse.block_diag([clique(12, 0.8), clique(9, 0.8)], "lil", np.float32)
    weights[11, 12] = weights[12, 11] = 0.05
    first, second = list(leading_clusters(weights.tocsr(), 5, 0.2))[:2]
    assert set(first[1]) == set(range(12)) and set(second[1]) == set(range(12, 21))


@given(st.integers(0, 10**6), st.integers(2, 60), st.floats(0.01, 0.3), st.floats(0, 0.9))
def test_clusters_are_disjoint_and_the_first_one_is_the_principal_one(seed, size, density, share):
    graph = random_graph(seed, size, density)
    found = list(leading_clusters(graph, 5, share))
    members = np.concatenate([own for _, own, _ in found]) if found else np.empty(0)
    assert len(np.unique(members)) == len(members)
    values = [value for value, _, _ in found]
    assert all(a >= b * (1 - 1e-5) for a, b in itertools.pairwise(values))
    if graph.nnz:
        largest = np.linalg.eigvalsh(graph.toarray().astype(np.float64))[-1]
        assert values[0] == pytest.approx(largest, rel=1e-5)
    else:
        assert not found


def test_the_principal_eigenvector_alone():
    graph = random_graph(1, 50, 0.1)
    found = principal_only(graph)
    assert len(found) == 1
    np.testing.assert_array_equal(found.dense(0, 50), principal_eigenvector(graph))
    assert found.values[0] == pytest.approx(np.linalg.eigvalsh(graph.toarray().astype(np.float64))[-1], rel=1e-5)
    assert len(principal_only(sparse.csr_matrix((5, 5), dtype=np.float32))) == 0


def test_eigenvectors_come_back_from_disk(tmp_path):
    for found in (leading_clusters(random_graph(2, 40, 0.05), 4, 0.2), Eigenvectors.of([])):
        found.write(tmp_path / "eigenvectors.npz")
        again = read_eigenvectors(tmp_path / "eigenvectors.npz")
        for field in dataclasses.fields(Eigenvectors):
            np.testing.assert_array_equal(getattr(again, field.name), getattr(found, field.name))
    (tmp_path / "eigenvectors.npz").write_bytes(b"no")
    with pytest.raises(InputError, match=r"eigenvectors\.npz: not readable as eigenvectors"):
        read_eigenvectors(tmp_path / "eigenvectors.npz")


@pytest.mark.parametrize(("count", "share"), [(0, 0.2), (3, 1.0), (3, -0.1)])
def test_values_out_of_range_are_named(count, share):
    with pytest.raises(ValueError, match=f"count = {count}, node_share = {share}"):
        leading_clusters(random_graph(1, 5, 0.5), count, share)


# Regions


@pytest.fixture
def collection(tmp_path):
    """Three black pictures, 60 x 40 pixels."""
    names = ("a.png", 'b "2".png', "c.png")
    for name in names:
        cv2.imwrite(str(tmp_path / name), np.zeros((40, 60, 3), np.uint8))
    return Collection(tmp_path, names)


def graph_of(cells: list[list[int]], pair: list[int], shape: tuple[int, int] = (4, 6)) -> CorrespondenceGraph:
    """Return a graph with these nodes between the images 0-1 and 0-2."""
    pair = np.array(pair)
    nodes = Nodes(pair, np.array(cells), np.full(len(pair), 0.9, np.float32), np.searchsorted(pair, [0, 1, 2]))
    size = (len(pair), len(pair))
    return CorrespondenceGraph(3, shape, np.array([[0, 1], [0, 2]]), nodes, sparse.csr_matrix(size, dtype=np.float32))


def test_regions_are_connected_cells_in_pixels_of_the_image(collection):
    # Image 0: cells (0, 0) and, by a corner, (1, 1), and far away (5, 3). Image 1: (2, 2), (3, 2). Image 2: (0, 3).
    graph = graph_of([[0, 0, 2, 2], [1, 1, 3, 2], [5, 3, 0, 3]], [0, 0, 1])
    vectors = Eigenvectors.of([(3.0, np.arange(3), np.array([0.6, 0.6, 0.5]))])
    rows = cluster_regions(graph, vectors, collection, 0.1).to_pylist()
    found = {(row["image"], tuple(row["box"])): row for row in rows}
    assert set(found) == {
        ("a.png", (0, 0, 20, 20)),
        ("a.png", (50, 30, 60, 40)),
        ('b "2".png', (20, 20, 40, 30)),
        ("c.png", (0, 30, 10, 40)),
    }
    assert found["a.png", (0, 0, 20, 20)]["weight"] == pytest.approx(1.2)
    assert found["a.png", (0, 0, 20, 20)]["cells"] == 2
    assert {row["cluster"] for row in rows} == {1} and {row["strength"] for row in rows} == {3.0}
    assert [row["weight"] for row in rows] == sorted((row["weight"] for row in rows), reverse=True)
    # The lonely cell has 0.5 of at most 1.2 together and 0.6 of a cell.
    kept = cluster_regions(graph, vectors, collection, 0.5).to_pylist()
    assert ("a.png", (50, 30, 60, 40)) not in {(row["image"], tuple(row["box"])) for row in kept}
    assert len(kept) == 3


def test_correspondences_are_cell_centres_of_both_images(collection):
    graph = graph_of([[0, 0, 2, 2], [1, 1, 3, 2], [5, 3, 0, 3]], [0, 0, 1])
    vectors = Eigenvectors.of([(3.0, np.array([2]), np.array([1.0])), (1.0, np.array([1, 0]), np.array([0.3, 0.7]))])
    rows = cluster_correspondences(graph, vectors, collection).to_pylist()
    assert [(row["cluster"], row["image_1"], row["image_2"]) for row in rows] == [
        (1, "a.png", "c.png"), (2, "a.png", 'b "2".png'), (2, "a.png", 'b "2".png')
    ]  # fmt: skip
    assert rows[0]["cell_1"] == pytest.approx([5.5 / 6, 3.5 / 4]) and rows[0]["cell_2"] == pytest.approx(
        [0.5 / 6, 3.5 / 4]
    )
    assert [row["weight"] for row in rows[1:]] == pytest.approx([0.7, 0.3])


def test_no_cluster_gives_empty_tables(collection):
    graph = graph_of([[0, 0, 2, 2]], [0])
    assert cluster_regions(graph, Eigenvectors.of([]), collection, 0.1).schema == REGIONS
    assert len(cluster_correspondences(graph, Eigenvectors.of([]), collection)) == 0
    assert cluster_correspondences(graph, Eigenvectors.of([]), collection).schema == CORRESPONDENCES


def test_a_graph_comes_back_from_disk_also_without_its_edges(tmp_path):
    y, x = np.indices((5, 5)) + 0.5
    maps = np.stack([np.stack([x / 5, y / 5, np.full((5, 5), 0.9)])] * 3).astype(np.float16)
    predictions = PairPredictions(np.array([[0, 1], [0, 2], [1, 2]]), maps, maps, np.ones((3, 2)))
    settings = GraphSettings(5, 0.5, 1.2, two_cycles=True, mask_weighting=False, protocol="corrected")
    graph = collection_graph(predictions, 3, settings)
    assert graph.weights.nnz > 75 and len(graph.nodes) == 75
    graph.write(tmp_path / "graph.npz")
    again = CorrespondenceGraph.read(tmp_path / "graph.npz")
    assert (again.n_images, again.shape) == (3, (5, 5))
    assert (again.weights != graph.weights).nnz == 0
    np.testing.assert_array_equal(again.nodes.cells, graph.nodes.cells)
    nodes_alone = CorrespondenceGraph.read(tmp_path / "graph.npz", with_weights=False)
    assert nodes_alone.weights.nnz == 0 and nodes_alone.weights.shape == graph.weights.shape
    (tmp_path / "graph.npz").write_bytes((tmp_path / "graph.npz").read_bytes()[:-2000])
    with pytest.raises(InputError, match=r"graph\.npz: not readable as correspondence graph"):
        CorrespondenceGraph.read(tmp_path / "graph.npz")


# Against labels

BOX = (0.0, 0.0, 10.0, 10.0)
NEAR = (0.0, 0.0, 10.0, 8.0)
FAR = (20.0, 20.0, 30.0, 30.0)


def test_a_labelled_box_counts_once():
    details = {("a", BOX), ("b", BOX)}
    regions = [("a", NEAR), ("a", BOX), ("b", FAR), ("c", BOX)]
    assert discovery.right_regions(regions, details, 0.3) == [True, False, False, False]
    assert discovery.f1(regions, details, 0.3) == pytest.approx(2 * 1 / (4 + 2))
    assert discovery.f1([("a", BOX), ("b", NEAR)], details, 0.3) == 1
    assert discovery.right_regions([("a", NEAR)], details, 0.8) == [False], "above the threshold, not at it"


def region_table(rows: list[tuple]) -> pa.Table:
    names = ("cluster", "image", "box")
    listed = [dict(zip(names, row, strict=True)) | {"strength": 1.0, "weight": 1.0, "cells": 1} for row in rows]
    return pa.Table.from_pylist(listed, schema=REGIONS)


def labelled(folder) -> Brueghel:
    query = Query("star", "a", BOX, (("b", BOX),))
    other = Query("fish", "c", BOX, (("a", FAR),))
    return Brueghel(folder, ("a", "b", "c"), (query, other))


def test_the_best_cluster_of_each_category_counts(tmp_path):
    rows = [(1, "a", BOX), (1, "c", FAR), (2, "a", BOX), (2, "b", NEAR), (3, "c", BOX)]
    dataset = labelled(tmp_path)
    assert discovery.best_clusters(dataset, region_table(rows), 0.3) == {
        "fish": (pytest.approx(2 / 3), 3), "star": (1.0, 2)
    }  # fmt: skip
    numbers = discovery.metrics(dataset, region_table(rows), 0.3)
    assert numbers["f1"] == pytest.approx((1 + 2 / 3) / 2) and numbers["f1_star"] == 1
    assert (numbers["clusters"], numbers["regions"], numbers["images"]) == (3, 5, 3)
    nothing = discovery.metrics(dataset, region_table([]), 0.3)
    assert nothing["f1"] == 0 and nothing["clusters"] == 0


def test_the_picture_frames_right_regions_in_green_and_wrong_ones_in_red(tmp_path):
    for name in "abc":
        cv2.imwrite(str(tmp_path / f"{name}.png"), np.zeros((40, 60, 3), np.uint8))
    query = Query("star", "a.png", BOX, (("b.png", BOX),))
    lost = Query("fish", "c.png", FAR, (("a.png", FAR),))
    dataset = Brueghel(tmp_path, ("a.png", "b.png", "c.png"), (query, lost))
    rows = [(1, "a.png", BOX), (1, "c.png", FAR)]
    discovery.draw_discovery(dataset, region_table(rows), 0.3, tmp_path / "x.png")
    picture = read_image(tmp_path / "x.png").astype(int)
    green = (picture[..., 1] - picture[..., [0, 2]].max(-1) > 80).sum()
    red = (picture[..., 0] - picture[..., 1:].max(-1) > 120).sum()
    assert green > 1000 and red > 1000
    discovery.draw_discovery(dataset, region_table([]), 0.3, tmp_path / "none.png")
    assert (tmp_path / "none.png").is_file()
