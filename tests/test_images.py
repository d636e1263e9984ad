"""Reading, resizing and writing pictures."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from segswap.errors import InputError
from segswap.images import UnreadableImage, decode_image, encode_jpeg, list_images, read_image, resize
from segswap.randomness import generator

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


def test_alpha_is_dropped_not_multiplied(tmp_path):
    rgba = np.dstack([smooth((8, 6)), np.zeros((8, 6), np.uint8)])
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgba[..., :3])


def test_exif_rotation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to see it upright
    image = smooth((32, 48))
    Image.fromarray(image).save(tmp_path / "a.jpg", exif=exif, quality=95)
    read = read_image(tmp_path / "a.jpg")
    assert read.shape == (48, 32, 3)
    assert np.abs(read.astype(int) - np.rot90(image, -1)).mean() < 4


@pytest.mark.parametrize("content", [None, b"", b"not a picture", "cut"])
def test_unreadable_pictures_are_named(tmp_path, content):
    path = tmp_path / "broken.jpg"
    if content == "cut":
        content = encode_jpeg(smooth((64, 64)))[:300]
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableImage, match=r"broken\.jpg"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".webp", ".png", ".tif"])
def test_of_an_animated_picture_the_first_frame_is_read(tmp_path, suffix):
    frames = [Image.fromarray(np.full((20, 30, 3), value, np.uint8)) for value in (40, 120, 200)]
    frames[0].save(tmp_path / f"a{suffix}", save_all=True, append_images=frames[1:])
    assert np.abs(read_image(tmp_path / f"a{suffix}").astype(int) - 40).max() <= 2


def test_printers_colours_are_read_as_red_green_blue(tmp_path):
    picture = smooth((32, 48))
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "a.jpg").astype(int) - picture).mean() < 8


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_a_picture_that_is_cut_off_anywhere_is_unreadable(tmp_path, share, suffix):
    """Not half a picture, its rest grey."""
    Image.fromarray(smooth((200, 300))).save(tmp_path / f"a{suffix}")
    data = (tmp_path / f"a{suffix}").read_bytes()
    (tmp_path / f"a{suffix}").write_bytes(data[: int(len(data) * share)])
    with pytest.raises(UnreadableImage, match="do not decode"):
        read_image(tmp_path / f"a{suffix}")


def test_a_picture_that_claims_to_be_huge_is_unreadable_and_takes_no_memory(tmp_path):
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    (tmp_path / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(parts))
    with pytest.raises(UnreadableImage, match=r"huge\.png"):
        read_image(tmp_path / "huge.png")


def test_folder_in_place_of_a_picture_is_unreadable(tmp_path):
    with pytest.raises(UnreadableImage, match="cannot be opened"):
        read_image(tmp_path)


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
