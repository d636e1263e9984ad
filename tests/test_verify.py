"""Checking a pair set: a good one passes, and every kind of damage is named."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bounded_memory import bounded_memory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.files import read_json, sha256, write_json
from segswap.pairs.pair_set import PairSet
from segswap.pairs.recipe import KINDS
from segswap.pairs.render import Labels
from segswap.pairs.verify import label_problems, verify_set


@pytest.fixture
def copied(tiny_world, tmp_path: Path) -> Path:
    """A copy of the one-object set that may be damaged; its manifest."""
    folder = tmp_path / "set"
    shutil.copytree(tiny_world.pairs["1obj"].parent, folder)
    return folder / "manifest.json"


def recorded_anew(manifest: Path) -> None:
    """Record the shards as they are now, as somebody would who edits a set by hand."""
    content = read_json(manifest)
    for entry in content["shards"]:
        tar = manifest.parent / entry["shard"]
        entry["bytes"], entry["sha256"] = tar.stat().st_size, sha256(tar)
    write_json(manifest, content)


def overwrite(manifest: Path, member: str, change: Callable[[bytes], bytes]) -> None:
    """Change a member of the second sample of the first shard in place, at its length."""
    tar = manifest.parent / "1obj-000000.tar"
    with tarfile.open(tar) as file:
        info = next(info for info in file if info.name == f"1obj-00000001.{member}")
    with open(tar, "r+b") as file:
        file.seek(info.offset_data)
        data = file.read(info.size)
        changed = change(data)
        assert len(changed) == len(data)
        file.seek(info.offset_data)
        file.write(changed)
    recorded_anew(manifest)


@pytest.mark.parametrize("kind", KINDS)
def test_a_good_set_has_no_problems_by_manifest_or_folder(tiny_world, kind):
    assert list(verify_set(tiny_world.pairs[kind])) == []
    assert list(verify_set(tiny_world.pairs[kind].parent)) == []


def test_files_that_are_not_the_recorded_ones(copied):
    first, second = (copied.parent / f"1obj-00000{n}.tar" for n in (0, 1))
    data = bytearray(first.read_bytes())
    data[5000] ^= 1
    first.write_bytes(data)
    second.write_bytes(second.read_bytes()[:-512])
    problems = list(verify_set(copied))
    assert len(problems) == 2
    assert "1obj-000000.tar: its content has changed" in problems[0]
    assert "1obj-000001.tar" in problems[1] and "recorded" in problems[1]
    first.unlink()
    second.with_suffix(".parquet").write_bytes(b"no table")
    problems = list(verify_set(copied))
    assert "1obj-000000.tar: missing" in problems[0]
    assert "1obj-000001.parquet: shard manifest not readable" in problems[1]


def test_a_member_that_does_not_decode_is_named(copied):
    overwrite(copied, "b.jpg", lambda data: b"x" * len(data))
    (problem,) = verify_set(copied)
    assert "1obj-000000.tar: member 1obj-00000001.b.jpg does not decode" in problem


def test_a_record_that_differs_from_the_manifest_is_named(copied):
    overwrite(copied, "json", lambda data: data.replace(b'"seed": 1', b'"seed": 2'))
    (problem,) = verify_set(copied)
    assert "1obj-00000001.json differs from the manifest in seed" in problem


def test_damaged_labels_are_named(copied):
    overwrite(copied, "labels.npz", lambda data: data[:-40] + b"x" * 40)
    (problem,) = verify_set(copied)
    assert "1obj-00000001.labels.npz does not decode" in problem


def test_places_counts_and_strangers(copied):
    parquet = copied.parent / "1obj-000000.parquet"
    table = pq.read_table(parquet)
    column = table.column_names.index("offset_a.jpg")
    offsets = table["offset_a.jpg"].to_numpy() + np.arange(len(table))
    pq.write_table(table.set_column(column, "offset_a.jpg", [offsets]), parquet)
    content = read_json(copied)
    content["pairs"] += 1
    write_json(copied, content)
    (copied.parent / "1obj-000007.tar").write_bytes(b"")
    problems = list(verify_set(copied))
    assert len([p for p in problems if "a.jpg lies elsewhere than its manifest says" in p]) == len(table) - 1
    assert any("1obj-000007.tar: not listed" in p for p in problems)
    assert any("add up to another number" in p for p in problems)


def test_a_pair_that_is_twice_in_the_set_is_named(copied):
    content = read_json(copied)
    for suffix in (".tar", ".parquet"):
        (copied.parent / "1obj-000001").with_suffix(suffix).unlink()
    table = pq.read_table(copied.parent / "1obj-000000.parquet")
    metadata = {**table.schema.metadata, b"shard": b"1obj-000001.tar"}
    pq.write_table(table.replace_schema_metadata(metadata), copied.parent / "1obj-000001.parquet")
    shutil.copy(copied.parent / "1obj-000000.tar", copied.parent / "1obj-000001.tar")
    write_json(copied, content)
    recorded_anew(copied)
    (problem,) = verify_set(copied)
    assert "pair 1obj 0 is in the set more than once" in problem


def test_a_pair_that_is_not_in_the_set_is_named(copied):
    content = read_json(copied)
    entry = content["shards"].pop(0)
    for suffix in (".tar", ".parquet"):
        (copied.parent / entry["shard"]).with_suffix(suffix).unlink()
    content["pairs"] -= entry["pairs"]
    write_json(copied, content)
    (problem,) = verify_set(copied)
    assert "pair 1obj 0 is not in the set" in problem


def test_another_file_is_refused(tmp_path):
    write_json(tmp_path / "manifest.json", {"names": []})
    with pytest.raises(InputError, match=r"lacks kind, pairs, settings, shards; expected the manifest of a pair set"):
        list(verify_set(tmp_path))


BROKEN = {
    "no shards": lambda content: {**content, "shards": None},
    "an empty list of shards": lambda content: {**content, "shards": []},
    "shards that are numbers": lambda content: {**content, "shards": [True]},
    "a shard elsewhere": lambda content: {
        **content,
        "shards": [{**content["shards"][0], "shard": "../1obj-000000.tar"}],
    },
    "a shard without a hash": lambda content: {
        **content,
        "shards": [{"shard": "1obj-000000.tar", "pairs": 6, "bytes": 1}],
    },
    "a count that is text": lambda content: {**content, "pairs": "12"},
    "no settings": lambda content: {**content, "settings": "none"},
    "a size that is text": lambda content: {**content, "settings": {**content["settings"], "size": "160"}},
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_manifest_with_other_values_is_refused_by_all_that_read_it(copied, kind):
    write_json(copied, BROKEN[kind](read_json(copied)))
    with pytest.raises(InputError, match=r"manifest\.json: not the manifest of a pair set \((shards|pairs|settings)"):
        list(verify_set(copied))
    with pytest.raises(InputError, match=r"manifest\.json: not the manifest of a pair set"):
        PairSet(copied)


@pytest.mark.parametrize("change", ["names", "types", "no UTF-8"])
def test_a_table_with_other_columns_is_refused(copied, change):
    path = copied.parent / "1obj-000001.parquet"
    table = pq.read_table(path)
    if change == "names":
        changed = table.drop_columns(["offset_labels.npz"])
    elif change == "types":
        changed = table.set_column(table.column_names.index("index"), "index", table["index"].cast("string"))
    else:
        bad = pa.array([b"\xff"] * len(table), pa.binary()).view(pa.string())
        changed = table.set_column(table.column_names.index("key"), "key", bad)
    pq.write_table(changed.replace_schema_metadata(table.schema.metadata), path)
    problems = list(verify_set(copied))
    assert (
        len(problems) == 1 and "1obj-000001.parquet" in problems[0] and "delete the shard and remake it" in problems[0]
    )
    with pytest.raises(InputError, match=r"1obj-000001\.parquet"):
        PairSet(copied)


def test_a_shard_that_is_no_tar_is_named(copied):
    (copied.parent / "1obj-000000.tar").write_bytes(b"x" * 2000)
    recorded_anew(copied)
    (problem,) = verify_set(copied)
    assert "1obj-000000.tar: does not open as a tar" in problem


@given(place=st.floats(0, 1), value=st.binary(min_size=1, max_size=4), name=st.integers(0, 4))
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_the_bytes_of_a_set_are_they_are_read_or_an_error(copied, place, value, name):
    path = sorted(copied.parent.iterdir())[name]
    whole = path.read_bytes()
    at = int(place * len(whole))
    path.write_bytes(whole[:at] + value + whole[at + len(value) :])
    try:
        with bounded_memory(500), contextlib.suppress(InputError):
            assert all(isinstance(problem, str) for problem in verify_set(copied))
        with bounded_memory(500), contextlib.suppress(InputError):
            PairSet(copied).sample(0)
    finally:
        path.write_bytes(whole)


def good_labels(cells: int) -> Labels:
    mask = np.zeros((cells, cells), np.float32)
    mask[1:4, 1:4] = 1
    corr = np.full((2, cells, cells), 0.5, np.float32)
    return Labels(mask, mask.copy(), corr, corr.copy())


@given(st.sampled_from(["mask_a", "mask_b", "corr_a", "corr_b"]), st.sampled_from([np.nan, np.inf, -0.5, 1.5]))
def test_values_out_of_range_are_named(field, value):
    labels = good_labels(8)
    assert list(label_problems(labels, 8, 9)) == []
    getattr(labels, field)[..., 2, 2] = value
    assert any(problem.startswith(field) for problem in label_problems(labels, 8, 8))


def test_shapes_types_and_sums():
    labels = good_labels(8)
    assert "float32 (8, 8), expected float32 (10, 10)" in next(label_problems(labels, 10, 9))
    assert "mask_a sums to 9.00 cells, fewer than 10" in next(label_problems(labels, 8, 10))
    wide = dataclasses.replace(labels, corr_b=labels.corr_b.astype(np.float64))
    assert "corr_b is float64" in next(label_problems(wide, 8, 9))
    assert json.dumps(list(label_problems(labels, 8, 9))) == "[]"
