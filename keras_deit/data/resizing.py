"""Antialiased bicubic resizing: Pillow's own, and one with OpenCV in a third of its time."""

import functools
import math

import cv2
import numpy as np
from PIL import Image

from keras_deit.utils.interpolation import keys_cubic

STEEP = 8  # from this reduction on, filters are so wide that OpenCV is no faster
PILLOW_CUBIC = -0.5  # parameter of R. Keys' cubic convolution (1981) in Pillow's resize
OPENCV_CUBIC = -0.75
MAX_RESIZED = 1 << 22  # pixels of an image that is resized before it is cut
GRID = 64  # filters are made for scales in steps of 1/64, so that few are made


def resize(image, size):
    """Pillow's antialiased bicubic.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (height, width, 3).

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.resizing import resize
        >>> resize(np.zeros((30, 40, 3), np.uint8), (6, 8)).shape
        (6, 8, 3)
    """
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resize_part(image, size, part):
    """A part of ``resize(image, size)``.

    To resize a stripe of 30000 x 2 pixels until it covers a square takes gigabytes. Of results with
    more than ``MAX_RESIZED`` pixels therefore only the part is made. It differs by a gray level of
    rounding, more in less than one of 1000 values: Pillow keeps places in the image in single
    precision, and from the sizes it chooses whether to resize first across or first down.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the whole result, in pixels.
        part: (top, left, height, width) in the result, in pixels.

    Returns:
        uint8 (height, width, 3) of the part.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.resizing import resize_part
        >>> resize_part(np.zeros((2, 30_000, 3), np.uint8), (256, 3_840_000), (16, 0, 224, 9)).shape
        (224, 9, 3)
    """
    top, left, height, width = part
    if size[0] * size[1] <= MAX_RESIZED:
        return resize(image, size)[top : top + height, left : left + width]

    rows, from_top, to_bottom = source_of(image.shape[0], size[0], top, height)
    columns, from_left, to_right = source_of(image.shape[1], size[1], left, width)
    source = Image.fromarray(image[rows, columns])
    box = (from_left, from_top, to_right, to_bottom)
    return np.asarray(source.resize((width, height), Image.Resampling.BICUBIC, box))


def source_of(side, resized, start, length):
    """Where the pixels of a part of a resized image come from, along one side.

    Args:
        side, resized: ints. The side before and after it is resized, in pixels.
        start, length: ints. The part, in pixels of the resized side.

    Returns:
        (pixels, first, last). The pixels that the part depends on, a slice of the side, and the
        part's edges within them, floats.
    """
    first, last = start * side / resized, (start + length) * side / resized
    support = 2 * max(side / resized, 1) + 1  # of the cubic kernel, rounded up
    pixels = slice(max(0, math.floor(first - support)), min(side, math.ceil(last + support)))
    return pixels, first - pixels.start, last - pixels.start


def resize_fast(image, size):
    """``resize`` to a fraction of a gray level in the mean.

    On photographs the mean is 0.2 to 0.5 levels, and the 99th percentile 5.

    A side that shrinks is filtered before OpenCV interpolates it, so that both together come as
    near as they can to Pillow's kernel, which is as wide as the pixels to come. If a side grows,
    there is nothing to filter: two thirds of OpenCV's cubic and one third of its linear
    interpolation weigh the two outer of four pixels as Pillow does, and the inner ones nearly so.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the result, in pixels.

    Returns:
        uint8 (height, width, 3).
    """
    scales = [side / target for side, target in zip(image.shape, size, strict=False)]
    if max(scales) > STEEP:
        return resize(image, size)

    cubic_weight = 1 if min(scales) > 1 else 2 / 3
    if max(scales) > 1:
        vertical, horizontal = (_prefilter(round(GRID * scale), cubic_weight) for scale in scales)
        image = cv2.sepFilter2D(image, -1, horizontal, vertical, borderType=cv2.BORDER_REPLICATE)

    height, width = size
    cubic = cv2.resize(image, (width, height), interpolation=cv2.INTER_CUBIC)
    if cubic_weight == 1:
        return cubic
    linear = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(cubic, cubic_weight, linear, 1 - cubic_weight, 0)


@functools.lru_cache(maxsize=4096)
def _prefilter(grid_scale, cubic_weight):
    """The filter to apply before OpenCV shrinks a side by ``grid_scale`` / ``GRID``.

    Least squares: the weights of interpolation kernels, one per pixel, that add up to Pillow's
    kernel.

    Returns:
        float32 (taps,), summing to 1.
    """
    scale = grid_scale / GRID
    if scale <= 1:
        return np.ones(1, np.float32)

    # Pillow's kernel and those of OpenCV, one per shift, at eight points per pixel.
    reach = max(3, int(np.ceil(2 * scale)) - 1)
    points = np.arange(-8 * (reach + 2), 8 * (reach + 2)) / 8 + 1 / 16
    target = keys_cubic(points / scale, PILLOW_CUBIC) / scale

    distances = points[:, None] - np.arange(-reach, reach + 1)
    cubic = keys_cubic(distances, OPENCV_CUBIC)
    linear = np.maximum(1 - np.abs(distances), 0)
    kernels = cubic_weight * cubic + (1 - cubic_weight) * linear

    weights = np.linalg.lstsq(kernels, target, rcond=None)[0]
    return (weights / weights.sum()).astype(np.float32)
