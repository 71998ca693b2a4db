import io
import struct
import warnings

import cv2
import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from keras_deit.data.decode import _is_plain_jpeg, decode
from keras_deit.utils.errors import Unreadable


@pytest.fixture(scope="module")
def picture(photographs):
    return Image.fromarray(photographs[0][150:250, 100:251])


def encoded(image, kind="JPEG", **options):
    """The bytes of an image file."""
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


def assert_pillows(data, most=0):
    """The image is Pillow's, to ``most`` gray levels."""
    image = decode(data)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    assert image.dtype == np.uint8
    assert image.shape == expected.shape
    assert np.abs(image.astype(int) - expected).max() <= most


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 90},
        {"subsampling": 0},
        {"subsampling": 1},
        {"progressive": True},
        {"restart_marker_rows": 1},
        {"comment": b"\xff\xd9 \xff\xc0"},
    ],
    ids=str,
)
def test_jpegs_are_pillows(options, picture):
    data = encoded(picture, **options)
    assert _is_plain_jpeg(data)
    assert_pillows(data, most=1)
    assert_pillows(encoded(picture.convert("L"), **options), most=1)


def in_orientation(image, orientation, kind):
    """The bytes of an image file that says how it is turned."""
    tags = Image.Exif()
    tags[ExifTags.Base.Orientation] = orientation
    return encoded(image, kind, exif=tags)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_orientation_is_ignored(kind, picture):
    data = in_orientation(picture, 6, kind)  # turned to the right
    assert decode(data).shape == (100, 151, 3)
    assert_pillows(data, most=1)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
@pytest.mark.parametrize("orientation", [*range(10)])
def test_upright_is_as_pillow_turns_it(kind, orientation, picture):
    data = in_orientation(picture, orientation, kind)
    image = decode(data, upright=True)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.abs(image.astype(int) - np.asarray(expected.convert("RGB"))).max() <= 1
    assert image.shape == ((151, 100, 3) if orientation in (5, 6, 7, 8) else (100, 151, 3))
    assert image.flags.c_contiguous


def test_corrupt_exif_does_not_turn_an_image(picture):
    for exif in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0none at all"):
        data = encoded(picture, exif=exif)
        np.testing.assert_array_equal(decode(data, upright=True), decode(data))


@pytest.mark.parametrize("mode", ["L", "1", "P", "RGBA", "LA", "RGB"])
def test_other_modes_become_pillows_rgb(mode, picture):
    image = picture.convert(mode)
    if mode == "RGBA":
        image.putalpha(picture.convert("L"))
    assert_pillows(encoded(image, "PNG"))


GRAYS = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "JPEG2000"])
def test_the_high_byte_of_16_bit_grays_is_taken(kind):
    expected = np.stack([GRAYS >> 8] * 3, axis=-1)
    np.testing.assert_array_equal(decode(encoded(Image.fromarray(GRAYS), kind)), expected)


def test_16_bit_grays_of_other_files():
    pgm = b"P5 64 64 65535 " + GRAYS.astype(">u2").tobytes()
    np.testing.assert_array_equal(decode(pgm)[..., 0], GRAYS >> 8)

    big_endian = encoded(Image.fromarray(GRAYS.astype(">u2")), "TIFF")
    np.testing.assert_array_equal(decode(big_endian)[..., 2], GRAYS >> 8)


def test_12_bit_grays_of_a_tiff():
    pixels = bytes([0xFF, 0xF8, 0x0F])  # 4095 and 2063
    tags = [(256, 2), (257, 1), (258, 12), (259, 1), (262, 1), (273, 110), (277, 1), (279, 3)]
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    data = b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4)
    assert len(data) == 110
    assert decode(data + pixels)[0, :, 0].tolist() == [255, 128]


def test_16_bit_colors_are_pillows():
    colors = np.stack([GRAYS, GRAYS.T, GRAYS[::-1]], axis=-1)
    for suffix in (".png", ".tiff"):
        _, data = cv2.imencode(suffix, colors[..., ::-1])
        assert_pillows(data.tobytes())
        np.testing.assert_array_equal(decode(data.tobytes()), colors >> 8)


@pytest.mark.parametrize(
    ("dtype", "message"),
    [(np.float32, "floats as pixels, whose range is unknown"), (np.int32, "32-bit integers as")],
)
def test_pixels_without_a_range_are_unreadable(dtype, message):
    with pytest.raises(Unreadable, match=message):
        decode(encoded(Image.fromarray(GRAYS.astype(dtype)), "TIFF"))


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_pillows_rgb(kind, picture):
    assert_pillows(encoded(picture.convert("CMYK"), kind))


@pytest.mark.parametrize("kind", ["PNG", "GIF", "BMP", "WEBP"])
def test_other_formats(kind, picture):
    assert_pillows(encoded(picture, kind))


def test_bytes_after_a_jpeg_are_ignored(picture):
    assert _is_plain_jpeg(encoded(picture) + b"\0\0 more")
    assert_pillows(encoded(picture) + b"\0\0 more", most=1)


@pytest.mark.parametrize(
    ("kind", "options"), [("JPEG", {}), ("JPEG", {"progressive": True}), ("PNG", {})], ids=str
)
@pytest.mark.parametrize("fraction", [0.01, 0.3, 0.9, 0.999])
def test_a_truncated_image_is_unreadable(kind, options, fraction, picture):
    data = encoded(picture, kind, **options)
    with pytest.raises(Unreadable, match="corrupt image") as error:
        decode(data[: int(fraction * len(data))])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "file is empty"),
        (b"<html>not found</html>", "no known format, 22 bytes from b'<html>no'"),
        (b"\xff\xd8\xff\xd9", "corrupt image"),
        (b"\xff\xd8" + bytes(50) + b"\xff\xd9", "corrupt image"),
    ],
)
def test_other_data_are_unreadable(data, message):
    with pytest.raises(Unreadable, match=message):
        decode(data)


def test_garbage_is_unreadable_or_an_image(picture):
    rng = np.random.default_rng(0)
    for kind in ("JPEG", "PNG"):
        intact = np.frombuffer(encoded(picture, kind), np.uint8)
        for _ in range(60):
            data = intact.copy()
            places = rng.integers(2, len(data) - 2, size=5)
            data[places] = rng.integers(0, 256, size=5)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                try:
                    image = decode(data.tobytes())
                except Unreadable:
                    continue
            assert image.dtype == np.uint8
            assert image.shape[2] == 3


@pytest.mark.parametrize("side", [20_000, 10_000])  # Pillow refuses the first
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")  # and warns of the other
def test_a_huge_image_is_not_decoded(side, picture):
    data = bytearray(encoded(picture))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = 2 * side.to_bytes(2, "big")  # height and width
    with pytest.raises(Unreadable, match=r"more than 89478485 pixels.*bomb: reduce"):
        decode(bytes(data))
