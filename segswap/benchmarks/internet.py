"""Internet (ObjectDiscovery): co-segmentation of web images of one class, some of them noise.

All pairs of a class are matched; the correspondence graph's principal eigenvector gives soft masks, GrabCut
the segmentation (specification "Discovery"). P is the share of pixels that are right, J the IoU, at full
image resolution, means over images.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import jaccard, pixel_precision
from segswap.discovery.graph import build_graph
from segswap.discovery.nodes import build_nodes, top_k_neighbours
from segswap.discovery.segmentation import segment
from segswap.discovery.spectral import cell_masks, principal_eigenvector
from segswap.errors import InputError
from segswap.files import read_arrays, write_arrays
from segswap.images import list_images, read_image

CLASSES = ("Airplane100", "Car100", "Horse100")
_MIRRORED = "mirrored "


@dataclasses.dataclass(frozen=True)
class InternetSettings:
    """The protocol.

    Attributes:
        image_size: side in pixels that images are squashed to.
        flip: whether each pair is also tried with its second image mirrored.
        min_share: pairs whose cycle masks, or both scores, are below this share of the cells are dropped.
        top_k: neighbours of an image.
        mask_threshold: cells above it are nodes.
        sigma: of the edge weights in cells, by class; ``default`` for classes not named.
        two_cycles: whether nodes of one pair are connected.
        mask_weighting: whether 3-cycles are weighted by the third pair's mask.
        reduction: of the nodes on a cell: sum, max or mean.
        foreground: share of the mask's maximum that is sure foreground.
        protocol: ``corrected`` or ``published``.
    """

    image_size: int
    flip: bool
    min_share: float
    top_k: int
    mask_threshold: float
    sigma: dict[str, float]
    two_cycles: bool
    mask_weighting: bool
    reduction: str
    foreground: float
    protocol: str

    def sigma_of(self, class_name: str) -> float:
        """Return the sigma of a class."""
        return self.sigma.get(class_name, self.sigma["default"])


@dataclasses.dataclass(frozen=True)
class ImageClass:
    """The images of a class, in order, with the names of their masks."""

    folder: Path
    name: str
    images: tuple[str, ...]

    def truth_path(self, image: str) -> Path:
        """Return the path of an image's mask."""
        return self.folder / "GroundTruth" / f"{Path(image).stem}.png"


def load(folder: str | os.PathLike, class_name: str) -> ImageClass:
    """Open the folder of a class: pictures, and masks of the same names in ``GroundTruth``.

    Raises:
        InputError: when the class is missing, has fewer than three images, or a mask is missing.
    """
    own = Path(folder) / class_name
    images = tuple(path.name for path in list_images(own))
    if len(images) < 3:
        raise InputError(f"{own}: {len(images)} images; discovery needs at least three")
    found = ImageClass(own, class_name, images)
    missing = [name for name in images if not found.truth_path(name).is_file()]
    if missing:
        raise InputError(f"{own}: {len(missing)} images have no mask (first: {found.truth_path(missing[0])})")
    return found


def read_truth(images: ImageClass, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Return an image's mask, bool (H, W).

    Raises:
        InputError: when it does not open or has another size than the image.
    """
    path = images.truth_path(name)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(f"{path}: does not open as a mask picture")
    if mask.shape != shape:
        raise InputError(f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels, its image {shape[1]} x {shape[0]}")
    return mask > 127


def feature_names(images: ImageClass, flip: bool) -> list[str]:
    """Return the names in the feature store: the images, then the mirrored ones if asked for."""
    return [*images.images, *([_MIRRORED + name for name in images.images] if flip else [])]


def image_loaders(images: ImageClass, flip: bool) -> list[Callable[[], np.ndarray]]:
    """Return readers of the images of ``feature_names``."""
    plain = [lambda path=images.folder / name: read_image(path) for name in images.images]
    mirrored = [lambda path=images.folder / name: cv2.flip(read_image(path), 1) for name in images.images]
    return [*plain, *(mirrored if flip else [])]


@dataclasses.dataclass(frozen=True)
class PairPredictions:
    """Predictions of the image pairs of a class that are kept.

    Attributes:
        pairs: int64 (P, 2), image numbers.
        maps_1, maps_2: float16 (P, 3, h, w), outputs of the first and second images.
        scores: float64 (P, 2), directed, first to second and back.
    """

    pairs: np.ndarray
    maps_1: np.ndarray
    maps_2: np.ndarray
    scores: np.ndarray

    def write(self, path: str | os.PathLike) -> None:
        """Write as a compressed npz file."""
        write_arrays(path, **{f.name: getattr(self, f.name) for f in dataclasses.fields(self)})

    @classmethod
    def read(cls, path: str | os.PathLike) -> PairPredictions:
        """Read a file of ``write``.

        Raises:
            InputError: when the file is not of that form.
        """
        return cls(**read_arrays(path, "pair predictions", [f.name for f in dataclasses.fields(cls)]))


def discover(images: ImageClass, predictions: PairPredictions, settings: InternetSettings) -> np.ndarray:
    """Return the soft masks of a class's images, float32 (n, h, w), from the graph's principal eigenvector.

    A class in which nothing matches has an empty graph and gets empty masks.
    """
    n = len(images.images)
    shape = predictions.maps_1.shape[-2:]
    if not len(predictions.pairs):
        print(f"{images.name}: no two images match; all masks are empty", flush=True)
        return np.zeros((n, *shape), np.float32)
    maps_1, maps_2 = predictions.maps_1.astype(np.float32), predictions.maps_2.astype(np.float32)
    neighbours = top_k_neighbours(predictions.pairs, predictions.scores, n, settings.top_k, settings.protocol)
    nodes = build_nodes(
        predictions.pairs, maps_1, maps_2, settings.mask_threshold, settings.protocol, neighbours=neighbours
    )
    graph = build_graph(
        nodes,
        predictions.pairs,
        maps_1,
        maps_2,
        settings.sigma_of(images.name),
        two_cycles=settings.two_cycles,
        mask_weighting=settings.mask_weighting,
        protocol=settings.protocol,
    )
    print(f"{images.name}: {neighbours.sum()} neighbour pairs, {len(nodes)} nodes, {graph.nnz} edges", flush=True)
    vector = principal_eigenvector(graph, settings.protocol)
    return cell_masks(nodes, predictions.pairs, vector, n, shape, settings.reduction, settings.protocol)


def write_masks(path: str | os.PathLike, masks: np.ndarray) -> None:
    """Write the soft masks (n, h, w) of a class as a whole npz file."""
    write_arrays(path, masks=masks)


def read_masks(path: str | os.PathLike) -> np.ndarray:
    """Read a file of ``write_masks``.

    Raises:
        InputError: when the file is not of that form.
    """
    return read_arrays(path, "soft masks", ["masks"])["masks"]


_SCHEMA = pa.schema(
    [
        ("class", pa.string()),
        ("image", pa.string()),
        ("precision", pa.float64()),
        ("jaccard", pa.float64()),
        ("truth_empty", pa.bool_()),
        ("segmentation", pa.binary()),
    ]
)


def segment_class(images: ImageClass, masks: np.ndarray, settings: InternetSettings) -> pa.Table:
    """Segment every image from its soft mask and compare with the truth, at full resolution.

    Returns:
        one row per image: P, J, whether the truth is empty (noise), and the segmentation as PNG bytes.
    """
    rows = []
    for name, mask in zip(images.images, masks, strict=True):
        image = read_image(images.folder / name)
        truth = read_truth(images, name, image.shape[:2])
        found = segment(image, mask, settings.foreground)
        rows.append(
            {
                "class": images.name,
                "image": name,
                "precision": pixel_precision(found, truth),
                "jaccard": jaccard(found, truth),
                "truth_empty": not truth.any(),
                "segmentation": cv2.imencode(".png", found.astype(np.uint8) * 255)[1].tobytes(),
            }
        )
    return pa.Table.from_pylist(rows, schema=_SCHEMA)


def metrics(table: pa.Table) -> dict[str, float]:
    """Return the numbers of stored segmentations.

    ``precision`` and ``jaccard`` (images with an empty truth left out of J, as published), and
    ``jaccard_all`` (they count as 0, as other papers do), per class (``jaccard_Car100``) and as the mean over
    classes.
    """
    numbers: dict[str, float] = {}
    rows = table.to_pylist()
    classes = sorted({row["class"] for row in rows})
    for name in classes:
        own = [row for row in rows if row["class"] == name]
        with_object = [row["jaccard"] for row in own if not row["truth_empty"]]
        numbers[f"precision_{name}"] = float(np.mean([row["precision"] for row in own]))
        numbers[f"jaccard_{name}"] = float(np.mean(with_object)) if with_object else 0.0
        numbers[f"jaccard_all_{name}"] = float(np.sum(with_object) / len(own))
    for measure in ("precision", "jaccard", "jaccard_all"):
        numbers[measure] = float(np.mean([numbers[f"{measure}_{name}"] for name in classes]))
    numbers["images"] = len(rows)
    return numbers
