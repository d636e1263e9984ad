"""Pairs per second of this project and of the plain way, side by side in one process on one core.

    python bench/bench_pairs.py --quick                # without style, under 50 s on two cores
    python bench/bench_pairs.py                        # the same; --pairs says how many
    python bench/bench_pairs.py --adain                # with AdaIN as well (many seconds a pair)
    python bench/bench_pairs.py --photos IMAGES --annotations COCO.json
    python bench/bench_pairs.py --processes 2          # only: growth with processes, and memory of shards

Both make the same pairs from 640 x 480 photos, at the same size, rejected draws included. The plain way is what is
written down most easily: PIL decodes, the mask grows by 20 rounds of a generic binary dilation, photo and mask are
resampled three times (to the square, stretched and rotated, fitted), a draw is rejected when its labels are known, and
for AdaIN the style image is decoded and encoded for each use. The two take turns. AdaIN runs with random weights: its
time does not depend on them. The last line is JSON: ratios are the plain way's time divided by ours, medians of
alternating runs.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import io
import itertools
import json
import resource
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from scipy import ndimage
from timing import alternate, print_result, timed_parts

from segswap.config import SCHEMA, complete_config, read_schema
from segswap.demo_world.coco import draw_coco, draw_style_images
from segswap.geometry import correspondence_map, cycle_consistent_masks, mask_to_cells, rotation_matrix, scale_matrix
from segswap.images import read_image
from segswap.pairs import render, shards
from segswap.pairs.adain import AdaIN, channel_statistics, exchange_statistics
from segswap.pairs.annotations import ObjectSettings
from segswap.pairs.coco import build_object_table
from segswap.pairs.objects import ObjectTable
from segswap.pairs.poisson import poisson_blend
from segswap.pairs.recipe import KINDS, PairRecipe, PairSettings, Placement, Rejected, draw_recipe, layout_boxes
from segswap.pairs.render import Labels, Photos, make_pair
from segswap.pairs.shards import StyledPair, sample_members, stylised_pairs
from segswap.pairs.style import StyleStatistics, draw_styles
from segswap.randomness import generator
from segswap.sharing import pair_settings

DEFAULTS = complete_config({}, read_schema(SCHEMA))
PUBLISHED = PairSettings(**pair_settings(DEFAULTS, "train"))
QUALITY = DEFAULTS["pairs"]["jpeg_quality"]
SEED = 1


def draw_photos(folder: Path, count: int) -> tuple[Path, Path]:
    """Draw a COCO data set of 640 x 480 photos; return its images and annotations."""
    draw_coco(folder / "drawn", SEED, "bench", count)
    content = json.loads((folder / "drawn/annotations.json").read_text())
    scales = {}
    (folder / "images").mkdir()
    for entry in content["images"]:
        path = folder / "drawn/images" / entry["file_name"]
        picture = cv2.imread(str(path))
        if picture is None:
            continue
        scales[entry["id"]] = 640 / entry["width"], 480 / entry["height"]
        cv2.imwrite(str(folder / "images" / entry["file_name"]), cv2.resize(picture, (640, 480)))
        entry["width"], entry["height"] = 640, 480
    polygons = [a for a in content["annotations"] if isinstance(a["segmentation"], list) and a["image_id"] in scales]
    for entry in polygons:
        scale = scales[entry["image_id"]]
        entry["segmentation"] = [
            [value * scale[n % 2] for n, value in enumerate(part)] for part in entry["segmentation"] if part
        ]
    content["annotations"] = [entry for entry in polygons if entry["segmentation"]]
    content["images"] = [entry for entry in content["images"] if entry["id"] in scales]
    (folder / "annotations.json").write_text(json.dumps(content))
    return folder / "images", folder / "annotations.json"


def plain_pair(photos: Photos, recipe: PairRecipe) -> tuple[Image.Image, Image.Image, list[Labels]]:
    """Render a recipe the plain way: source, target, labels of each object."""
    size, table = PUBLISHED.size, photos.table
    source, target = (
        Image.open(photos.folders[0] / table.file_name(image_id)).convert("RGB")
        for image_id in (recipe.source_image_id, recipe.target_image_id)
    )
    rows = [table.row_of(recipe.source_image_id, placement.annotation_id) for placement in recipe.placements]
    full = [ndimage.binary_dilation(table.mask(row), iterations=PUBLISHED.dilation) for row in rows]
    if len(full) > 1 and (full[0] & full[1]).any():
        raise Rejected("objects overlap")
    if recipe.crop:
        x1, y1, x2, y2 = render.nearest_border_crop(full[0])
        source, full = source.crop((x1, y1, x2, y2)), [full[0][y1:y2, x1:x2]]
    square, target = (picture.resize((size, size), Image.BILINEAR) for picture in (source, target))
    boxes = layout_boxes(recipe.layout, size) if recipe.layout >= 0 else [(0, 0, size, size)]
    placed = [
        _place(square, mask, placement, box)
        for mask, placement, box in zip(full, recipe.placements, boxes, strict=True)
    ]
    labels = [part[2] for part in placed]
    if any(min(own.mask_a.sum(), own.mask_b.sum()) < PUBLISHED.min_cells for own in labels):
        raise Rejected("mask too small")
    if len(labels) > 1 and any((getattr(labels[0], m) * getattr(labels[1], m)).any() for m in ("mask_a", "mask_b")):
        raise Rejected("masks touch")
    blended = np.asarray(target)
    for canvas, pasted, _ in placed:
        blended = _seamless_clone(canvas, blended, pasted)
    return square, Image.fromarray(blended), labels


def _seamless_clone(source: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Blend with OpenCV, in a frame of a pixel: it fails where a mask touches the border."""
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(ys) or min(xs[-1] - xs[0], ys[-1] - ys[0]) < 2:
        raise Rejected("pasted mask too thin")
    centre = int(xs[0] + 1 + (xs[-1] + 1 - xs[0]) // 2), int(ys[0] + 1 + (ys[-1] + 1 - ys[0]) // 2)
    framed = cv2.copyMakeBorder(mask.astype(np.uint8) * 255, 1, 1, 1, 1, cv2.BORDER_CONSTANT)
    pictures = (cv2.copyMakeBorder(picture, 1, 1, 1, 1, cv2.BORDER_REPLICATE) for picture in (source, target))
    return cv2.seamlessClone(*pictures, framed, centre, cv2.NORMAL_CLONE)[1:-1, 1:-1]


def _place(
    square: Image.Image, mask: np.ndarray, placement: Placement, box: tuple[int, int, int, int]
) -> tuple[np.ndarray, np.ndarray, Labels]:
    """Return the object on an empty canvas, its mask there, and its labels."""
    size = PUBLISHED.size
    alpha = Image.fromarray(mask.astype(np.uint8) * 255).resize((size, size), Image.BILINEAR)
    stretched = round(size * placement.stretch_x), round(size * placement.stretch_y)
    turned = [p.resize(stretched, Image.BILINEAR).rotate(placement.angle, expand=True) for p in (square, alpha)]
    corners = turned[1].point(lambda value: 255 if value else 0).getbbox()
    cut = [picture.crop(corners) for picture in turned]
    room = box[2] - box[0], box[3] - box[1]
    fit = placement.fit * min(room[0] / cut[0].width, room[1] / cut[0].height)
    fitted = max(1, int(cut[0].width * fit)), max(1, int(cut[0].height * fit))
    left = box[0] + int((room[0] - fitted[0]) * placement.position_x)
    top = box[1] + int((room[1] - fitted[1]) * placement.position_y)
    canvases = []
    for picture, mode in zip(cut, ("RGB", "L"), strict=True):
        canvas = Image.new(mode, (size, size))
        canvas.paste(picture.resize(fitted, Image.BILINEAR), (left, top))
        canvases.append(np.asarray(canvas))
    matrix = rotation_matrix(stretched, placement.angle) @ scale_matrix(stretched[0] / size, stretched[1] / size)
    matrix = np.array([[fit, 0, left - fit * corners[0]], [0, fit, top - fit * corners[1]], [0, 0, 1]]) @ matrix
    maps = [correspondence_map(m, (size, size), (size, size)) for m in (matrix, np.linalg.inv(matrix))]
    masks = cycle_consistent_masks(mask_to_cells(np.asarray(alpha) / np.float32(255)), *maps)
    return canvases[0], canvases[1] >= 128, Labels(*masks, *maps)


def plain_draws(photos: Photos, kind: str, index: int) -> tuple[PairRecipe, tuple]:
    """Draw the pair of an address until a draw is usable, as ``make_pair`` does; its recipe and ``plain_pair``."""
    rng, rejected = generator(SEED, "pair", kind, index), []
    while True:
        try:
            recipe = draw_recipe(photos.table, PUBLISHED, rng, (SEED, kind, index), rejected)
            return recipe, plain_pair(photos, recipe)
        except Rejected as reason:
            rejected.append(str(reason))


def plain_members(
    photos: Photos, kind: str, index: int, style: tuple[AdaIN, Path, StyleStatistics] | None = None
) -> dict[str, bytes]:
    """Return the members of a sample made the plain way."""
    recipe, (first, second, labels) = plain_draws(photos, kind, index)
    pictures = {"a.jpg": first, "b.jpg": second}
    if style is not None:
        adain, folder, statistics = style
        choices = draw_styles(statistics, recipe.seed, recipe.kind, recipe.index)
        for name, picture, choice in zip(("as.jpg", "bs.jpg"), (first, second), choices, strict=True):
            style_image = np.asarray(Image.open(folder / choice.name).convert("RGB"))
            with torch.inference_mode():
                content = adain.vgg(adain._batch([np.asarray(picture)]))
                target = channel_statistics(adain.vgg(adain._batch([style_image])))
                mixed = choice.strength * exchange_statistics(content, target) + (1 - choice.strength) * content
                output = adain.decoder(mixed).clamp(0, 1).mul(255).round().to(torch.uint8)[0]
            pictures[name] = Image.fromarray(output.permute(1, 2, 0).numpy()).resize(picture.size, Image.BILINEAR)
    members = {}
    for name, picture in pictures.items():
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=QUALITY)
        members[name] = buffer.getvalue()
    for number, label in enumerate(labels):
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{f.name: getattr(label, f.name) for f in dataclasses.fields(label)})
        members[f"labels-{number}.npz"] = buffer.getvalue()
    return members


def our_members(
    photos: Photos, kind: str, index: int, style: tuple[AdaIN, Path, StyleStatistics] | None = None
) -> dict[str, bytes]:
    """Return the members of a sample as the shards hold it."""
    pair = make_pair(photos, PUBLISHED, SEED, kind, index)
    if style is None:
        return sample_members(StyledPair(pair), QUALITY)
    return sample_members(next(stylised_pairs(iter([pair]), style[0], style[2])), QUALITY)


def compare_blending(photos: Photos, side: int, rounds: int = 20) -> float:
    """Return the ratio of both blends for a disc of ``side`` pixels; matrices of that size are kept, as in a shard."""
    names = [photos.folders[0] / photos.table.file_name(int(image_id)) for image_id in photos.table.image_ids[:2]]
    source, target = (cv2.resize(read_image(name), (480, 480)) for name in names)
    mask = cv2.circle(np.zeros((480, 480), np.uint8), (240, 240), side // 2, 1, -1) > 0
    poisson_blend(source, target, mask)
    ways = {"ours": poisson_blend, "plain": _seamless_clone}
    seconds, _ = alternate({name: partial(blend, source, target, mask) for name, blend in ways.items()}, rounds)
    ratio = seconds["plain"] / seconds["ours"]
    print(f"blend of {side} pixels: ratio {ratio:.1f}", flush=True)
    return ratio


def compare_pairs(name: str, make: dict[str, Callable[[int], object]], pairs: int) -> tuple[float, dict[str, float]]:
    """Return the ratio of both ways and the pairs per second of each, from up to six runs with new pairs in each."""
    rounds = min(pairs, 6)
    ways = {way: partial(_take, map(function, itertools.count()), pairs // rounds) for way, function in make.items()}
    seconds, _ = alternate(ways, rounds)
    rates = {way: pairs // rounds / value for way, value in seconds.items()}
    ratio = seconds["plain"] / seconds["ours"]
    print(
        f"{name}: ours {rates['ours']:.2f} pairs/s, plain {rates['plain']:.2f} pairs/s, ratio {ratio:.2f}", flush=True
    )
    return ratio, rates


def _take(made: Iterator[object], number: int) -> list[object]:
    return list(itertools.islice(made, number))


def write_some(folder: Path, images: Path, kind: str, indices: range, restyle: bool = False) -> float:
    """Write a shard as a job does, one thread; return the largest memory of this process so far in GB.

    Without style, or with AdaIN of random weights.
    """
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    photos = Photos(ObjectTable.read(folder / "t.parquet"), images)
    tar = folder / f"{kind}-{indices.start}-{indices.stop}.tar"
    stylist = AdaIN().eval().requires_grad_(False).to(memory_format=torch.channels_last) if restyle else None
    styles = StyleStatistics(("any",), np.ones((1, 2, 512), np.float32)) if restyle else None
    manifest = tar.with_suffix(".parquet")
    shards.write_shard(photos, PUBLISHED, stylist, styles, (SEED, kind), indices, tar, manifest, QUALITY, 0.05)
    tar.unlink()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def compare_processes(folder: Path, images: Path, count: int, processes: int, rounds: int = 3) -> list[float]:
    """Return how many times as many pairs several processes make as one; they take turns, one job a process."""
    rates: dict[int, list[float]] = {1: [], processes: []}
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        # Modules are loaded before anything is timed.
        list(pool.map(partial(write_some, folder, images, "1obj"), [range(n, n + 1) for n in range(4 * processes)]))
        for number in range(rounds):
            for running in rates:
                jobs = [range(k * count, (k + 1) * count) for k in range(running)]
                started = time.perf_counter()
                list(pool.map(partial(write_some, folder, images, KINDS[number % 2]), jobs))
                rates[running].append(running * count / (time.perf_counter() - started))
    ratios = [many / one for one, many in zip(rates[1], rates[processes], strict=True)]
    print(f"{processes} processes: {', '.join(f'{ratio:.2f}' for ratio in ratios)} times the pairs of one", flush=True)
    return ratios


def compare_memory(folder: Path, images: Path) -> dict[str, float]:
    """Return the largest memory of jobs that make shards of several sizes, each in a process of its own."""
    jobs = [(kind, count, False) for kind in KINDS for count in (60, 1000)]
    jobs += [(KINDS[0], count, True) for count in (2, 8)]
    peaks = {}
    for kind, count, restyle in jobs:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            peak = pool.submit(write_some, folder, images, kind, range(count), restyle).result()
        what = f"{count} pairs, {kind}, {'with AdaIN' if restyle else 'without style'}"
        print(f"memory of a shard of {what}: {peak:.2f} GB", flush=True)
        peaks[what] = peak
    return peaks


def breakdown(photos: Photos, kind: str, count: int) -> dict[str, float]:
    """Return the milliseconds that the steps of our way take of a pair."""
    steps = {
        "read photos": (render.Photos, "read"),
        "masks and dilation": (render, "dilate"),
        "place": (render, "placement_matrix"),
        "labels": (render, "_object_labels"),
        "warp": (render, "warp_image"),
        "resize": (render, "resize"),
        "Poisson blend": (render, "blend"),
        "JPEG": (shards, "encode_jpeg"),
        "pack labels": (shards, "_pack_labels"),
    }
    seconds: Counter[str] = Counter()
    started = time.perf_counter()
    with timed_parts(seconds, steps):
        for index in range(count):
            our_members(photos, kind, index)
    total = time.perf_counter() - started
    each = {name: 1000 * value / count for name, value in [*seconds.most_common(), ("all", total)]}
    for name, value in each.items():
        print(f"  {name:20s} {value:7.2f} ms a pair  {value / each['all']:6.1%}")
    return each


def random_style(folder: Path) -> tuple[AdaIN, AdaIN, Path, StyleStatistics]:
    """Return AdaIN with random weights as we lay it out and plain, drawn style images and their statistics."""
    torch.manual_seed(0)
    plain = AdaIN().eval().requires_grad_(False)
    adain = copy.deepcopy(plain).to(memory_format=torch.channels_last)
    draw_style_images(folder, SEED, 4)
    names = sorted(path.name for path in folder.iterdir())
    statistics = np.stack([adain.statistics(read_image(folder / name)) for name in names])
    return adain, plain, folder, StyleStatistics(tuple(names), statistics)


def compare(photos: Photos, folder: Path, pairs: int, restyled: int) -> tuple[dict[str, float], dict[str, object]]:
    """Return the ratios of blends and of pairs, ``restyled`` ones as well, and details."""
    ratios = {f"blend_{side}": compare_blending(photos, side) for side in (60, 120, 240, 470)}
    rates, steps = {}, {}
    for kind in KINDS:
        ways = {"ours": partial(our_members, photos, kind), "plain": partial(plain_members, photos, kind)}
        ratios[kind], rates[kind] = compare_pairs(f"without_style {kind}", ways, pairs)
        steps[kind] = breakdown(photos, kind, pairs)
    if restyled:
        adain, plain, *style = random_style(folder / "styles")
        for kind in KINDS:
            ways = {
                "ours": partial(our_members, photos, kind, style=(adain, *style)),
                "plain": partial(plain_members, photos, kind, style=(plain, *style)),
            }
            name = f"adain_{kind}"
            ratios[name], rates[name] = compare_pairs(f"adain {kind}", ways, restyled)
    return ratios, {"pairs_per_second": rates, "ms_a_pair": steps}


def main() -> None:
    """Run the comparisons."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without style, at most 60 pairs of each kind")
    parser.add_argument("--photos", type=Path, help="folder of photos; drawn ones without it")
    parser.add_argument("--annotations", type=Path, help="their COCO annotations")
    parser.add_argument("--pairs", type=int, default=60, help="pairs of each kind (default: %(default)s)")
    parser.add_argument("--adain", type=int, nargs="?", const=4, default=0, help="pairs of each kind with AdaIN")
    parser.add_argument("--processes", type=int, default=0, help="compare this many processes with one, and memory")
    args = parser.parse_args()
    if args.quick:
        args.pairs, args.adain, args.processes = min(args.pairs, 60), 0, 0
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        images, annotations = args.photos, args.annotations
        if images is None:
            images, annotations = draw_photos(folder, 60)
        settings = ObjectSettings(0.002, 0.9, 0.05)
        build_object_table(annotations, images, folder / "t.parquet", folder / "p.json", settings)
        if args.processes:
            times = compare_processes(folder, images, 3 * args.pairs, args.processes)
            ratios, details = {}, {"times_one_process": times, "peak_gb": compare_memory(folder, images)}
        else:
            photos = Photos(ObjectTable.read(folder / "t.parquet"), images)
            # Photos are read anew for each pair, as in a large set.
            photos._read = photos._read_photo
            ratios, details = compare(photos, folder, args.pairs, args.adain)
    print_result("pairs", ratios, details)


if __name__ == "__main__":
    main()
