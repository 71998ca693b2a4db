"""Antialiased bicubic resizing: Pillow's own, and one with OpenCV in a third of its time."""

import functools

import cv2
import numpy as np
from PIL import Image

from keras_deit.utils.interpolation import keys_cubic

STEEP = 8  # from this reduction on, filters are so wide that OpenCV is no faster
PILLOW_CUBIC = -0.5  # parameter of R. Keys' cubic convolution (1981) in Pillow's resize
OPENCV_CUBIC = -0.75
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
