"""Shards of pairs: the same bytes however they are made, readable by others, and damage that is named."""

from __future__ import annotations

import dataclasses
import errno
import io
import itertools
import os
import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset
from datasets import load_dataset
from hypothesis import given
from hypothesis import strategies as st

from segswap.errors import InputError
from segswap.files import read_json, sha256, write_json
from segswap.images import decode_image, encode_jpeg
from segswap.pairs.pair_set import PairSet, unpack_labels
from segswap.pairs.recipe import KINDS, PairRecipe
from segswap.pairs.render import make_pair, pair_geometry, render
from segswap.pairs.shards import shard_indices, shard_name, write_set_manifest, write_shard
from segswap.pairs.style import Reinhard

LABELS = ("mask_a", "mask_b", "corr_a", "corr_b")
MEMBERS = ("a.jpg", "b.jpg", "as.jpg", "bs.jpg", "labels.npz", "json")


def make_shard(world, kind: str, indices: range, tar: Path, styled: bool = True, **changes) -> Path:
    """Write a shard of the tiny world's pairs; return its path."""
    arguments = {"jpeg_quality": 95, "max_unreadable_share": 0.05, "photos": world.photos(), **changes}
    stylist, styles = (Reinhard(), world.styles()) if styled else (None, None)
    write_shard(
        arguments.pop("photos"),
        world.pair_settings,
        stylist,
        styles,
        (world.seed, kind),
        indices,
        tar,
        tar.with_suffix(".parquet"),
        **arguments,
    )
    return tar


def contents(*tars: Path) -> dict[str, bytes]:
    """Return the bytes of all members by name."""
    found = {}
    for path in tars:
        with tarfile.open(path) as tar:
            found.update({info.name: tar.extractfile(info).read() for info in tar})
    return found


def shards_of(world, kind: str) -> list[Path]:
    manifest = world.pairs[kind]
    return [manifest.parent / entry["shard"] for entry in read_json(manifest)["shards"]]


# The same bytes


@pytest.mark.parametrize("kind", KINDS)
def test_shard_made_again_has_the_same_bytes(tiny_world, tmp_path, kind):
    for number, shard in enumerate(shards_of(tiny_world, kind)):
        again = make_shard(tiny_world, kind, shard_indices(24, 12, number), tmp_path / shard.name)
        assert again.read_bytes() == shard.read_bytes()
        tables = [pq.read_table(path.with_suffix(".parquet")) for path in (again, shard)]
        assert tables[0].equals(tables[1], check_metadata=False)


@pytest.mark.parametrize("kind", KINDS)
def test_pairs_have_the_same_bytes_alone_in_any_order_and_in_shards_of_any_size(tiny_world, tmp_path, kind):
    expected = contents(*shards_of(tiny_world, kind))
    photos = tiny_world.photos()
    for indices in (range(20, 24), range(7, 8), range(9, 15)):
        tar = make_shard(tiny_world, kind, indices, tmp_path / f"{indices.start}.tar", photos=photos)
        found = contents(tar)
        assert len(found) == len(MEMBERS) * len(indices)
        for name, data in found.items():
            assert data == expected[name], name


def test_members_have_a_fixed_order_time_and_owner(tiny_world):
    with tarfile.open(shards_of(tiny_world, "1obj")[0]) as tar:
        infos = tar.getmembers()
    expected = [f"1obj-{index:08d}.{member}" for index in range(12) for member in MEMBERS]
    assert [info.name for info in infos] == expected
    fixed = {(info.mtime, info.uid, info.gid, info.uname, info.gname, info.mode, info.isreg()) for info in infos}
    assert fixed == {(0, 0, 0, "", "", 0o444, True)}


@given(n_pairs=st.integers(1, 500), per_shard=st.integers(1, 60))
def test_shards_share_out_the_pairs(n_pairs, per_shard):
    n_shards = -(-n_pairs // per_shard)
    shares = [shard_indices(n_pairs, per_shard, shard) for shard in range(n_shards)]
    assert list(itertools.chain(*shares)) == list(range(n_pairs))
    assert {len(share) for share in shares[:-1]} <= {per_shard}


def test_shard_names_sort_and_know_their_kinds():
    assert shard_name("2obj", 3) == "2obj-000003.tar"
    with pytest.raises(ValueError, match="1obj, 2obj"):
        shard_name("3obj", 0)


# What is in a shard


@pytest.mark.parametrize("kind", KINDS)
def test_plain_webdataset_reads_and_decodes_every_member(tiny_world, kind):
    urls = [str(path) for path in shards_of(tiny_world, kind)]
    pairs = tiny_world.pair_set(kind)
    samples = list(webdataset.WebDataset(urls, shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in samples] == [pairs.key(n) for n in range(len(pairs))]
    for position, sample in enumerate(samples):
        assert {name for name in sample if not name.startswith("__")} == set(MEMBERS)
        ours = pairs.sample(position)
        assert (ours.key, ours.record) == (sample["__key__"], sample["json"])
        for name, picture in ours.pictures.items():
            assert picture.shape == (128, 128, 3)
            assert np.abs(picture.astype(int) - sample[name]).max() <= 1
        for name in LABELS:
            np.testing.assert_array_equal(getattr(ours.labels, name), sample["labels.npz"][name])


@pytest.mark.parametrize("kind", KINDS)
def test_hugging_face_datasets_reads_every_sample(tiny_world, tmp_path, kind):
    """It takes the types from the first few samples, and every other must have the same."""
    files = [str(path) for path in shards_of(tiny_world, kind)]
    found = load_dataset("webdataset", data_files={"train": files}, split="train", cache_dir=str(tmp_path))
    pairs = tiny_world.pair_set(kind)
    assert len(found) == len(pairs)
    for position, row in enumerate(found):
        assert (row["__key__"], row["json"]) == (pairs.key(position), pairs.record(position))
        assert np.asarray(row["a.jpg"]).shape == (128, 128, 3)
        np.testing.assert_array_equal(np.float32(row["labels.npz"]["corr_a"]), pairs.labels(position).corr_a)


@pytest.mark.parametrize("kind", KINDS)
def test_records_are_flat_and_every_key_has_one_type(tiny_world, kind):
    pairs = tiny_world.pair_set(kind)

    def kind_of(value: object) -> object:
        if isinstance(value, list):
            # An empty list would have no type.
            (inner,) = {type(entry) for entry in value}
            return [inner]
        return type(value)

    types = [{name: kind_of(value) for name, value in pairs.record(n).items()} for n in range(len(pairs))]
    assert all(each == types[0] for each in types)
    assert set(map(str, types[0].values())) <= {str(t) for t in (int, float, str, bool, [int], [float])}


@pytest.mark.parametrize("kind", KINDS)
def test_offsets_in_the_manifest_point_at_the_bytes_of_members(tiny_world, kind):
    for shard in shards_of(tiny_world, kind):
        data, members = shard.read_bytes(), contents(shard)
        for row in pq.read_table(shard.with_suffix(".parquet")).to_pylist():
            for name in MEMBERS:
                start, size = row[f"offset_{name}"], row[f"size_{name}"]
                assert data[start : start + size] == members[f"{row['key']}.{name}"]


@pytest.mark.parametrize("kind", KINDS)
def test_record_is_enough_to_make_the_pair_again(tiny_world, kind):
    pairs, photos = tiny_world.pair_set(kind), tiny_world.photos()
    for position in (0, 7, 23):
        sample = pairs.sample(position)
        recipe = PairRecipe.from_flat(sample.record)
        geometry = pair_geometry(photos.table, tiny_world.pair_settings, recipe)
        pair = render(photos, tiny_world.pair_settings, recipe, geometry)
        assert np.abs(pair.b.astype(int) - sample.pictures["b.jpg"]).mean() < 4
        for name in LABELS:
            np.testing.assert_array_equal(getattr(geometry.labels, name), getattr(sample.labels, name))
        assert sample.record["cells_a"] == pytest.approx(geometry.labels.mask_a.sum())
        assert recipe.key == sample.key


@pytest.mark.parametrize("kind", KINDS)
def test_styled_members_are_source_and_blended_target_in_the_recorded_styles(tiny_world, kind):
    pairs, photos, styles = tiny_world.pair_set(kind), tiny_world.photos(), tiny_world.styles()
    for position in range(0, 24, 5):
        sample = pairs.sample(position)
        pair = make_pair(photos, tiny_world.pair_settings, tiny_world.seed, kind, position)
        for side, picture in (("a", pair.a), ("b", pair.b)):
            style = styles.of(sample.record[f"style_{side}"])
            (restyled,) = Reinhard().stylise([picture], [style], [sample.record[f"strength_{side}"]])
            assert pairs.member(position, f"{side}s.jpg") == encode_jpeg(restyled, 95)


def test_manifest_rows_hold_the_records(tiny_world):
    pairs = tiny_world.pair_set("2obj")
    for position, row in enumerate(pairs.table.to_pylist()):
        record = pairs.record(position)
        assert {name: row[name] for name in record} == record
        assert pairs.photos(position) == (record["source_image_id"], record["target_image_id"])


def test_set_without_style_holds_the_plain_pictures_alone(tiny_world, tmp_path):
    tar = make_shard(tiny_world, "1obj", range(3), tmp_path / "1obj-000000.tar", styled=False)
    write_set_manifest([tar], tmp_path / "manifest.json", "1obj", {})
    pairs = PairSet(tmp_path / "manifest.json")
    assert pairs.pictures == ("a.jpg", "b.jpg")
    styled = tiny_world.pair_set("1obj")
    assert [pairs.member(n, "b.jpg") for n in range(3)] == [styled.member(n, "b.jpg") for n in range(3)]


def test_jpeg_quality_is_used(tiny_world, tmp_path):
    low = contents(make_shard(tiny_world, "1obj", range(1), tmp_path / "low.tar", jpeg_quality=30))
    high = contents(shards_of(tiny_world, "1obj")[0])
    assert len(low["1obj-00000000.a.jpg"]) < 0.6 * len(high["1obj-00000000.a.jpg"])


# The set


@pytest.mark.parametrize("kind", KINDS)
def test_set_manifest_counts_and_hashes_its_shards(tiny_world, kind):
    manifest = read_json(tiny_world.pairs[kind])
    shards = shards_of(tiny_world, kind)
    assert [entry["shard"] for entry in manifest["shards"]] == [shard_name(kind, 0), shard_name(kind, 1)]
    for entry, shard in zip(manifest["shards"], shards, strict=True):
        assert entry == {
            "shard": shard.name,
            "pairs": 12,
            "bytes": shard.stat().st_size,
            "sha256": sha256(shard),
        }
    assert (manifest["kind"], manifest["pairs"]) == (kind, 24)
    assert manifest["bytes"] == sum(shard.stat().st_size for shard in shards)
    assert manifest["settings"]["size"] == tiny_world.pair_settings.size
    rejected = tiny_world.pair_set(kind).table.column("rejected").to_pylist()
    assert sum(manifest["rejected_draws"].values()) == sum(len(text.split("; ")) for text in rejected if text)


def test_unreadable_photo_is_named_in_the_manifest(tiny_world):
    """The drawn world holds one photo that is cut short."""
    named = read_json(tiny_world.pairs["2obj"])["unreadable_photos"]
    assert len(named) == 1
    assert "000000000021.jpg" in named[0]


def test_positions_can_be_read_in_any_order_and_from_another_process(tiny_world):
    pairs = tiny_world.pair_set("1obj")
    forwards = [pairs.member(n, "a.jpg") for n in range(len(pairs))]
    sent = pickle.loads(pickle.dumps(pairs))
    order = np.random.default_rng(0).permutation(len(pairs))
    assert [sent.member(int(n), "a.jpg") for n in order] == [forwards[n] for n in order]
    np.testing.assert_array_equal(sent.picture(3, "a.jpg"), decode_image(forwards[3]))


# Damage


@pytest.fixture
def copy(tiny_world, tmp_path) -> Path:
    """A copy of the one-object set that may be damaged; its manifest."""
    shutil.copytree(tiny_world.pairs["1obj"].parent, tmp_path / "set")
    return tmp_path / "set" / "manifest.json"


FIRST, SECOND = "1obj-000000.tar", "1obj-000001.tar"


def swap(first: Path, second: Path) -> None:
    data = first.read_bytes(), second.read_bytes()
    first.write_bytes(data[1])
    second.write_bytes(data[0])


def test_missing_shard_is_an_error_that_names_it(copy):
    (copy.parent / SECOND).unlink()
    with pytest.raises(InputError, match=rf"{SECOND}.*missing"):
        PairSet(copy)


@pytest.mark.parametrize("change", [-512, 512])
def test_shard_of_another_size_is_an_error_that_names_it(copy, change):
    path = copy.parent / SECOND
    data = path.read_bytes()
    path.write_bytes(data[:change] if change < 0 else data + bytes(change))
    with pytest.raises(InputError, match=rf"{SECOND}.*{len(data) + change} bytes.*{len(data)}"):
        PairSet(copy)


def test_swapped_shards_are_an_error_that_names_the_first(copy):
    swap(copy.parent / FIRST, copy.parent / SECOND)
    with pytest.raises(InputError, match=FIRST):
        PairSet(copy).sample(0)


def test_another_shard_of_the_same_size_is_noticed_when_it_is_read(copy):
    content = read_json(copy)
    swap(copy.parent / FIRST, copy.parent / SECOND)
    for entry in content["shards"]:
        entry["bytes"] = (copy.parent / entry["shard"]).stat().st_size
    write_json(copy, content)
    pairs = PairSet(copy)
    for read in (pairs.labels, pairs.record, lambda position: pairs.picture(position, "b.jpg")):
        with pytest.raises(InputError, match=rf"^[^(]*{FIRST}: member \S+ is damaged \(there is '.*' in its place\)"):
            read(0)


def test_swapped_manifests_of_shards_are_an_error_that_names_the_first(copy):
    swap(*(copy.parent / name.replace(".tar", ".parquet") for name in (FIRST, SECOND)))
    with pytest.raises(InputError, match=rf"1obj-000000\.parquet.*describes {SECOND}"):
        PairSet(copy)


@pytest.mark.parametrize("content", [None, b"", b"not parquet"])
def test_unreadable_manifest_of_a_shard_is_an_error_that_names_it(copy, content):
    path = copy.parent / "1obj-000001.parquet"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=r"1obj-000001\.parquet"):
        PairSet(copy)
    with pytest.raises(InputError, match=r"1obj-000001\.parquet"):
        write_set_manifest([copy.parent / name for name in (FIRST, SECOND)], copy, "1obj", {})


def test_another_number_of_pairs_than_recorded_is_an_error(copy):
    manifest = read_json(copy)
    manifest["shards"][0]["pairs"] = 11
    write_json(copy, manifest)
    with pytest.raises(InputError, match=rf"{FIRST}.*lists 12 pairs.*says 11"):
        PairSet(copy)


def test_missing_set_manifest_is_an_error_that_names_it(tmp_path):
    with pytest.raises(InputError, match=r"manifest\.json"):
        PairSet(tmp_path / "manifest.json")


def test_manifest_without_its_shard_is_an_error_when_the_set_is_put_together(copy):
    (copy.parent / SECOND).unlink()
    with pytest.raises(InputError, match=rf"{SECOND}.*missing"):
        write_set_manifest([copy.parent / name for name in (FIRST, SECOND)], copy, "1obj", {})


@pytest.mark.parametrize("member", MEMBERS)
def test_damaged_member_is_an_error_that_names_shard_and_key(copy, member):
    position = 14
    row = PairSet(copy).table.slice(position, 1).to_pylist()[0]
    with open(copy.parent / SECOND, "r+b") as file:
        file.seek(row[f"offset_{member}"])
        file.write(bytes(row[f"size_{member}"] // 2))
    pairs = PairSet(copy)
    with pytest.raises(InputError, match=rf"{SECOND}: member 1obj-00000014\.{member} is damaged"):
        pairs.sample(position)
    pairs.sample(position - 1)


@pytest.mark.parametrize("member", MEMBERS)
def test_one_flipped_bit_of_any_member_is_noticed(copy, member):
    """Also of a picture, which would decode: a little other."""
    row = PairSet(copy).table.slice(14, 1).to_pylist()[0]
    place = row[f"offset_{member}"] + row[f"size_{member}"] * 2 // 3
    with open(copy.parent / SECOND, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 0x10]))
    with pytest.raises(InputError, match=rf"1obj-00000014\.{member} is damaged .*delete the shard and run again"):
        PairSet(copy).member(14, member)


def test_a_flipped_bit_of_a_shards_manifest_is_noticed(copy):
    path = (copy.parent / SECOND).with_suffix(".parquet")
    whole = path.read_bytes()
    column = pq.ParquetFile(path).metadata.row_group(0).column(pq.read_schema(path).names.index("offset_b.jpg"))
    place = column.data_page_offset + column.total_compressed_size // 2
    path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
    with pytest.raises(InputError, match=r"1obj-000001\.parquet: shard manifest not readable.*delete the shard"):
        PairSet(copy)


def test_a_shard_without_checksums_is_an_error_that_says_why(copy):
    path = (copy.parent / SECOND).with_suffix(".parquet")
    table = pq.read_table(path)
    pq.write_table(table.drop_columns([name for name in table.column_names if name.startswith("crc32_")]), path)
    with pytest.raises(InputError, match=rf"{SECOND}: made by an earlier version"):
        PairSet(copy)


def test_one_flipped_bit_of_the_labels_is_noticed(copy):
    row = PairSet(copy).table.slice(14, 1).to_pylist()[0]
    with open(copy.parent / SECOND, "r+b") as file:
        data = PairSet(copy).member(14, "labels.npz")
        # Within the compressed numbers of the second array.
        place = data.index(b"mask_b.npy") + 60
        file.seek(row["offset_labels.npz"] + place)
        file.write(bytes([data[place] ^ 0x10]))
    with pytest.raises(InputError, match=r"1obj-00000014\.labels\.npz is damaged"):
        PairSet(copy).labels(14)


def test_labels_are_read_without_executing_anything():
    buffer = io.BytesIO()
    np.savez(buffer, **{name: np.array([{"a": 1}], dtype=object) for name in LABELS})
    with pytest.raises(ValueError, match="allow_pickle"):
        unpack_labels(buffer.getvalue())


# Interruptions


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("failing", [1, 2])
def test_disk_that_is_full_leaves_no_shard_and_says_so(tiny_world, tmp_path, monkeypatch, failing):
    """The manifest is written out first, the tar last: a full disk may meet either."""
    calls = itertools.count(1)
    really = os.fsync

    def full(descriptor: int) -> None:
        if next(calls) == failing:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        really(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        make_shard(tiny_world, "1obj", range(2), tmp_path / FIRST)
    assert not (tmp_path / FIRST).exists()
    assert not any(name.endswith(".tmp") for name in names(tmp_path))
    make_shard(tiny_world, "1obj", range(2), tmp_path / FIRST)
    assert names(tmp_path) == ["1obj-000000.parquet", FIRST]


def test_too_many_unreadable_photos_stop_the_shard_and_name_the_first(tiny_world, tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    for number, path in enumerate(sorted(tiny_world.images.iterdir())):
        (images / path.name).write_bytes(b"broken" if number % 2 else path.read_bytes())
    photos = dataclasses.replace(tiny_world, images=images).photos()
    with pytest.raises(InputError, match=r"photos are unreadable.*max_bad_share.*first: .*\.jpg"):
        make_shard(tiny_world, "1obj", range(50), tmp_path / FIRST, photos=photos)
    assert names(tmp_path) == ["images"]
