"""Shards: WebDataset tar files of pairs, a Parquet manifest beside each, one manifest per set.

Formats: docs/formats.md. A shard is a pure function of its settings and its range of indices: members in a
fixed order, with fixed times and owners, so equal inputs and library versions give equal bytes.
Reading them again: ``segswap.pairs.pair_set``.
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
from segswap.files import sha256, whole_file, write_json
from segswap.images import encode_jpeg
from segswap.pairs.pair_set import PICTURES, read_shard_manifest
from segswap.pairs.recipe import KINDS, PairSettings, rejected_reasons
from segswap.pairs.render import Labels, Pair, Photos, make_pair
from segswap.pairs.style import StyleChoice, StyleStatistics, Stylist, draw_styles
from segswap.progress import progress

_STYLE_BATCH = 8


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
                f"{', '.join(map(str, photos.folders))}: {len(photos.unreadable)} photos are unreadable, more than "
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


def shard_indices(n_pairs: int, pairs_per_shard: int, shard: int) -> range:
    """Return the indices of the pairs in a shard; the last one may be shorter."""
    return range(shard * pairs_per_shard, min((shard + 1) * pairs_per_shard, n_pairs))


def shard_name(kind: str, shard: int) -> str:
    """Return the file name of a shard, for example ``1obj-000003.tar``."""
    if kind not in KINDS:
        raise ValueError(f"kind {kind!r}: expected one of {', '.join(KINDS)}")
    return f"{kind}-{shard:06d}.tar"
