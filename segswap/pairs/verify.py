"""Checking a pair set: what its files say of themselves, against what they hold."""

from __future__ import annotations

import dataclasses
import json
import os
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, sha256
from segswap.geometry import STRIDE
from segswap.images import decode_image
from segswap.pairs.pair_set import MANIFEST_NAME, PICTURES, read_set_manifest, read_shard_manifest, unpack_labels
from segswap.pairs.recipe import RECIPE_VERSION
from segswap.pairs.render import Labels
from segswap.progress import progress


def verify_set(manifest: str | os.PathLike) -> Iterator[str]:
    """Yield what is wrong with a pair set, a line each; nothing when all is well.

    Every byte is looked at: the SHA-256 of each shard, each member's name, place and size, that pictures decode at
    the set's size, that labels have the right shapes and lie in their ranges, that each sample's ``json`` says the
    same as its row of the Parquet manifest, and that no index is missing or twice in the set. A shard whose file is
    not the recorded one is named and not looked into.

    Args:
        manifest: the set's ``manifest.json``, or its folder.

    Raises:
        InputError: when the manifest itself cannot be read.
    """
    manifest = Path(manifest)
    manifest = manifest / MANIFEST_NAME if manifest.is_dir() else manifest
    content = read_set_manifest(manifest)
    if missing := {"size", "min_cells"} - set(content["settings"]):
        raise InputError(f"{manifest}: settings lack {', '.join(sorted(missing))}; nothing says what its pairs must be")
    indices: list[int] = []
    all_read = True
    for entry in content["shards"]:
        tar = manifest.parent / entry["shard"]
        try:
            table = read_shard_manifest(tar.with_suffix(".parquet"))
        except InputError as error:
            all_read = False
            yield str(error)
            continue
        indices += table["index"].to_pylist()
        if problem := _whole_file_problem(tar, table, entry):
            yield problem
            continue
        yield from _sample_problems(tar, table, content["settings"])
    listed = {entry["shard"] for entry in content["shards"]}
    for path in sorted(manifest.parent.glob("*.tar")):
        if path.name not in listed:
            yield f"{path}: not listed in {manifest}; a reader that takes all tars of the folder would see it"
    twice = sorted(index for index, count in Counter(indices).items() if count > 1)
    absent = sorted(set(range(len(indices))) - set(indices))
    if twice:
        yield f"{manifest}: pair {content['kind']} {twice[0]} is in the set more than once"
    elif absent and all_read:
        yield f"{manifest}: pair {content['kind']} {absent[0]} is not in the set"
    if sum(entry["pairs"] for entry in content["shards"]) != content["pairs"]:
        yield f"{manifest}: says {content['pairs']} pairs, its shards add up to another number"


def _whole_file_problem(tar: Path, table: pa.Table, entry: dict[str, Any]) -> str | None:
    """Return why a shard's file is not the recorded one."""
    if not tar.is_file():
        return f"{tar}: missing; run the workflow again to remake it"
    if tar.stat().st_size != entry["bytes"]:
        return f"{tar}: {tar.stat().st_size} bytes, recorded {entry['bytes']}; delete the shard and run again"
    if sha256(tar) != entry["sha256"]:
        return f"{tar}: its content has changed since it was recorded (SHA-256); delete the shard and run again"
    if len(table) != entry["pairs"]:
        return f"{tar.with_suffix('.parquet')}: lists {len(table)} pairs, recorded {entry['pairs']}; remake the shard"
    return None


def _sample_problems(tar: Path, table: pa.Table, settings: dict[str, Any]) -> Iterator[str]:
    pictures = [name for name in PICTURES if f"offset_{name}" in table.column_names]
    members = [*pictures, "labels.npz", "json"]
    expected = [f"{key}.{name}" for key in table["key"].to_pylist() for name in members]
    try:
        with tarfile.open(tar, "r:") as file:
            found = {info.name: (info.offset_data, info.size) for info in file}
    except (tarfile.TarError, ValueError, RecursionError) as error:
        yield f"{tar}: does not open as a tar ({error}); delete the shard and run again"
        return
    if list(found) != expected:
        first = next((name for name, other in zip(expected, found, strict=False) if name != other), "the last member")
        yield f"{tar}: members are not those of its manifest, from {first} on; delete the shard and run again"
        return
    with open(tar, "rb") as file:
        for row in progress(table.to_pylist(), tar.name):
            data = {}
            for name in members:
                offset, size = found[f"{row['key']}.{name}"]
                if (row[f"offset_{name}"], row[f"size_{name}"]) != (offset, size):
                    yield f"{tar}: member {row['key']}.{name} lies elsewhere than its manifest says"
                file.seek(offset)
                data[name] = file.read(size)
            for problem in _data_problems(row, data, pictures, settings):
                yield f"{tar}: member {row['key']}.{problem}"


def _data_problems(
    row: dict[str, Any], data: dict[str, bytes], pictures: list[str], settings: dict[str, Any]
) -> Iterator[str]:
    size = settings["size"]
    for name in pictures:
        try:
            shape = decode_image(data[name]).shape
        except InputError as error:
            yield f"{name} does not decode ({error})"
            continue
        if shape != (size, size, 3):
            yield f"{name} is of {shape[1]} x {shape[0]} pixels, the set's size is {size}"
    try:
        record = json.loads(data["json"])
    except ValueError as error:
        yield f"json is not JSON ({error})"
    else:
        if other := sorted(name for name, value in record.items() if row.get(name) != value):
            yield f"json differs from the manifest in {', '.join(other)}"
        if record.get("version") != RECIPE_VERSION:
            yield f"json has recipe version {record.get('version')}, this program makes {RECIPE_VERSION}"
    try:
        labels = unpack_labels(data["labels.npz"])
    except NOT_ARRAYS as error:
        yield f"labels.npz does not decode ({error})"
    else:
        for problem in label_problems(labels, size // STRIDE, settings["min_cells"]):
            yield f"labels.npz: {problem}"
        for side in "ab":
            if not np.isclose(getattr(labels, f"mask_{side}").sum(), row[f"cells_{side}"], rtol=1e-5):
                yield f"labels.npz: mask_{side} has another sum than cells_{side} of the manifest"


def label_problems(labels: Labels, cells: int, min_cells: float) -> Iterator[str]:
    """Yield what is wrong with the labels of a pair.

    Args:
        labels: masks and maps.
        cells: rows and columns that they must have.
        min_cells: least sum of each mask.
    """
    for field in dataclasses.fields(Labels):
        array = getattr(labels, field.name)
        shape = (cells, cells) if field.name.startswith("mask") else (2, cells, cells)
        if array.shape != shape or array.dtype != np.float32:
            yield f"{field.name} is {array.dtype} {array.shape}, expected float32 {shape}"
            return
        if not np.isfinite(array).all():
            yield f"{field.name} has values that are not finite"
            return
    for side in "ab":
        mask, corr = getattr(labels, f"mask_{side}"), getattr(labels, f"corr_{side}")
        if mask.min() < 0 or mask.max() > 1:
            yield f"mask_{side} ranges from {mask.min():.3f} to {mask.max():.3f}, expected 0 to 1"
        if mask.sum() < min_cells:
            yield f"mask_{side} sums to {mask.sum():.2f} cells, fewer than {min_cells}"
        inside = corr[:, mask > 0]
        if inside.size and (inside.min() < 0 or inside.max() > 1):
            yield f"corr_{side} leaves the other picture at a masked cell ({inside.min():.3f} to {inside.max():.3f})"
