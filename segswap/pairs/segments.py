"""Objects without annotation: regions of photos found by graph segmentation fill the object table.

Felzenszwalb and Huttenlocher, Efficient Graph-Based Image Segmentation, IJCV 2004, at several scales. How the paper's
unsupervised segments were made is in no source; this is a decision of ours (shared specification of the pairs). Each
region is a category of its own: "a category that is not in the background photo" then means "another photo", and two
objects of one photo always differ.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from skimage.measure import regionprops
from skimage.segmentation import felzenszwalb

from segswap.errors import InputError
from segswap.files import write_json
from segswap.images import Header, UnreadableImage, read_header, read_image, resize
from segswap.listing import list_images
from segswap.pairs.annotation_masks import encode_segmentation
from segswap.pairs.objects import describe_objects, mask_columns, turned_photos, write_object_rows
from segswap.progress import progress
from segswap.workers import process_pool


@dataclasses.dataclass(frozen=True)
class SegmentSettings:
    """How regions are found and which become objects.

    Attributes:
        longer_side: photos are segmented at this size, in pixels.
        scales: of the graph segmentation, each run by itself; larger ones give larger regions.
        sigma: of the smoothing before it, in pixels.
        min_area_share, max_area_share: bounds of a region's share of the photo.
        max_border_share: largest share of the photo's border that a region may touch; backgrounds touch more.
        min_solidity: smallest share of its convex hull that a region fills.
        min_inscribed: smallest share of a region that its largest inscribed circle covers; slivers have less.
        max_overlap: regions of another scale whose IoU with a kept one is above this are left out.
        max_bad_share: largest share of unreadable photos that is skipped and named instead of fatal.
    """

    longer_side: int
    scales: tuple[float, ...]
    sigma: float
    min_area_share: float
    max_area_share: float
    max_border_share: float
    min_solidity: float
    min_inscribed: float
    max_overlap: float
    max_bad_share: float


def find_segments(image: np.ndarray, settings: SegmentSettings) -> tuple[list[np.ndarray], Counter[str]]:
    """Return the regions of a photo that may be objects.

    Args:
        image: RGB uint8 (H, W, 3).

    Returns:
        masks, bool (h, w) at the size of ``longer_side``, larger regions of each scale first; and how many regions were
        left out, by reason.
    """
    height, width = image.shape[:2]
    scale = min(1.0, settings.longer_side / max(height, width))
    small = resize(image, (max(1, round(width * scale)), max(1, round(height * scale))))
    smallest = max(1, round(settings.min_area_share * small.shape[0] * small.shape[1]))
    kept: list[np.ndarray] = []
    left_out: Counter[str] = Counter()
    for value in settings.scales:
        labels = felzenszwalb(small, scale=value, sigma=settings.sigma, min_size=smallest)
        # 0 is nothing for regionprops.
        for region in sorted(regionprops(labels + 1), key=lambda r: (-r.area, r.label)):
            mask = labels == region.label - 1
            reason = _why_not(mask, region, settings)
            if reason is None and any(_overlap(mask, other) > settings.max_overlap for other in kept):
                reason = "found at another scale"
            if reason is None:
                kept.append(mask)
            else:
                left_out[reason] += 1
    return kept, left_out


def _why_not(mask: np.ndarray, region: Any, settings: SegmentSettings) -> str | None:
    share = mask.mean()
    if share < settings.min_area_share:
        return "too small"
    if share > settings.max_area_share:
        return "too large"
    border = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    if border.mean() > settings.max_border_share:
        return "touches too much of the border"
    # The convex hull is the costly part, computed when asked for: last but for the few that pass.
    if region.solidity < settings.min_solidity:
        return "not solid"
    framed = cv2.copyMakeBorder(mask.astype(np.uint8), 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    radius = cv2.distanceTransform(framed, cv2.DIST_L2, cv2.DIST_MASK_PRECISE).max()
    return "a sliver" if np.pi * radius**2 < settings.min_inscribed * mask.sum() else None


def _overlap(mask: np.ndarray, other: np.ndarray) -> float:
    return float((mask & other).sum() / (mask | other).sum())


def _photo_rows(path: Path, settings: SegmentSettings) -> tuple[Header | str, list[dict[str, Any]], Counter[str]]:
    """Return a photo's header or why it does not open; the rows of its regions, without ids; what was left out."""
    cv2.setNumThreads(1)
    try:
        header, image = read_header(path), read_image(path)
    except UnreadableImage as error:
        return str(error), [], Counter()
    height, width = image.shape[:2]
    masks, left_out = find_segments(image, settings)
    rows = []
    for mask in masks:
        full = (resize(mask.astype(np.uint8) * 255, (width, height)) > 127).astype(np.uint8)
        rows.append(
            {
                "file_name": path.name,
                "width": width,
                "height": height,
                "category": "segment",
                "segmentation": json.dumps(encode_segmentation(full)),
                "iscrowd": False,
                **mask_columns(full),
            }
        )
    return header, rows, left_out


def build_segment_table(
    images: str | os.PathLike,
    table: str | os.PathLike,
    problems: str | os.PathLike,
    settings: SegmentSettings,
    processes: int = 1,
) -> None:
    """Find regions in every photo of a folder and write the object table (Parquet) and what was left out (JSON).

    Photos are numbered from 1 in the order of their names, regions in the order they are found, so the table is the
    same for any number of processes.

    Raises:
        InputError: when the folder holds no photo, more than ``max_bad_share`` of them do not open, or nothing
            is found.
    """
    paths = list_images(images)
    headers: dict[str, Header] = {}
    unreadable: list[str] = []
    left_out: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    with process_pool(processes, "let fewer work side by side (snakemake --set-threads segment_table=1)") as pool:
        found = pool.map(partial(_photo_rows, settings=settings), paths, chunksize=4)
        looked_at = progress(zip(paths, found, strict=True), "segments", total=len(paths))
        for image_id, (path, (header, own, others)) in enumerate(looked_at, 1):
            if isinstance(header, Header):
                headers[path.name] = header
            else:
                unreadable.append(header)
            left_out.update(others)
            for row in own:
                number = len(rows) + 1
                rows.append({"image_id": image_id, "annotation_id": number, "category_id": number, **row})
    if len(unreadable) > settings.max_bad_share * len(paths):
        raise InputError(
            f"{images}: {len(unreadable)} of {len(paths)} photos do not open (first: {unreadable[0]}); repair or "
            f"remove them, or raise objects.max_bad_share ({settings.max_bad_share})"
        )
    if not rows:
        raise InputError(
            f"{images}: no region of {len(paths)} photos may be an object (left out: {dict(left_out)}); see the keys "
            "of objects.segments"
        )
    write_object_rows(rows, table)
    write_json(
        problems,
        {
            "images_listed": len(paths),
            "images_missing": unreadable,
            "images_turned": turned_photos(headers),
            "annotations_listed": len(rows) + sum(left_out.values()),
            "annotations_broken": [],
            "left_out": dict(left_out),
            "crowds": 0,
            **describe_objects(rows),
            "categories_without_objects": [],
        },
    )
