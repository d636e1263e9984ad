"""Structures of MATLAB files."""

from __future__ import annotations

import io
import random
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.io import loadmat, savemat

from segswap.benchmarks import matlab
from segswap.benchmarks.matlab import read_structure
from segswap.errors import InputError

NAMES = ["03814/381418.23_3946450.43/a.jpg", "ü 東京.jpg", "c.jpg"]


def written(compressed: bool = False, **fields) -> bytes:
    """Return a file with a structure ``dbStruct`` as scipy writes it, between two other variables."""
    standard = {
        "whichSet": "test",
        "dbImageFns": np.array([[name] for name in NAMES], object),
        "utmDb": np.arange(6.0).reshape(2, 3) + 0.5,
        "few": np.array([[1, 2]], np.uint8),
        "numImages": 3.0,
    }
    file = io.BytesIO()
    content = {"before": np.eye(3), "dbStruct": {**standard, **fields}, "after": "text"}
    savemat(file, content, do_compression=compressed)
    return file.getvalue()


def unended() -> bytes:
    """Return a file whose packed variable lacks its last bytes, and says so in its length."""
    data = written(True)
    size = struct.unpack("<I", data[132:136])[0]
    return data[:128] + struct.pack("<II", 15, size - 9) + data[136 : 136 + size - 9]


@pytest.fixture
def read(tmp_path):
    def read(data: bytes) -> dict:
        (tmp_path / "x.mat").write_bytes(data)
        return read_structure(tmp_path / "x.mat", "dbStruct")

    return read


@pytest.mark.parametrize("compressed", [False, True])
def test_a_structure_is_read_as_scipy_reads_it(read, compressed, tmp_path):
    found = read(written(compressed))
    expected = loadmat(tmp_path / "x.mat")["dbStruct"][0, 0]
    assert list(found) == list(expected.dtype.names)
    assert found["whichSet"] == "test" and found["dbImageFns"] == NAMES
    for field in ("utmDb", "few", "numImages"):
        np.testing.assert_array_equal(found[field], expected[field])


def test_files_of_machines_with_the_other_order_of_bytes_are_read(read):
    """A structure with one field, one number, as the format's description has it."""

    def element(kind: int, content: bytes) -> bytes:
        return struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8)

    def matrix(kind: int, name: bytes, content: bytes) -> bytes:
        head = element(6, struct.pack(">II", kind, 0)) + element(5, struct.pack(">ii", 1, 1)) + element(1, name)
        return element(14, head + content)

    number = matrix(6, b"", element(9, struct.pack(">d", 2.5)))
    fields = struct.pack(">HHi", 4, 5, 8) + element(1, b"metres\0\0") + number  # in the small form: size, then kind
    header = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    assert read(header + matrix(2, b"dbStruct", fields)) == {"metres": np.array([[2.5]])}


def test_functions_rows_of_structures_and_text_of_several_rows_are_none(read):
    rows = np.array([("a",), ("b",)], [("name", object)])
    found = read(written(rows=rows, lines=np.array(["abc", "def"]), nothing=np.zeros((0, 0)), none=""))
    assert found["rows"] is None and found["lines"] is None
    assert found["nothing"].shape == (0, 0) and found["none"] == ""


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "its header is no MATLAB file's"),
        (b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n", "save it in MATLAB with '-v7'"),
        (written()[:700], "ends beyond what holds it"),
        (written().replace(b"dbStruct", b"dbStrukt"), "holds no dbStruct"),
        (written(True)[:400], "ends beyond what holds it"),
        (unended(), "packed data without their end"),
    ],
)
def test_other_files_are_errors_that_say_what_they_are(read, data, message):
    with pytest.raises(InputError, match=message):
        read(data)


def test_what_is_packed_has_an_end(read, monkeypatch):
    data = written(True, many=np.zeros((1000, 1000)))
    assert len(data) < 20_000 and read(data)["many"].shape == (1000, 1000)
    monkeypatch.setattr(matlab, "MAX_BYTES", 1 << 20)
    with pytest.raises(InputError, match="a variable of more than 1,048,576 bytes"):
        read(data)


def test_cells_within_cells_have_an_end(read):
    nest = np.zeros((1, 1), object)
    nest[0, 0] = 1.0
    for _ in range(20):
        outer = np.zeros((1, 1), object)
        outer[0, 0] = nest
        nest = outer
    with pytest.raises(InputError, match="cells within cells without an end"):
        read(written(nest=nest))


WHOLE = [written(), written(True)]


@given(st.sampled_from(WHOLE), st.randoms(use_true_random=False), st.integers(1, 8))
def test_a_damaged_file_is_read_or_is_an_error(tmp_path_factory, data, rng, count):
    path = tmp_path_factory.getbasetemp() / "damaged.mat"
    path.write_bytes(damaged(data, rng, count))
    try:
        found = read_structure(path, "dbStruct")
    except InputError as error:
        assert str(path) in str(error)
    else:
        assert isinstance(found, dict)


def damaged(data: bytes, rng: random.Random, count: int) -> bytes:
    """Change, drop, insert or cut off bytes."""
    changed = bytearray(data)
    for _ in range(count):
        place = rng.randrange(len(changed) + 1)
        end = min(len(changed), place + rng.randrange(1, 9))
        new = rng.choice([b"\xff\xff\xff\x7f", b"\xff" * 8, bytes(4), rng.randbytes(3), b"\x0e\0\0\0"])
        where = rng.choice([slice(place, end), slice(place, place), slice(place, place + len(new))])
        changed[where] = rng.choice([new, new, b""])
        if rng.random() < 0.05:
            del changed[place:]
    return bytes(changed)
