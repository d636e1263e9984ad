"""Reading, resizing and writing pictures."""

from __future__ import annotations

import contextlib
import io
import os
import re
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from bounded_memory import bounded_memory
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, UnidentifiedImageError

from segswap.errors import InputError
from segswap.images import (
    Header,
    UnreadableImage,
    decode_image,
    encode_jpeg,
    image_size,
    read_header,
    read_image,
    resize,
    turn,
)
from segswap.listing import find_images, list_images
from segswap.randomness import generator

# pytest's own filters come before those of the module.
pytestmark = pytest.mark.filterwarnings("ignore:Corrupt EXIF:UserWarning", "ignore:Image size")

SIDES = st.integers(5, 200)


def smooth(shape: tuple[int, int]) -> np.ndarray:
    """Return a colourful smooth picture, RGB uint8 (H, W, 3)."""
    coarse = generator(1, "picture").integers(0, 256, (4, 5, 3), np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


def test_pictures_are_red_green_blue(tmp_path):
    image = np.zeros((8, 6, 3), np.uint8)
    image[..., 0], image[2, 3] = 200, (10, 20, 30)
    Image.fromarray(image).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), image)


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "1", "I;16"])
def test_every_mode_is_read_as_three_channels_of_bytes(tmp_path, mode):
    if mode == "I;16":
        Image.fromarray(np.full((8, 6), 30_000, np.uint16)).save(tmp_path / "a.png")
    else:
        Image.fromarray(smooth((8, 6))).convert(mode).save(tmp_path / "a.png")
    image = read_image(tmp_path / "a.png")
    assert (image.shape, image.dtype) == ((8, 6, 3), np.uint8)
    if mode in ("L", "LA", "1"):
        assert (image == image[..., :1]).all()


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_are_scaled_not_clipped(tmp_path, suffix, channels):
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    picture = np.dstack([values] * channels)
    if channels == 4:
        picture[..., 3] = 65_535
    cv2.imwrite(str(tmp_path / f"a{suffix}"), picture)
    expected = np.repeat(values[..., None] / 257, 3, 2)
    np.testing.assert_allclose(read_image(tmp_path / f"a{suffix}"), expected, atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_what_is_transparent_is_white_and_what_is_half_so_is_mixed(tmp_path, name, orientation):
    """The colours below are leftovers: a cut-out object would stand on a photo that its maker has removed."""
    picture = smooth((32, 48))
    alpha = np.full((32, 48, 1), 255, np.uint8)
    alpha[:10], alpha[20:] = 0, 128
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    Image.fromarray(np.dstack([picture, alpha])).save(tmp_path / name, exif=exif, **options)
    expected = picture * (alpha / 255) + 255 * (1 - alpha / 255)
    expected = np.rot90(expected, -1) if orientation == 6 else expected
    np.testing.assert_allclose(read_image(tmp_path / name), expected, atol=1)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
@pytest.mark.parametrize("mode", ["P", "L"])
def test_a_transparent_shade_or_palette_entry_is_white(tmp_path, name, mode):
    values = np.zeros((20, 30), np.uint8)
    values[:, 10:20], values[:, 20:] = 1, 2
    picture = Image.fromarray(values)
    if mode == "P":
        picture.putpalette([200, 0, 0, 0, 200, 0, 0, 0, 200])
    picture.save(tmp_path / name, transparency=1)
    shades = [(200, 0, 0), (255, 255, 255), (0, 0, 200)] if mode == "P" else [(0, 0, 0), (255,) * 3, (2, 2, 2)]
    np.testing.assert_array_equal(read_image(tmp_path / name), np.array(shades, np.uint8)[values])


def test_sixteen_bit_grey_with_a_transparent_shade_is_scaled_like_any(tmp_path):
    values = np.linspace(0, 65_535, 64).astype(np.uint16).reshape(8, 8)
    Image.fromarray(values).save(tmp_path / "a.png", transparency=int(values[0, 3]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[..., 0], values >> 8)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_plain_pictures_have_the_pixels_of_opencv(tmp_path, mode):
    """An alpha channel that hides nothing changes nothing."""
    for suffix in (".jpg", ".png", ".webp", ".tif", ".bmp")[mode == "RGBA" :]:
        Image.fromarray(smooth((33, 47))).convert(mode).save(tmp_path / f"a{suffix}", lossless=True)
        expected = cv2.cvtColor(cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
        np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), expected)


@pytest.mark.parametrize("size", [(1, 1), (20_000, 200), (200, 20_000), (1, 3000)])
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.gif", "a.tif"])
def test_pictures_of_any_size_are_read(tmp_path, size, name):
    Image.new("L", size, 90).save(tmp_path / name)
    image = read_image(tmp_path / name)
    assert image.shape == (size[1], size[0], 3) and np.abs(image.astype(int) - 90).max() <= 1


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_exif_rotation_is_applied(tmp_path, name):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image = smooth((32, 48))
    Image.fromarray(image).save(tmp_path / name, exif=exif, quality=95)
    read = read_image(tmp_path / name)
    assert read.shape == (48, 32, 3)
    assert np.abs(read.astype(int) - np.rot90(image, -1)).mean() < 4


TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels),
}
"""What is done to stored pixels, by EXIF orientation, in the words of its specification."""


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.avif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_every_orientation_is_followed_in_every_format(tmp_path, name, mode):
    if name == "a.jpg" and mode == "RGBA":
        mode = "L"
    pixels = smooth((32, 48))
    pixels[:10, :15] = 250
    for orientation in (0, *range(1, 9), 9, 77):
        exif = Image.Exif()
        exif[0x0112] = orientation
        picture = Image.fromarray(pixels).convert(mode)
        if mode == "RGBA":
            picture.putpixel((47, 31), (0, 0, 0, 0))
        picture.save(tmp_path / name, exif=exif, quality=95)
        stored = np.array(picture.convert("RGB"))
        known = orientation if orientation in TURNS else 1
        expected = TURNS[known](stored)
        read = read_image(tmp_path / name)
        assert read.shape == expected.shape and np.abs(read.astype(int) - expected).mean() < 4, orientation
        assert read_header(tmp_path / name) == Header((48, 32), known)
        np.testing.assert_array_equal(turn(stored, known), expected)
        np.testing.assert_array_equal(turn(stored[..., 0], known), expected[..., 0])


def test_an_orientation_behind_the_pixels_of_a_png_is_followed_and_one_in_xmp_is_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 3
    picture = Image.fromarray(smooth((32, 48)))
    picture.save(tmp_path / "a.png", exif=exif)
    data = (tmp_path / "a.png").read_bytes()
    start = data.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4], "big")
    last = len(data) - 12
    (tmp_path / "late.png").write_bytes(data[:start] + data[end:last] + data[start:end] + data[last:])
    for name in ("a.png", "late.png"):
        assert read_header(tmp_path / name).orientation == 3
        np.testing.assert_array_equal(read_image(tmp_path / name), np.array(picture)[::-1, ::-1])
    picture.save(tmp_path / "a.webp", xmp=b'<x:xmpmeta tiff:Orientation="6"/>', lossless=True)
    assert read_header(tmp_path / "a.webp") == Header((48, 32), 1)
    assert read_image(tmp_path / "a.webp").shape == (32, 48, 3)


@given(st.binary(max_size=60))
def test_exif_data_of_any_bytes_leave_the_picture_readable(tmp_path_factory, exif):
    path = tmp_path_factory.getbasetemp() / "any_exif.jpg"
    Image.new("RGB", (48, 32)).save(path, exif=b"Exif\0\0" + exif)
    assert read_image(path).shape[1::-1] == image_size(path)


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif", "a.bmp", "a.gif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "RGBA"])
def test_the_size_in_the_header_is_that_of_the_picture_that_is_read(tmp_path, name, mode):
    if name == "a.jpg" and mode in ("P", "RGBA"):
        mode = "CMYK"
    for orientation in (None, *range(1, 9)):
        exif = Image.Exif()
        if orientation:
            exif[0x0112] = orientation
        Image.fromarray(smooth((32, 48))).convert(mode).save(tmp_path / name, exif=exif)
        assert image_size(tmp_path / name) == read_image(tmp_path / name).shape[1::-1], orientation


def test_no_pixel_is_decoded_for_the_size_unless_the_header_is_strange(tmp_path):
    image = smooth((64, 48))
    (tmp_path / "cut.jpg").write_bytes(encode_jpeg(image)[:-200])
    with pytest.raises(UnreadableImage):
        read_image(tmp_path / "cut.jpg")
    assert image_size(tmp_path / "cut.jpg") == (48, 64)
    cv2.imwrite(str(tmp_path / "a.hdr"), image.astype(np.float32))
    with pytest.raises(UnidentifiedImageError):
        Image.open(tmp_path / "a.hdr")
    assert image_size(tmp_path / "a.hdr") == (48, 64)


@pytest.mark.parametrize("content", [None, b"", b"not a picture", (20_001, 20_001), (100_000, 100_000)])
def test_what_has_no_size_says_why_as_when_it_is_read(tmp_path, content):
    path = tmp_path / "broken.png"
    if content is not None:
        path.write_bytes(huge_png(*content) if isinstance(content, tuple) else content)
    with pytest.raises(UnreadableImage) as said:
        image_size(path)
    with pytest.raises(UnreadableImage, match=re.escape(str(said.value))):
        read_image(path)


@pytest.mark.parametrize("content", [None, b"", b"not a picture", "cut"])
def test_unreadable_pictures_are_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content == "cut":
        content = encode_jpeg(smooth((64, 64)))[:300]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif", ".gif"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_of_an_animated_picture_the_first_frame_is_read(tmp_path, suffix, mode):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)).convert(mode) for value in (40, 120, 200)]
    if mode == "RGBA":
        frames[0].putpixel((0, 0), (9, 9, 9, 0))
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:], lossless=True)
    image = read_image(tmp_path / f"a{suffix}").astype(int)
    assert np.abs(image[1:] - 40).max() <= 2
    assert (image[0, 0] > 250).all() == (mode == "RGBA")


@pytest.mark.parametrize("name", ["a.jpg", "a.tif"])
def test_printers_colours_are_read_as_red_green_blue(tmp_path, name):
    picture = smooth((32, 48))
    Image.fromarray(picture).convert("CMYK").save(tmp_path / name, quality=95)
    assert np.abs(read_image(tmp_path / name).astype(int) - picture).mean() < 3


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_is_cut_off_anywhere_is_unreadable(tmp_path, share, suffix):
    """Not half a picture, its rest grey."""
    Image.fromarray(smooth((200, 300))).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImage, match="do not decode"):
        read_image(tmp_path / f"a{suffix}")


WRITTEN = {
    "a.jpg": {},
    "progressive.jpg": {"progressive": True},
    "a.png": {},
    "a.webp": {},
    "a.gif": {},
    "a.tif": {"compression": "tiff_lzw"},
    "a.bmp": {},
}


def written(name: str, alpha: bool = False) -> bytes:
    """Return a picture file's bytes."""
    picture = Image.fromarray(smooth((50, 70)))
    if alpha and not name.endswith((".jpg", ".bmp")):
        picture.putalpha(Image.linear_gradient("L").resize(picture.size))
    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[name[name.index(".") :]], **WRITTEN[name])
    return file.getvalue()


@given(st.sampled_from(sorted(WRITTEN)), st.booleans(), st.floats(0, 1))
def test_a_cut_off_picture_is_unreadable_or_whole(name, alpha, share):
    """Whole where all that is missing are bytes behind the last pixel."""
    data = written(name, alpha)
    try:
        image = decode_image(data[: int(len(data) * share)])
    except UnreadableImage:
        return
    np.testing.assert_array_equal(image, decode_image(data))


@given(st.sampled_from(sorted(WRITTEN)), st.booleans(), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255))))
@settings(max_examples=200)
def test_whatever_the_bytes_are_they_are_a_picture_or_unreadable(name, alpha, changes):
    data = bytearray(written(name, alpha))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    try:
        image = decode_image(bytes(data))
    except UnreadableImage:
        return
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3


def huge_png(width: int, height: int) -> bytes:
    """Return a small PNG that claims to be large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


@pytest.mark.parametrize("kind", [b"PLTE", b"IDAT", b"tEXt"])
@pytest.mark.parametrize("behind", [False, True], ids=["before the pixels", "behind them"])
def test_a_chunk_that_claims_to_be_huge_takes_no_memory(kind, behind):
    data = written("a.png", False)
    at = len(data) - 12 if behind else data.index(b"IDAT") - 4
    chunk = struct.pack(">I", 0xF0000000) + kind + b"abc" + struct.pack(">I", zlib.crc32(kind + b"abc"))
    with bounded_memory(200), contextlib.suppress(UnreadableImage):
        assert decode_image(data[:at] + chunk + data[at:]).ndim == 3


def test_bytes_behind_a_png_are_no_part_of_it():
    data = written("a.png", False)
    np.testing.assert_array_equal(decode_image(data + b"\xff" * 100), decode_image(data))


@pytest.mark.parametrize("size", [(20_001, 20_001), (100_000, 100_000), (2**31 - 1, 2**31 - 1)])
def test_a_picture_that_claims_to_be_huge_is_unreadable_and_takes_no_memory(tmp_path, size):
    (tmp_path / "huge.png").write_bytes(huge_png(*size))
    with pytest.raises(UnreadableImage, match=r"huge\.png: a picture of .* pixels; at most 400,000,000 are read"):
        read_image(tmp_path / "huge.png")


def test_a_huge_jpeg_is_refused_before_it_is_decoded():
    data = bytearray(encode_jpeg(smooth((16, 16))))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", 60_000, 60_000)
    with pytest.raises(UnreadableImage, match="at most 400,000,000 are read"):
        decode_image(bytes(data))


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_heic_is_said_to_be_not_supported(tmp_path, brand):
    (tmp_path / "IMG_1.HEIC").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(200))
    with pytest.raises(
        UnreadableImage, match=r"IMG_1\.HEIC: .*HEIC picture: these are not read, save it as JPEG or PNG"
    ):
        read_image(tmp_path / "IMG_1.HEIC")


def test_the_message_says_what_the_bytes_are():
    for data, said in ((b"", "the file is empty"), (b"Dear all,\n" * 20, "of no known format")):
        with pytest.raises(UnreadableImage, match=said):
            decode_image(data)
    with pytest.raises(UnreadableImage, match="a JPEG picture of 70 x 50 pixels, damaged, cut off or of a rare kind"):
        decode_image(written("a.jpg")[:-40])


@pytest.mark.parametrize("bad", ["file.txt/a.jpg", "."])
def test_what_is_no_file_is_unreadable(tmp_path, bad):
    (tmp_path / "file.txt").touch()
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_image(tmp_path / bad)


def test_decoders_say_nothing_on_standard_error(tmp_path):
    """What they have to say is in the exception; pytest shows warnings on its own, so this is another process."""
    (tmp_path / "huge.png").write_bytes(huge_png(20_001, 20_001))
    for name in WRITTEN:
        (tmp_path / name).write_bytes(written(name)[:-400])
        (tmp_path / f"alpha_{name}").write_bytes(written(name, alpha=True)[:-400])
    code = """
from pathlib import Path
from segswap.images import UnreadableImage, read_image
for path in Path(".").iterdir():
    try:
        read_image(path)
    except UnreadableImage:
        print(path)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stderr == "" and len(done.stdout.splitlines()) == 2 * len(WRITTEN) + 1


def test_names_with_quotes_spaces_and_letters_of_any_script_are_read(tmp_path):
    path = tmp_path / 'l\'été & "花" 1.2.png'
    Image.fromarray(smooth((8, 6))).save(path)
    assert read_image(path).shape == (8, 6, 3)


def test_list_is_sorted_and_holds_pictures_only(tmp_path):
    for name in ("b.PNG", "a.jpg", "c.txt", "d.webp", ".e"):
        (tmp_path / name).touch()
    (tmp_path / "folder").mkdir()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG", "d.webp"]


@pytest.mark.parametrize("exists", [True, False])
def test_empty_or_missing_folder_is_an_error_that_names_it(tmp_path, exists):
    folder = tmp_path / "styles"
    if exists:
        folder.mkdir()
    with pytest.raises(InputError, match="styles"):
        list_images(folder)


# Folders as they are found

OTHERS = "hidden, or left by a system"


def written_as(suffix: str) -> bytes:
    """Return a small picture in the format of a suffix."""
    buffer = io.BytesIO()
    Image.fromarray(smooth((8, 6))).save(buffer, Image.registered_extensions()[suffix])
    return buffer.getvalue()


def listed(folder: Path, **how: bool) -> list[str]:
    """Return the names of a folder's pictures below it."""
    return [path.relative_to(folder).as_posix() for path in find_images(folder, **how).paths]


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".gif", ".tif", ".webp", ".avif", ".ppm", ".jp2"])
def test_pictures_are_known_by_their_content_where_the_suffix_says_nothing(tmp_path, suffix):
    for name in ("plain", "p.unknown", f"p{suffix}"):
        (tmp_path / name).write_bytes(written_as(suffix))
    (tmp_path / "words").write_text("Beautiful Memories; P5 is no picture, II* neither")
    (tmp_path / "empty").touch()
    found = find_images(tmp_path)
    assert [path.name for path in found.paths] == sorted(["p.unknown", f"p{suffix}", "plain"])
    assert found.left_out == {"words": "no picture", "empty": "no picture"}
    assert all(read_image(path).shape == (8, 6, 3) for path in found.paths)


@pytest.mark.parametrize("name", ["a.jfif", "a.jpe", "a.JPG", "a.avif"])
def test_pictures_of_rarer_suffixes_are_listed_unopened(tmp_path, name):
    (tmp_path / name).touch()
    assert listed(tmp_path) == [name]


def test_what_systems_leave_among_pictures_is_left_out(tmp_path):
    hidden = ("._a.jpg", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg")
    folders = ("@eaDir", "__MACOSX", ".thumbnails", ".Trash-1000", "lost+found", "#recycle", "$RECYCLE.BIN")
    for name in ("a.jpg", "sub/b.jpg", *hidden, *(f"{folder}/a.jpg/thumb.jpg" for folder in folders)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_images(tmp_path, subfolders=True)
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == ["a.jpg", "sub/b.jpg"]
    assert found.left_out == dict.fromkeys((*hidden, *folders), OTHERS)


def test_only_regular_files_are_pictures(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "folder.jpg").mkdir()
    (tmp_path / "folder.jpg/inside.jpg").touch()
    os.mkfifo(tmp_path / "pipe.jpg")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "nowhere.jpg").symlink_to("none.jpg")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    found = find_images(tmp_path)
    assert listed(tmp_path) == ["a.jpg"]
    assert set(found.left_out) == {"folder.jpg", "pipe.jpg", "pipe", "nowhere.jpg", "itself.jpg"}
    assert found.left_out["folder.jpg"] == "called like a picture, but a folder"
    assert listed(tmp_path, subfolders=True) == ["a.jpg", "folder.jpg/inside.jpg"]


def test_links_are_followed_and_each_file_is_listed_once(tmp_path):
    root, other = tmp_path / "pictures", tmp_path / "elsewhere"
    for path in (root / "z/1.jpg", other / "2.jpg", other / "deep/3.jpg", tmp_path / "4.jpg"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (root / "a").symlink_to(root / "z")  # before z by its name, but z has a name of its own
    (root / "z/loop").symlink_to("..")
    (root / "linked").symlink_to("../elsewhere")
    (other / "back").symlink_to(root)
    (root / "twice").symlink_to(other)
    (root / "one.jpg").symlink_to(tmp_path / "4.jpg")
    (root / "same.jpg").symlink_to("one.jpg")
    found = find_images(root, subfolders=True)
    names = [path.relative_to(root).as_posix() for path in found.paths]
    assert names == ["linked/2.jpg", "linked/deep/3.jpg", "one.jpg", "z/1.jpg"]
    assert found.left_out == {"same.jpg": "linked to a picture that is listed"}


def test_a_folder_that_is_a_link_itself_gives_names_below_the_link(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real/1.jpg").touch()
    (tmp_path / "link").symlink_to("real")
    assert list_images(tmp_path / "link") == [tmp_path / "link/1.jpg"]


def test_what_is_left_out_is_said_in_one_line_with_number_reason_and_names(tmp_path, capsys):
    heic = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    left_out = {"1.HEIC": heic, "2": heic, "3.heif": b"", "r.NEF": written_as(".tif"), "x.jpg~": written_as(".jpg")}
    for name, data in left_out.items():
        (tmp_path / name).write_bytes(data)
    for number in range(30):
        (tmp_path / f"{number:02d}.txt").touch()
    (tmp_path / "a\nb.txt").touch()
    with pytest.raises(InputError, match=r"holds no picture .* 3 HEIC, .*\(1\.HEIC, 2, 3\.heif\)"):
        list_images(tmp_path)
    (tmp_path / "a.jpg").touch()
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg"]
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1
    assert "3 HEIC, which is not read: save as JPEG or PNG (1.HEIC, 2, 3.heif)" in said.err
    assert "1 raw, which is not read: save as JPEG or PNG (r.NEF)" in said.err
    assert "1 unfinished, or a backup (x.jpg~)" in said.err
    assert "31 no picture (00.txt, 01.txt" in said.err and "09.txt, ...)" in said.err


def test_nothing_is_said_of_a_folder_of_pictures(tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "sub").mkdir()
    list_images(tmp_path)
    assert capsys.readouterr().err == ""


def test_names_for_tables_are_utf8(tmp_path, capsys):
    (tmp_path / "a.jpg").touch()
    (tmp_path / os.fsdecode(b"\xfc.jpg")).touch()
    assert len(list_images(tmp_path)) == 2
    assert [path.name for path in list_images(tmp_path, utf8_names=True)] == ["a.jpg"]
    assert r"'\udcfc.jpg'" in capsys.readouterr().err


def test_only_files_of_unknown_suffix_are_opened(tmp_path, monkeypatch):
    for number in range(5):
        (tmp_path / f"{number}.jpg").touch()
    (tmp_path / "none").touch()
    opened = []
    monkeypatch.setattr("builtins.open", lambda path, *a, _open=open, **k: opened.append(path) or _open(path, *a, **k))
    find_images(tmp_path)
    assert [Path(path).name for path in opened] == ["none"]


@given(old=st.tuples(SIDES, SIDES), new=st.tuples(SIDES, SIDES))
def test_resize_keeps_the_half_pixel_convention(old, new):
    """A picture whose value is the normalised position of its pixel's centre stays one, whatever the sizes."""
    width, height = old
    x, y = np.meshgrid((np.arange(width) + 0.5) / width, (np.arange(height) + 0.5) / height)
    resized = resize(np.dstack([x, y]).astype(np.float32), new)
    assert resized.shape == (new[1], new[0], 2)
    for axis, (before, after) in enumerate(zip(old, new, strict=True)):
        values = resized.mean(axis=axis)[:, axis]
        expected = (np.arange(after) + 0.5) / after
        # Half a pixel of the coarser grid at the border is extrapolated by nothing.
        inner = np.abs(expected - 0.5) <= 0.5 - 0.5 / min(before, after)
        # OpenCV interpolates at steps of 1/2048 pixel; area averages are exact only for whole factors.
        tolerance = 0.25 / before if after < before else 1e-3 / before
        np.testing.assert_allclose(values[inner], expected[inner], atol=tolerance)


@pytest.mark.parametrize("factor", [2, 3, 7])
def test_whole_factors_average_blocks(factor):
    image = generator(1, "blocks").random((6 * factor, 5 * factor, 3)).astype(np.float32)
    blocks = image.reshape(6, factor, 5, factor, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(resize(image, (5, 6)), blocks, atol=1e-6)


def test_fine_texture_does_not_alias():
    checkers = (np.indices((300, 300)).sum(0) % 2 * 255).astype(np.uint8)
    shrunk = resize(checkers, (130, 130)).astype(int)
    assert abs(shrunk - 127.5).max() < 50


@pytest.mark.parametrize("size", [(96, 96), (300, 40), (40, 300), (64, 48)])
def test_mask_and_picture_take_the_same_path(size):
    mask = np.zeros((48, 64), np.uint8)
    mask[10:30, 20:50] = 255
    np.testing.assert_array_equal(resize(np.dstack([mask] * 3), size)[..., 0], resize(mask, size))


def test_resize_to_the_same_size_changes_nothing():
    image = smooth((31, 47))
    np.testing.assert_array_equal(resize(image, (47, 31)), image)


def test_jpeg_bytes_decode_to_nearly_the_picture():
    image = smooth((64, 80))
    assert np.abs(decode_image(encode_jpeg(image)).astype(int) - image).mean() < 2


def test_jpeg_bytes_are_a_function_of_the_picture():
    assert encode_jpeg(smooth((64, 80)), 90) == encode_jpeg(smooth((64, 80)), 90)
    assert len(encode_jpeg(smooth((64, 80)), 30)) < len(encode_jpeg(smooth((64, 80)), 95))
