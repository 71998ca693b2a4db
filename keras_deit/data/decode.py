"""Encoded images to pixels."""

import io

import cv2
import numpy as np
from PIL import Image

from keras_deit.utils.errors import UserError

MAX_PIXELS = 1 << 26  # that OpenCV is given; larger images are left to Pillow's own limit


def decode(data):
    """The bytes of an image file to uint8 (height, width, 3), red first.

    As ``Image.open(file).convert("RGB")`` of Pillow does it, which is what timm trains on: grey,
    palette, transparent and CMYK images become RGB, an orientation in EXIF is ignored. JPEGs in
    grey or three colours, most of what there is, go to OpenCV, which is sooner done; what it
    refuses, truncated ones among them, goes to Pillow, which can tell why.

    Raises:
        UserError: where that is no whole image. It does not know the file's name: add that.
    """
    image = None
    if _plain_jpeg(data):
        flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return _decode_any(data) if image is None else image


def _decode_any(data):
    if not data:
        raise UserError("no image: its file is empty")
    try:
        return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    except Exception as error:  # Pillow's decoders let errors of many types through
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        if isinstance(error, Image.UnidentifiedImageError):
            reason = f"no known format, {len(data)} bytes from {data[:8]!r}"
        raise UserError(f"damaged image: {reason}") from error


def _plain_jpeg(data):
    """Whether the data begin as a JPEG, of one or three colours and not vast.

    A JPEG is a chain of segments: 0xFF, a marker, two bytes of length, content (ITU-T T.81, annex
    B). The one that starts the frame, 0xC0 to 0xC2 in what OpenCV reads, gives precision, height,
    width and the number of colours.
    """
    if not data.startswith(b"\xff\xd8"):
        return False
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        if data[at + 1] in (0xC0, 0xC1, 0xC2):
            height, width = data[at + 5] << 8 | data[at + 6], data[at + 7] << 8 | data[at + 8]
            return data[at + 9] in (1, 3) and 0 < height * width <= MAX_PIXELS
        at += 2 + (data[at + 2] << 8 | data[at + 3])
    return False
