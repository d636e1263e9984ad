"""Internet (ObjectDiscovery): co-segmentation of web images of one class, some of them noise.

All pairs of a class are matched; the correspondence graph's principal eigenvector gives soft masks, GrabCut
the segmentation (specification "Discovery"). P is the share of pixels that are right, J the IoU, at full
image resolution, means over images.
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import cv2
import numpy as np
import pyarrow as pa

from segswap.benchmarks.metrics import jaccard, pixel_precision
from segswap.discovery.clusters import Eigenvectors
from segswap.discovery.collection import Collection, check_size
from segswap.discovery.graph import CorrespondenceGraph
from segswap.discovery.segmentation import segment
from segswap.discovery.spectral import cell_masks
from segswap.errors import InputError
from segswap.files import read_arrays, write_arrays
from segswap.listing import list_images
from segswap.progress import progress

CLASSES = ("Airplane100", "Car100", "Horse100")


@dataclasses.dataclass(frozen=True)
class SegmentationSettings:
    """How an eigenvector becomes segmentations.

    Attributes:
        reduction: of the nodes on a cell: sum, max or mean.
        foreground: share of the mask's maximum that is sure foreground.
        protocol: ``corrected`` or ``published``.
    """

    reduction: str
    foreground: float
    protocol: str


def load(folder: str | os.PathLike, class_name: str) -> Collection:
    """Open the folder of a class: pictures, and masks of the same names in ``GroundTruth``.

    Raises:
        InputError: when the class is missing, has fewer than three images, or a mask is missing.
    """
    own = Path(folder) / class_name
    images = check_size(Collection(own, tuple(path.name for path in list_images(own, utf8_names=True))))
    missing = [name for name in images.images if not truth_path(images, name).is_file()]
    if missing:
        raise InputError(
            f"{own}: {len(missing)} images have no mask (first: {truth_path(images, missing[0])}); a mask is as large "
            "as its image, 255 on the object and 0 elsewhere"
        )
    return images


def truth_path(images: Collection, name: str) -> Path:
    """Return the path of an image's mask."""
    return images.folder / "GroundTruth" / f"{Path(name).stem}.png"


def read_truth(images: Collection, name: str, shape: tuple[int, int]) -> np.ndarray:
    """Return an image's mask, bool (H, W).

    Raises:
        InputError: when it does not open, has another size than the image, or other values than 0 and 255.
    """
    path = truth_path(images, name)
    mask = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    if mask is None:
        raise InputError(f"{path}: does not open as a mask picture; restore the file")
    if mask.shape != shape:
        raise InputError(
            f"{path}: {mask.shape[1]} x {mask.shape[0]} pixels, its image {shape[1]} x {shape[0]}; restore both files"
        )
    other = mask[(mask != 0) & (mask != 255)]
    if len(other):
        raise InputError(
            f"{path}: {len(other)} pixels are neither 0 nor 255 (one is {other[0]}); expected 255 on the object and 0 "
            "elsewhere: save the mask so, without lossy compression"
        )
    return mask > 0


def soft_masks(graph: CorrespondenceGraph, eigenvectors: Eigenvectors, settings: SegmentationSettings) -> np.ndarray:
    """Return the soft masks of a class's images, float32 (n, h, w), from its principal eigenvector; 0 without one."""
    if not len(eigenvectors):
        return np.zeros((graph.n_images, *graph.shape), np.float32)
    vector = eigenvectors.dense(0, len(graph.nodes))
    return cell_masks(
        graph.nodes, graph.pairs, vector, graph.n_images, graph.shape, settings.reduction, settings.protocol
    )


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


def segment_class(images: Collection, masks: np.ndarray, foreground: float) -> pa.Table:
    """Segment every image from its soft mask and compare with the truth, at full resolution.

    Args:
        masks: float (n, h, w). foreground: see ``SegmentationSettings``.

    Returns:
        one row per image: P, J, whether the truth is empty (noise), and the segmentation as PNG bytes.
    """
    rows = []
    names = progress(images.images, f"segmenting {images.folder.name}")
    for number, (name, mask) in enumerate(zip(names, masks, strict=True)):
        image = images.read(number)
        truth = read_truth(images, name, image.shape[:2])
        found = segment(image, mask, foreground)
        rows.append(
            {
                "class": images.folder.name,
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
    classes; ``images``, and how many of them are ``noise_images``, those with an empty truth.
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
    numbers["noise_images"] = sum(row["truth_empty"] for row in rows)
    return numbers
