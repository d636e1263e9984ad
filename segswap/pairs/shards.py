"""Shards: WebDataset tar files of pairs, a Parquet manifest beside each, one manifest per set.

Formats: docs/formats.md. A shard is a pure function of its settings and its range of indices: members in a
fixed order, with fixed times and owners, so equal inputs and library versions give equal bytes.

Reading goes by the byte offsets in the Parquet manifests: any pair of a set is one ``pread`` away. A plain
``webdataset`` pipeline reads the same files in order.
"""

from __future__ import annotations

import dataclasses
import io
import itertools
import json
import os
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, read_json_object, sha256, whole_file, write_json
from segswap.images import decode_image, encode_jpeg
from segswap.pairs.recipe import KINDS, PairSettings, rejected_reasons
from segswap.pairs.render import Labels, Pair, Photos, make_pair
from segswap.pairs.style import StyleChoice, StyleStatistics, Stylist, draw_styles
from segswap.progress import progress

PICTURES = ("a.jpg", "b.jpg", "as.jpg", "bs.jpg")
"""Picture members of a sample: source, target, and both restyled (absent from a set without style)."""

MANIFEST_NAME = "manifest.json"
"""The file that lists the shards of a set, in their folder."""

_STYLE_BATCH = 8

_PLACE = ("offset", "size", "crc32")
"""What the Parquet manifest says of each member's bytes."""


@dataclasses.dataclass(frozen=True)
class StyledPair:
    """A pair with both pictures restyled (None in a set without style)."""

    pair: Pair
    choices: tuple[StyleChoice, StyleChoice] | None = None
    a: np.ndarray | None = None
    b: np.ndarray | None = None

    @property
    def pictures(self) -> dict[str, np.ndarray]:
        """The pictures by member name; those that are restyled are absent from a set without style."""
        found = zip(PICTURES, (self.pair.a, self.pair.b, self.a, self.b), strict=True)
        return {name: picture for name, picture in found if picture is not None}


def stylised_pairs(
    pairs: Iterator[Pair], stylist: Stylist | None, styles: StyleStatistics | None
) -> Iterator[StyledPair]:
    """Restyle a stream of pairs in batches, each picture with the style its address draws."""
    if stylist is None or styles is None:
        yield from (StyledPair(pair) for pair in pairs)
        return
    while batch := list(itertools.islice(pairs, _STYLE_BATCH)):
        choices = [draw_styles(styles, p.recipe.seed, p.recipe.kind, p.recipe.index) for p in batch]
        flat = [choice for both in choices for choice in both]
        restyled = stylist.stylise(
            [image for pair in batch for image in (pair.a, pair.b)],
            [styles.of(choice.name) for choice in flat],
            [choice.strength for choice in flat],
        )
        for n, pair in enumerate(batch):
            yield StyledPair(pair, choices[n], restyled[2 * n], restyled[2 * n + 1])


def _pack_labels(labels: Labels) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{f.name: getattr(labels, f.name) for f in dataclasses.fields(labels)})
    return buffer.getvalue()


def unpack_labels(data: bytes) -> Labels:
    """Read the ``labels.npz`` member of a sample."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return Labels(**{f.name: file[f.name] for f in dataclasses.fields(Labels)})


def provenance(styled: StyledPair) -> dict[str, Any]:
    """Return the flat record of a pair: its recipe, styles and label sums; the sample's ``json`` member."""
    record = styled.pair.recipe.to_flat()
    for side, choice in zip("ab", styled.choices or (StyleChoice("", 0.0),) * 2, strict=True):
        record[f"style_{side}"], record[f"strength_{side}"] = choice.name, choice.strength
    labels = styled.pair.geometry.labels
    record["cells_a"], record["cells_b"] = float(labels.mask_a.sum()), float(labels.mask_b.sum())
    return record


def sample_members(styled: StyledPair, quality: int) -> dict[str, bytes]:
    """Return the members of a pair's sample, in their order: JPEG pictures of a quality, labels and record."""
    members = {name: encode_jpeg(picture, quality) for name, picture in styled.pictures.items()}
    members["labels.npz"] = _pack_labels(styled.pair.geometry.labels)
    members["json"] = json.dumps(provenance(styled), sort_keys=True).encode()
    return members


def _add_member(tar: tarfile.TarFile, name: str, data: bytes) -> int:
    """Add a member with fixed times and owner; return the offset of its data in the file."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o444
    start = tar.offset
    tar.addfile(info, io.BytesIO(data))
    return start + tarfile.BLOCKSIZE


_MANIFEST_TYPES = {
    "version": pa.int32(),
    "seed": pa.int64(),
    "index": pa.int64(),
    "source_image_id": pa.int64(),
    "target_image_id": pa.int64(),
    "layout": pa.int32(),
    "annotation_id": pa.list_(pa.int64()),
}


def _manifest_table(rows: list[dict[str, Any]]) -> pa.Table:
    arrays = {name: pa.array([row[name] for row in rows], type=_MANIFEST_TYPES.get(name)) for name in rows[0]}
    return pa.table(arrays)


def write_shard(
    photos: Photos,
    settings: PairSettings,
    stylist: Stylist | None,
    styles: StyleStatistics | None,
    address: tuple[int, str],
    indices: range,
    tar_path: str | os.PathLike,
    manifest_path: str | os.PathLike,
    jpeg_quality: int,
    max_unreadable_share: float,
) -> None:
    """Render the pairs of a range of indices into one tar file and its Parquet manifest.

    The manifest has one row per pair: the recipe, style, label sums, and of each member its data's offset,
    size and CRC-32 in the tar. Its metadata names the unreadable photos that were drawn
    and says what restyled the pictures.

    Args:
        address: (seed, kind); with an index, the address of a pair.
        max_unreadable_share: largest number of unreadable photos, as a share of the photos in the table.

    Raises:
        InputError: when too many photos are unreadable or no usable pair can be drawn.
    """
    seed, kind = address
    limit = max_unreadable_share * len(photos.table.image_ids)

    def check_photos() -> None:
        if len(photos.unreadable) > limit:
            raise InputError(
                f"{photos.folder}: {len(photos.unreadable)} photos are unreadable, more than "
                f"objects.max_bad_share allows ({limit:.1f}); first: {next(iter(photos.unreadable.values()))}"
            )

    def checked_pairs() -> Iterator[Pair]:
        for index in progress(indices, f"{kind} pairs"):
            try:
                pair = make_pair(photos, settings, seed, kind, index)
            finally:
                # Also when no draw was usable: unreadable photos are then the reason to name.
                check_photos()
            yield pair

    rows = []
    # The small manifest appears last: it is what the workflow waits for.
    with whole_file(manifest_path) as temporary_manifest, whole_file(tar_path) as temporary:
        with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
            for styled in stylised_pairs(checked_pairs(), stylist, styles):
                key = styled.pair.recipe.key
                row = {"key": key, **provenance(styled)}
                for name, data in sample_members(styled, jpeg_quality).items():
                    row[f"offset_{name}"] = _add_member(tar, f"{key}.{name}", data)
                    row[f"size_{name}"] = len(data)
                    row[f"crc32_{name}"] = zlib.crc32(data)
                rows.append(row)
        table = _manifest_table(rows).replace_schema_metadata(
            {
                "shard": Path(tar_path).name,
                "style": stylist.description if stylist else "none",
                "unreadable": json.dumps(sorted(photos.unreadable.values())),
            }
        )
        with open(temporary_manifest, "wb") as file:
            pq.write_table(table, file, compression="zstd", write_page_checksum=True)
            # Before the tar appears: a full disk is to leave neither.
            file.flush()
            os.fsync(file.fileno())


def write_set_manifest(shards: list[Path], output: str | os.PathLike, kind: str, settings: dict[str, Any]) -> None:
    """Write ``manifest.json`` of a pair set: its shards with counts, sizes and SHA-256, totals and settings.

    Args:
        shards: the tar files, in order; the Parquet manifests lie beside them.
        settings: the configuration that the set was made with, kept for the reader.

    Raises:
        InputError: when a shard or its manifest is missing or unreadable.
    """
    entries, rejected, unreadable = [], Counter(), set()
    for tar in progress(shards, "hashes of shards"):
        table = read_shard_manifest(tar.with_suffix(".parquet"))
        rejected.update(reason for row in table.select(["rejected"]).to_pylist() for reason in rejected_reasons(row))
        unreadable.update(json.loads(table.schema.metadata[b"unreadable"]))
        if not tar.is_file():
            raise InputError(f"{tar}: shard is missing though its manifest is there; run the workflow again")
        entries.append({"shard": tar.name, "pairs": len(table), "bytes": tar.stat().st_size, "sha256": sha256(tar)})
    write_json(
        output,
        {
            "kind": kind,
            "pairs": sum(entry["pairs"] for entry in entries),
            "bytes": sum(entry["bytes"] for entry in entries),
            "rejected_draws": dict(sorted(rejected.items())),
            "unreadable_photos": sorted(unreadable),
            "shards": entries,
            "settings": settings,
        },
    )


def read_shard_manifest(path: Path) -> pa.Table:
    """Read the Parquet manifest of a shard.

    Raises:
        InputError: when it does not open or describes another shard than the one beside it.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{path}: shard manifest not readable ({error}); delete the shard and remake it") from None
    described = (table.schema.metadata or {}).get(b"shard", b"no shard").decode()
    if described != path.with_suffix(".tar").name:
        raise InputError(f"{path}: describes {described}, not the shard beside it; delete the shard and remake it")
    return table


@dataclasses.dataclass(frozen=True)
class Sample:
    """One pair as read from a shard: pictures by member name (RGB uint8), labels and the flat record."""

    key: str
    pictures: dict[str, np.ndarray]
    labels: Labels
    record: dict[str, Any]


class PairSet:
    """Random access to a pair set by position, 0 to ``len - 1``, in the order of its shards.

    Opening checks that every shard is there and has its recorded size; a member whose bytes are not the recorded
    ones is an error that names shard and key. Instances can be sent to worker processes; files open on first use.
    """

    def __init__(self, manifest: str | os.PathLike) -> None:
        """Open a set by its ``manifest.json``.

        Raises:
            InputError: naming the first shard that is missing, of another size, or has a foreign manifest.
        """
        manifest = Path(manifest)
        content = read_json_object(manifest)
        self.folder = manifest.parent
        self.kind: str = content["kind"]
        self.settings: dict[str, Any] = content["settings"]
        tables = []
        for entry in content["shards"]:
            tar = self.folder / entry["shard"]
            if not tar.is_file():
                raise InputError(f"{tar}: shard listed in {manifest} is missing; run the workflow again to remake it")
            if tar.stat().st_size != entry["bytes"]:
                raise InputError(
                    f"{tar}: {tar.stat().st_size} bytes, {manifest} says {entry['bytes']}; the shard is damaged: "
                    "delete it and run the workflow again"
                )
            table = read_shard_manifest(tar.with_suffix(".parquet"))
            if len(table) != entry["pairs"]:
                raise InputError(f"{tar}: its manifest lists {len(table)} pairs, {manifest} says {entry['pairs']}")
            if "crc32_json" not in table.column_names:
                raise InputError(f"{tar}: made by an earlier version, without checksums; run the workflow again")
            tables.append(table)
        self._names = [entry["shard"] for entry in content["shards"]]
        self._shard = np.repeat(np.arange(len(tables)), [len(table) for table in tables])
        self.table = pa.concat_tables(tables)
        self.pictures = tuple(name for name in PICTURES if f"offset_{name}" in self.table.column_names)
        self._spans = {
            name: np.stack([self.table.column(f"{what}_{name}").to_numpy() for what in _PLACE], axis=1)
            for name in (*self.pictures, "labels.npz", "json")
        }
        self._photos = np.stack(
            [self.table.column(f"{which}_image_id").to_numpy() for which in ("source", "target")], axis=1
        )
        self._files: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._shard)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": {}}

    def key(self, position: int) -> str:
        """Return the sample key of a position."""
        return self.table.column("key")[position].as_py()

    def photos(self, position: int) -> tuple[int, int]:
        """Return the ids of the source and target photos of the pair at a position."""
        return int(self._photos[position, 0]), int(self._photos[position, 1])

    def member(self, position: int, name: str) -> bytes:
        """Return the bytes of a member, for example ``b.jpg``, of the pair at a position.

        Raises:
            InputError: when another member, or none, lies where the shard's manifest says, or its bytes have changed.
        """
        shard = int(self._shard[position])
        if shard not in self._files:
            self._files[shard] = os.open(self.folder / self._names[shard], os.O_RDONLY)
        offset, size, checksum = (int(value) for value in self._spans[name][position])
        # The header before it names the member: a shard of the same size but with other pairs is noticed.
        data = os.pread(self._files[shard], tarfile.BLOCKSIZE + size, offset - tarfile.BLOCKSIZE)
        found = data[:100].partition(b"\0")[0].decode(errors="replace")
        if found != f"{self.key(position)}.{name}":
            raise InputError(self._damaged(position, name, f"there is {found!r} in its place"))
        data = data[tarfile.BLOCKSIZE :]
        if zlib.crc32(data) != checksum:
            raise InputError(self._damaged(position, name, "its bytes have changed since it was written"))
        return data

    def picture(self, position: int, name: str) -> np.ndarray:
        """Decode a picture member, RGB uint8 (S, S, 3).

        Raises:
            InputError: naming shard and key when the member does not decode.
        """
        data = self.member(position, name)
        try:
            return decode_image(data)
        except InputError as error:
            raise InputError(self._damaged(position, name, error)) from None

    def labels(self, position: int) -> Labels:
        """Decode the labels.

        Raises:
            InputError: naming shard and key when they do not decode.
        """
        data = self.member(position, "labels.npz")
        try:
            return unpack_labels(data)
        except NOT_ARRAYS as error:
            raise InputError(self._damaged(position, "labels.npz", error)) from None

    def record(self, position: int) -> dict[str, Any]:
        """Decode the flat record: recipe, styles and label sums.

        Raises:
            InputError: naming shard and key when it does not decode.
        """
        data = self.member(position, "json")
        try:
            return json.loads(data)
        except ValueError as error:
            raise InputError(self._damaged(position, "json", error)) from None

    def sample(self, position: int) -> Sample:
        """Decode everything of the pair at a position."""
        return Sample(
            self.key(position),
            {name: self.picture(position, name) for name in self.pictures},
            self.labels(position),
            self.record(position),
        )

    def _damaged(self, position: int, name: str, error: object) -> str:
        shard = self.folder / self._names[int(self._shard[position])]
        return f"{shard}: member {self.key(position)}.{name} is damaged ({error}); delete the shard and run again"


def picture_name(pairs: PairSet, position: int, member: str) -> str:
    """Return the name of a pair's picture, for example ``1obj-00000042.bs.jpg``: as in the tar."""
    return f"{pairs.key(position)}.{member}"


def shard_indices(n_pairs: int, pairs_per_shard: int, shard: int) -> range:
    """Return the indices of the pairs in a shard; the last one may be shorter."""
    return range(shard * pairs_per_shard, min((shard + 1) * pairs_per_shard, n_pairs))


def shard_name(kind: str, shard: int) -> str:
    """Return the file name of a shard, for example ``1obj-000003.tar``."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    return f"{kind}-{shard:06d}.tar"
