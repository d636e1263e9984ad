"""A pair set as it lies on the disk: shards listed in a manifest, any pair of them one ``pread`` away.

Reading goes by the byte offsets in the Parquet manifests of ``segswap.pairs.shards``. Formats: docs/formats.md. A plain
``webdataset`` pipeline reads the same shards in order.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import tarfile
import zlib
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from segswap.errors import InputError
from segswap.files import NOT_ARRAYS, read_json_object
from segswap.images import decode_image
from segswap.pairs.render import Labels

PICTURES = ("a.jpg", "b.jpg", "as.jpg", "bs.jpg")
"""Picture members of a sample: source, target, and both restyled (absent from a set without style)."""

MANIFEST_NAME = "manifest.json"
"""The file that lists the shards of a set, in their folder."""

_PLACE = ("offset", "size", "crc32")
"""What the Parquet manifest says of each member's bytes."""

_COUNT = {"type": "integer", "minimum": 0}
_MANIFEST = jsonschema.Draft202012Validator(
    {
        "type": "object",
        "properties": {
            "kind": {"type": "string"},
            "pairs": _COUNT,
            "shards": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["shard", "pairs", "bytes", "sha256"],
                    "properties": {
                        "shard": {"type": "string", "pattern": r"^[A-Za-z0-9_-]+\.tar$"},
                        "pairs": _COUNT,
                        "bytes": _COUNT,
                        "sha256": {"type": "string"},
                    },
                },
            },
            "settings": {
                "type": "object",
                "properties": {"size": {"type": "integer", "minimum": 16}, "min_cells": {"type": "number"}},
            },
        },
    }
)


def read_set_manifest(path: str | os.PathLike) -> dict[str, Any]:
    """Read the ``manifest.json`` of a pair set; what the project reads of it is there, and of the right kind.

    Raises:
        InputError: when it is missing, damaged, or not the manifest of a pair set; the message names the key.
    """
    content = read_json_object(path)
    if missing := {"kind", "pairs", "shards", "settings"} - set(content):
        raise InputError(f"{path}: lacks {', '.join(sorted(missing))}; expected the manifest of a pair set")
    if error := jsonschema.exceptions.best_match(_MANIFEST.iter_errors(content)):
        where = ".".join(map(str, error.absolute_path))
        raise InputError(
            f"{path}: not the manifest of a pair set ({where}: {error.message[:200]}); restore the file, or remake the "
            "set"
        )
    return content


def unpack_labels(data: bytes) -> Labels:
    """Read the ``labels.npz`` member of a sample."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        return Labels(**{f.name: file[f.name] for f in dataclasses.fields(Labels)})


def read_shard_manifest(path: Path) -> pa.Table:
    """Read the Parquet manifest of a shard.

    Raises:
        InputError: when it does not open or describes another shard than the one beside it.
    """
    try:
        table = pq.read_table(path, page_checksum_verification=True)
        table.validate(full=True)
    except (OSError, MemoryError, pa.ArrowException) as error:
        raise InputError(f"{path}: shard manifest not readable ({error}); delete the shard and remake it") from None
    described = (table.schema.metadata or {}).get(b"shard", b"no shard").decode(errors="replace")
    if described != path.with_suffix(".tar").name:
        raise InputError(f"{path}: describes {described}, not the shard beside it; delete the shard and remake it")
    kinds = {"key": pa.types.is_string, "index": pa.types.is_integer}
    kinds |= {f"{what}_{name}": pa.types.is_integer for what in ("offset", "size") for name in ("labels.npz", "json")}
    wrong = [
        name
        for name, is_kind in kinds.items()
        if name not in table.column_names or not is_kind(table.schema.field(name).type)
    ]
    if wrong:
        raise InputError(
            f"{path}: the columns {', '.join(wrong)} are missing or of another type; delete the shard and remake it"
        )
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
            InputError: as ``read_set_manifest``; naming the first shard that is missing, of another size, or has a
                foreign manifest.
        """
        manifest = Path(manifest)
        content = read_set_manifest(manifest)
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
        try:
            self.table = pa.concat_tables(tables)
        except pa.ArrowInvalid:
            raise InputError(f"{manifest}: its shards' manifests have different columns; remake the set") from None
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
