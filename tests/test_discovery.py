"""The correspondence graph of a collection, its eigenvector and the masks."""

from __future__ import annotations

import json
import math
from itertools import combinations

import numpy as np
import pytest
from scipy import sparse

from segswap.discovery.graph import build_graph
from segswap.discovery.nodes import build_nodes, cell_hit, top_k_neighbours
from segswap.discovery.spectral import cell_masks, leading_density, principal_eigenvector

PROBLEMS = ["n7", "n6", "n8"]
VARIANTS = [(two_cycles, weighting) for two_cycles in (False, True) for weighting in (False, True)]


# Against measurements of the released code


class Golden:
    """One measured problem and what is made of it under the published protocol."""

    def __init__(self, arrays, facts: dict, name: str):
        self._arrays, self._name = arrays, name
        self.facts = facts[name]
        self.n_images = self.facts["nb_img"]
        self.pairs = np.array(list(combinations(range(self.n_images), 2)))[self["keep_idx"]]
        self.maps = (self["output1"], self["output2"])
        self.neighbours = top_k_neighbours(
            self.pairs, self["score"], self.n_images, self.facts["top_k"], protocol="published"
        )
        self.nodes = build_nodes(self.pairs, *self.maps, self.facts["conf_th"], "published", self.neighbours)

    def __getitem__(self, quantity: str) -> np.ndarray:
        return self._arrays[f"{self._name}__{quantity}"]

    def of(self, two_cycles: bool, weighting: bool, quantity: str) -> np.ndarray:
        return self[f"only3{int(not two_cycles)}_mask{int(weighting)}__{quantity}"]

    def graph_facts(self, two_cycles: bool, weighting: bool) -> dict:
        return self.facts["graphs"][f"only3cycle={not two_cycles},mask_in_3cycle={weighting}"]

    def graph(self, two_cycles: bool, weighting: bool) -> sparse.csr_matrix:
        sigma = self.facts["sigma"]
        return build_graph(
            self.nodes, self.pairs, *self.maps, sigma, two_cycles, weighting, minimum=0.01, protocol="published"
        )


@pytest.fixture(scope="module")
def golden_files(shared):
    folder = shared / "golden"
    with np.load(folder / "f_discovery.npz", allow_pickle=False) as arrays:
        loaded = dict(arrays)
    return loaded, json.loads((folder / "f_discovery.json").read_text())


@pytest.fixture(scope="module", params=PROBLEMS)
def golden(request, golden_files):
    return Golden(*golden_files, request.param)


def test_golden_neighbours(golden):
    among_best = {tuple(sorted(row)) for row in golden["topk_pair"].tolist()}
    expected = [tuple(pair) in among_best for pair in golden.pairs.tolist()]
    assert golden.neighbours.tolist() == expected
    corrected = top_k_neighbours(golden.pairs, golden["score"], golden.n_images, golden.facts["top_k"])
    assert corrected.tolist() == expected, "no kept pair of these has a score of 0"


def test_golden_nodes(golden):
    nodes, corr = golden.nodes, golden["corr"]
    assert len(nodes) == golden.facts["n_nodes"]
    np.testing.assert_array_equal(nodes.cells, corr[:, :4])
    np.testing.assert_array_equal(nodes.confidence, corr[:, 4])
    for first, second, start, end in golden["img_idx_start_end"].tolist():
        (pair,) = np.flatnonzero((golden.pairs == (first, second)).all(axis=1))
        assert nodes.of_pair(pair) == slice(start, end)
        assert (nodes.pair[start:end] == pair).all()


@pytest.mark.parametrize(("two_cycles", "weighting"), VARIANTS)
def test_golden_graph(golden, two_cycles, weighting):
    graph, facts = golden.graph(two_cycles, weighting), golden.graph_facts(two_cycles, weighting)
    assert abs(graph.nnz - facts["nnz"]) <= 4, "edges at the minimum may differ by a few"
    assert graph.sum(dtype=np.float64) == pytest.approx(facts["sum"], rel=1e-6)
    rows = np.asarray(graph.sum(axis=1, dtype=np.float64)).ravel()
    np.testing.assert_allclose(rows, golden.of(two_cycles, weighting, "rowsum"), atol=0.02, rtol=1e-6)
    assert np.abs(np.diff(graph.indptr) - golden.of(two_cycles, weighting, "rownnz")).sum() <= 4


@pytest.mark.parametrize("two_cycles", [False, True])
def test_golden_matrix(golden_files, two_cycles):
    golden = Golden(*golden_files, "n7")
    parts = tuple(golden.of(two_cycles, False, f"csr_{part}") for part in ("data", "indices", "indptr"))
    expected = sparse.csr_matrix(parts, shape=(len(golden.nodes),) * 2)
    difference = abs(golden.graph(two_cycles, False) - expected)
    assert difference[difference > 1e-6].size <= 4, "edges at the minimum may differ by a few"
    assert difference.max() < 0.0101


@pytest.mark.parametrize(("two_cycles", "weighting"), VARIANTS)
def test_golden_eigenvector_and_masks(golden, two_cycles, weighting):
    graph, facts = golden.graph(two_cycles, weighting), golden.graph_facts(two_cycles, weighting)
    vector, expected = principal_eigenvector(graph, "published"), golden.of(two_cycles, weighting, "eigvec")
    assert vector.dtype == np.float32
    np.testing.assert_allclose(vector, expected, atol=3e-6)
    np.testing.assert_array_equal(vector, principal_eigenvector(graph))
    assert vector @ (graph @ vector) == pytest.approx(facts["eigval64"][0], rel=1e-6)
    assert leading_density(graph, expected) == pytest.approx(facts["max_neg"], rel=1e-5)
    assert leading_density(graph, -expected) == pytest.approx(facts["max_pos"], rel=1e-5)
    for reduction in ("sum", "max", "mean"):
        masks = cell_masks(golden.nodes, golden.pairs, expected, golden.n_images, (30, 30), reduction, "published")
        np.testing.assert_allclose(masks, golden.of(two_cycles, weighting, f"vis_{reduction}"), atol=1e-7)


def test_corrected_protocol_differs_where_it_should(golden):
    nodes = build_nodes(golden.pairs, *golden.maps, golden.facts["conf_th"], "corrected", golden.neighbours)
    np.testing.assert_array_equal(nodes.starts, golden.nodes.starts)
    np.testing.assert_array_equal(nodes.confidence, golden.nodes.confidence)
    moved = np.abs(nodes.cells - golden.nodes.cells)
    assert moved.max() == 1, "another rounding moves a cell by at most one"
    vector = golden.of(False, False, "eigvec")
    added = cell_masks(golden.nodes, golden.pairs, vector, golden.n_images, (30, 30))
    replaced = cell_masks(golden.nodes, golden.pairs, vector, golden.n_images, (30, 30), protocol="published")
    assert added.sum(dtype=np.float64) == pytest.approx(2 * vector.sum(dtype=np.float64), rel=1e-5)
    assert (added >= replaced - 1e-6).all()
    assert added.sum() > 1.01 * replaced.sum()


# Without measurements


def made_up(seed: int, n_images: int = 5, shape: tuple[int, int] = (5, 6), keep: float = 0.8):
    """Return pairs and random maps (smooth enough that cycles close) of a small collection."""
    rng = np.random.default_rng(seed)
    pairs = np.array(list(combinations(range(n_images), 2)))
    pairs = pairs[rng.random(len(pairs)) < keep]
    pairs = np.where(rng.random((len(pairs), 1)) < 0.5, pairs, pairs[:, ::-1])
    h, w = shape
    y, x = np.indices(shape)
    identity = np.stack([(x + 0.5) / w, (y + 0.5) / h])
    maps = []
    for _ in range(2):
        position = np.clip(identity + rng.normal(0, 0.15, (len(pairs), 2, h, w)), 0, 1)
        maps.append(np.concatenate([position, rng.random((len(pairs), 1, h, w))], axis=1).astype(np.float32))
    return pairs, *maps


def graph_by_definition(nodes, pairs, maps_1, maps_2, sigma, two_cycles, mask_weighting, minimum, protocol):
    """Compare every node with every other one, in plain Python."""
    maps = {}
    for (i, j), one, two in zip(pairs.tolist(), maps_1, maps_2, strict=True):
        maps[i, j], maps[j, i] = one, two
    shape = maps_1.shape[2:]

    def end(node: int, image: int) -> tuple[int, int]:
        return tuple(nodes.cells[node].reshape(2, 2)[pairs[nodes.pair[node]].tolist().index(image)].tolist())

    def closeness(source: int, target: int, cell: tuple[int, int], goal: tuple[int, int]) -> float:
        x, y, mask = maps[source, target][:, cell[1], cell[0]]
        hit = cell_hit(np.array([x, y]), shape, protocol)
        return math.exp(-math.dist(hit, goal) / sigma) * (mask if mask_weighting else 1)

    matrix = np.zeros((len(nodes),) * 2)
    for v in range(len(nodes)):
        for w in range(len(nodes)):
            images_v, images_w = set(pairs[nodes.pair[v]].tolist()), set(pairs[nodes.pair[w]].tolist())
            common = images_v & images_w
            if len(common) == 2 and two_cycles:
                distance = sum(math.dist(end(v, image), end(w, image)) for image in common)
                weight = math.exp(-distance / (2 * sigma))
            elif len(common) == 1 and tuple(images_v ^ images_w) in maps:
                (i,), (j,), (n,) = common, images_v - common, images_w - common
                weight = math.exp(-math.dist(end(v, i), end(w, i)) / sigma) / 2
                weight *= closeness(j, n, end(v, j), end(w, n)) + closeness(n, j, end(w, n), end(v, j))
            else:
                continue
            weight *= float(nodes.confidence[v]) * float(nodes.confidence[w])
            matrix[v, w] = weight if weight > minimum else 0
    return matrix


@pytest.mark.parametrize("protocol", ["corrected", "published"])
@pytest.mark.parametrize(("two_cycles", "weighting"), VARIANTS)
def test_graph_is_what_the_definition_says(two_cycles, weighting, protocol):
    pairs, maps_1, maps_2 = made_up(seed=3)
    neighbours = np.arange(len(pairs)) != 2
    nodes = build_nodes(pairs, maps_1, maps_2, 0.7, protocol, neighbours)
    arguments = (nodes, pairs, maps_1, maps_2, 1.3, two_cycles, weighting, 0.03, protocol)
    graph, expected = build_graph(*arguments), graph_by_definition(*arguments)
    assert graph.nnz > 500
    np.testing.assert_allclose(graph.toarray(), expected, atol=1e-7)


@pytest.mark.parametrize("length", [1, 37, 10**6])
def test_graph_is_the_same_in_blocks_and_rows_of_any_number(monkeypatch, length):
    pairs, maps_1, maps_2 = made_up(seed=3)
    nodes = build_nodes(pairs, maps_1, maps_2, 0.7)
    expected = build_graph(nodes, pairs, maps_1, maps_2, 1.3, two_cycles=True)
    monkeypatch.setattr("segswap.discovery.graph._Blocks._LENGTH", length)
    monkeypatch.setattr("segswap.discovery.graph._AT_ONCE", length)
    found = build_graph(nodes, pairs, maps_1, maps_2, 1.3, two_cycles=True)
    assert found.nnz == expected.nnz > 500 and (found != expected).nnz == 0


@pytest.mark.parametrize("seed", range(5))
def test_graph_is_symmetric_sparse_and_not_negative(seed):
    pairs, maps_1, maps_2 = made_up(seed, n_images=6)
    nodes = build_nodes(pairs, maps_1, maps_2, 0.6)
    graph = build_graph(nodes, pairs, maps_1, maps_2, sigma=0.9, two_cycles=True)
    assert graph.dtype == np.float32 and graph.format == "csr" and graph.has_sorted_indices
    assert (graph != graph.T).nnz == 0
    assert graph.data.min() > 0.0099
    np.testing.assert_allclose(graph.diagonal(), nodes.confidence**2, rtol=1e-6)
    vector = principal_eigenvector(graph)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert vector.min() > -1e-6
    np.testing.assert_array_equal(vector, principal_eigenvector(graph))


def one_cell_maps(shape, cell, hit, mask):
    """Return a map (3, h, w) of which one cell is confident and hits another cell's centre; the rest hits (0, 0)."""
    h, w = shape
    maps = np.zeros((3, h, w), np.float32)
    maps[:, cell[1], cell[0]] = (hit[0] + 0.5) / w, (hit[1] + 0.5) / h, mask
    return maps


def test_a_three_cycle_by_hand():
    shape, pairs = (4, 5), np.array([[0, 1], [2, 0], [1, 2]])
    # 0:(1,1) - 1:(2,2); 0:(2,1) - 2:(3,2), one cell beside in image 0; 1:(2,2) -> 2:(3,2), exactly;
    # back 2:(3,2) -> 1:(2,3), one cell below; that pair's masks are too low for nodes.
    maps_1 = [((1, 1), (2, 2), 0.9), ((3, 2), (2, 1), 0.95), ((2, 2), (3, 2), 0.8)]
    maps_2 = [((2, 2), (1, 1), 0.1), ((2, 1), (3, 2), 0.1), ((3, 2), (2, 3), 0.5)]
    maps_1, maps_2 = (np.stack([one_cell_maps(shape, *cell) for cell in maps]) for maps in (maps_1, maps_2))
    nodes = build_nodes(pairs, maps_1, maps_2)
    assert nodes.cells.tolist() == [[1, 1, 2, 2], [3, 2, 2, 1]]
    assert nodes.starts.tolist() == [0, 1, 2, 2]

    weight = 0.9 * 0.95 * math.exp(-1 / 2) * (1 + math.exp(-1 / 2)) / 2
    graph = build_graph(nodes, pairs, maps_1, maps_2, sigma=2)
    np.testing.assert_allclose(graph.toarray(), [[0, weight], [weight, 0]], rtol=1e-6)
    weighted = 0.9 * 0.95 * math.exp(-1 / 2) * (0.8 + 0.5 * math.exp(-1 / 2)) / 2
    graph = build_graph(nodes, pairs, maps_1, maps_2, sigma=2, mask_weighting=True)
    np.testing.assert_allclose(graph.toarray(), [[0, weighted], [weighted, 0]], rtol=1e-6)
    assert build_graph(nodes, pairs, maps_1, maps_2, sigma=2, minimum=weight + 1e-6).nnz == 0

    vector = principal_eigenvector(build_graph(nodes, pairs, maps_1, maps_2, sigma=2))
    np.testing.assert_allclose(vector, [0.5**0.5] * 2, rtol=1e-6)
    masks = cell_masks(nodes, pairs, vector, 3, shape)
    expected = np.zeros((3, *shape))
    expected[[0, 0, 1, 2], [1, 1, 2, 2], [1, 2, 2, 3]] = 0.5**0.5
    np.testing.assert_allclose(masks, expected, rtol=1e-6)

    # Without the third pair nothing closes the cycle.
    two_pairs = build_nodes(pairs[:2], maps_1[:2], maps_2[:2])
    assert build_graph(two_pairs, pairs[:2], maps_1[:2], maps_2[:2], sigma=2).nnz == 0


@pytest.mark.parametrize("pairs", [np.empty((0, 2), int), np.array([[0, 1], [1, 2], [0, 2]])])
def test_nothing_confident_gives_an_empty_graph_and_empty_masks(pairs):
    maps = np.full((len(pairs), 3, 4, 5), 0.5, np.float32)
    neighbours = top_k_neighbours(pairs, np.ones(pairs.shape), 3, 5)
    nodes = build_nodes(pairs, maps, maps, neighbours=neighbours)
    assert len(nodes) == 0
    graph = build_graph(nodes, pairs, maps, maps, sigma=1, two_cycles=True)
    assert graph.shape == (0, 0)
    for protocol in ("corrected", "published"):
        vector = principal_eigenvector(graph, protocol)
        for reduction in ("sum", "max", "mean"):
            masks = cell_masks(nodes, pairs, vector, 3, (4, 5), reduction, protocol)
            assert masks.shape == (3, 4, 5) and masks.dtype == np.float32 and not masks.any()


def test_two_images_have_two_cycles_only():
    pairs, maps_1, maps_2 = made_up(seed=1, n_images=2, keep=1)
    nodes = build_nodes(pairs, maps_1, maps_2, 0.5)
    graph = build_graph(nodes, pairs, maps_1, maps_2, sigma=2)
    assert graph.nnz == 0 and not principal_eigenvector(graph).any()
    graph = build_graph(nodes, pairs, maps_1, maps_2, sigma=2, two_cycles=True)
    masks = cell_masks(nodes, pairs, principal_eigenvector(graph), 2, maps_1.shape[2:])
    assert (masks.max(axis=(1, 2)) > 0.1).all()


def test_nodes_come_from_the_side_with_more_confident_cells():
    maps_1, maps_2 = np.full((2, 3, 3, 2, 2), 0.9, np.float32)
    maps_1[0, 2, 0, 0] = maps_2[1, 2, 0, 0] = 0.1
    maps_1[:, :2], maps_2[:, :2] = 0.1, 0.6
    nodes = build_nodes(np.array([[0, 1], [0, 2], [1, 2]]), maps_1, maps_2)
    assert np.diff(nodes.starts).tolist() == [4, 4, 4]
    fixed_first, fixed_second = nodes.cells[:, :2] == 1, nodes.cells[:, 2:] == 0
    assert fixed_first[nodes.of_pair(0)].all(), "the second image's cells, which hit (1, 1) in the first"
    assert fixed_second[nodes.of_pair(1)].all(), "the first image's cells, which hit (0, 0) in the second"
    assert fixed_first[nodes.of_pair(2)].all(), "a tie: the second image's"


def test_neighbours_of_either_image():
    pairs = np.array([[0, 1], [0, 2], [0, 3], [1, 2], [1, 3]])
    scores = np.array([[9, 1], [2, 8], [0, 5], [7, 3], [2, 0]])
    # Best partners: 0 -> 1, 1 -> 2, 2 -> 0, 3 -> 0.
    assert top_k_neighbours(pairs, scores, 4, 1).tolist() == [True, True, True, True, False]
    assert top_k_neighbours(pairs[:, ::-1], scores[:, ::-1], 4, 1).tolist() == [True, True, True, True, False]
    assert top_k_neighbours(pairs, scores, 4, 3).all()


def test_only_the_published_protocol_takes_partners_of_score_zero():
    pairs, scores = np.array([[0, 1], [1, 2]]), np.array([[0.0, 0.0], [4.0, 3.0]])
    assert top_k_neighbours(pairs, scores, 3, 1).tolist() == [False, True]
    # Image 0 has scores (0, 0, 0) and takes itself first, then image 1.
    assert top_k_neighbours(pairs, scores, 3, 1, "published").tolist() == [False, True]
    assert top_k_neighbours(pairs, scores, 3, 2).tolist() == [False, True]
    assert top_k_neighbours(pairs, scores, 3, 2, "published").tolist() == [True, True]


def test_cell_hit():
    position = np.array([[0.0, 1.0], [0.05, 0.95], [0.149, 0.5], [0.15, 0.49]])
    assert cell_hit(position, (10, 10)).tolist() == [[0, 9], [0, 9], [1, 5], [1, 4]]
    assert cell_hit(position, (10, 10), "published").tolist() == [[0, 9], [0, 9], [1, 4], [1, 4]]
    with pytest.raises(ValueError, match="undefined"):
        cell_hit(np.array([np.nan, 0.5]), (10, 10))


def test_wrong_input_is_named():
    pairs, maps_1, maps_2 = made_up(seed=0)
    scores = np.ones(pairs.shape)
    nodes = build_nodes(pairs, maps_1, maps_2)
    with pytest.raises(ValueError, match="protocol 'other'"):
        build_nodes(pairs, maps_1, maps_2, protocol="other")
    with pytest.raises(ValueError, match="found one twice"):
        top_k_neighbours(np.array([[0, 1], [1, 0]]), np.ones((2, 2)), 2, 1)
    with pytest.raises(ValueError, match="with itself"):
        top_k_neighbours(np.array([[1, 1]]), np.ones((1, 2)), 2, 1)
    with pytest.raises(ValueError, match="images 0 to 4 in a collection of 3"):
        top_k_neighbours(pairs, scores, 3, 1)
    with pytest.raises(ValueError, match="undefined"):
        top_k_neighbours(pairs, scores * np.nan, 5, 1)
    with pytest.raises(ValueError, match="top_k = 0"):
        top_k_neighbours(pairs, scores, 5, 0)
    with pytest.raises(ValueError, match="scores of shape"):
        top_k_neighbours(pairs, scores[1:], 5, 1)
    with pytest.raises(ValueError, match="for both"):
        build_nodes(pairs[1:], maps_1, maps_2)
    with pytest.raises(ValueError, match="neighbours of shape"):
        build_nodes(pairs, maps_1, maps_2, neighbours=np.ones(1, bool))
    with pytest.raises(ValueError, match="sigma = 0"):
        build_graph(nodes, pairs, maps_1, maps_2, sigma=0)
    with pytest.raises(ValueError, match="image pairs"):
        build_graph(nodes, pairs[1:], maps_1[1:], maps_2[1:], sigma=1)
    with pytest.raises(ValueError, match="reduction 'median'"):
        cell_masks(nodes, pairs, np.zeros(len(nodes)), 5, (5, 6), "median")
    with pytest.raises(ValueError, match="eigenvector of 1"):
        cell_masks(nodes, pairs, np.zeros(1), 5, (5, 6))
