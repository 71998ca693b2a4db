"""Antialiased bicubic resizing: Pillow's own, and one of OpenCV in a third of its time."""

import functools

import cv2
import numpy as np
from PIL import Image

from keras_deit.utils.interpolation import keys_cubic

STEEP = 8  # from here on filters are so wide that nothing is won
SHARP = -0.75  # OpenCV's parameter of R. Keys' cubic convolution (1981); Pillow's is -0.5


def resize(image, size):
    """uint8 (height, width, 3) to the given (height, width) by Pillow's antialiased bicubic."""
    height, width = size
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


def resize_fast(image, size):
    """``resize`` to a fraction of a grey level in the mean: on photographs 0.2 to 0.5, and 5 at the
    99th percentile.

    A side that shrinks is filtered before OpenCV interpolates it, so that both together come as
    near as they can to Pillow's kernel, which is as wide as the pixels to come. Where a side grows,
    there is nothing to filter: two thirds of OpenCV's cubic and one third of its linear
    interpolation weigh the two outer of four pixels as Pillow does, and the inner ones nearly so.
    """
    scales = [side / wanted for side, wanted in zip(image.shape, size, strict=False)]
    if max(scales) > STEEP:
        return resize(image, size)
    cubic = 1 if min(scales) > 1 else 2 / 3
    if max(scales) > 1:
        down, across = (_prefilter(round(64 * scale), cubic) for scale in scales)
        image = cv2.sepFilter2D(image, -1, across, down, borderType=cv2.BORDER_REPLICATE)
    size = size[::-1]
    resized = cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)
    if cubic == 1:
        return resized
    linear = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return cv2.addWeighted(resized, cubic, linear, 1 - cubic, 0)


@functools.lru_cache(maxsize=4096)
def _prefilter(scale, cubic):
    """float32 (taps,), summing to 1, for shrinking by ``scale`` 64ths. Least squares: the weights
    of interpolation kernels, one per pixel, that add up to Pillow's kernel."""
    scale = scale / 64
    if scale <= 1:
        return np.ones(1, np.float32)
    reach = max(3, int(np.ceil(2 * scale)) - 1)
    at = np.arange(-8 * (reach + 2), 8 * (reach + 2)) / 8 + 1 / 16
    wanted = keys_cubic(at / scale, -0.5) / scale
    shifts = np.arange(-reach, reach + 1)
    near = at[:, None] - shifts
    kernels = cubic * keys_cubic(near, SHARP) + (1 - cubic) * np.maximum(1 - np.abs(near), 0)
    weights = np.linalg.lstsq(kernels, wanted, rcond=None)[0]
    return (weights / weights.sum()).astype(np.float32)
