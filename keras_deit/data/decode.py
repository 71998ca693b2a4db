"""Encoded images to pixels."""

import functools
import io

import cv2
import numpy as np
from PIL import ExifTags, Image

from keras_deit.utils.errors import Unreadable, reason

MAX_PIXELS = 1 << 26  # that OpenCV is given; larger images are left to Pillow's own limit

# Formats that Pillow gives to other programs, such as Ghostscript, which would execute what is in
# the file; and those of which it only reads a header.
NOT_READ = ("EPS", "PDF", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "IPTC")

BITS_PER_SAMPLE = 258  # tag of TIFF


def decode(data, upright=False):
    """Decodes an image as ``Image.open(file).convert("RGB")`` of Pillow does, which timm trains on.

    Gray, palette, transparent and CMYK images become RGB. Of 16 bits, gray or color, the 8 high
    ones are taken: libpng, Pillow and TensorFlow do so for colors, whereas ``convert`` would make
    white of almost all grays. Floats and 32-bit integers have no range to scale by, and are
    refused.

    JPEGs with one or three colors, most of what there is, go to OpenCV, which is faster. What it
    refuses, truncated files among them, goes to Pillow, which can say why.

    Args:
        data: bytes of an image file.
        upright: bool. Whether the image is turned as its EXIF orientation says, as Pillow's
            ``ImageOps.exif_transpose`` does. Default False, as in the published training.

    Returns:
        uint8 (height, width, 3), red first.

    Raises:
        Unreadable: the data is not a complete image, it has more pixels than Pillow's limit for
            decompression bombs, or its pixels have no range. It does not know the file's name: add
            that.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.data.decode import decode
        >>> decode(b"P6 2 1 255 " + bytes([255, 0, 0, 0, 0, 255])).tolist()
        [[[255, 0, 0], [0, 0, 255]]]
    """
    image = None
    if _is_plain_jpeg(data):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        image = _decode_with_pillow(data)
    return _turned(image, _orientation(data)) if upright else image


@functools.cache
def formats():
    """The formats of Pillow that ``decode`` reads, a tuple of str."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NOT_READ)


def _decode_with_pillow(data):
    if not data:
        raise Unreadable("no image: its file is empty")
    try:
        image = Image.open(io.BytesIO(data), formats=formats())
        # Pillow refuses twice as many, and only warns of those between.
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:
            raise Image.DecompressionBombError
        return _rgb(image)
    except Unreadable:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise Unreadable(
            f"more than {Image.MAX_IMAGE_PIXELS} pixels, which may be a decompression bomb: reduce"
            " the image"
        ) from error
    except Image.UnidentifiedImageError as error:
        raise Unreadable(
            f"corrupt image: no known format, {len(data)} bytes from {data[:8]!r}"
        ) from error
    except Exception as error:  # Pillow's decoders raise errors of many types
        raise Unreadable(f"corrupt image: {reason(error)}") from error


def _rgb(image):
    """A Pillow image as uint8 (height, width, 3)."""
    # Pillow gives 16 bits of a PGM, scaled from its largest value, as 32-bit integers.
    is_16_bit = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    if is_16_bit:
        bits = getattr(image, "tag_v2", {}).get(BITS_PER_SAMPLE, (16,))[0]  # 12 in some TIFFs
        gray = np.asarray(image) >> bits - 8
        return np.repeat(gray.astype(np.uint8)[..., np.newaxis], 3, axis=-1)

    if image.mode in ("I", "F"):
        kind = "floats" if image.mode == "F" else "signed or 32-bit integers"
        raise Unreadable(f"{kind} as pixels, whose range is unknown: expected 8 or 16 bits")
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(data):
    """The EXIF orientation of an image file, from 1, upright, to 8."""
    try:
        image = Image.open(io.BytesIO(data), formats=formats())
        if image.format == "TIFF":  # Pillow has turned it
            return 1
        return image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # of corrupt EXIF, which says nothing about the pixels
        return 1


def _turned(image, orientation):
    """The array of an image that is stored in an EXIF orientation, as it is to be seen."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    return np.ascontiguousarray(image)


def _is_plain_jpeg(data):
    """Whether the data begin as a JPEG with one or three colors, and of at most ``MAX_PIXELS``.

    A JPEG is a chain of segments: 0xFF, a marker, two bytes of length, content (ITU-T T.81, annex
    B). The segment that starts the frame, 0xC0 to 0xC2 in what OpenCV reads, gives precision,
    height, width and the number of colors.
    """
    if not data.startswith(b"\xff\xd8"):
        return False

    start = 2
    while start + 10 <= len(data) and data[start] == 0xFF:
        if data[start + 1] in (0xC0, 0xC1, 0xC2):
            height = data[start + 5] << 8 | data[start + 6]
            width = data[start + 7] << 8 | data[start + 8]
            colors = data[start + 9]
            return colors in (1, 3) and 0 < height * width <= MAX_PIXELS
        start += 2 + (data[start + 2] << 8 | data[start + 3])
    return False
