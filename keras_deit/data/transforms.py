"""Images to what the model sees. Each is a pure function of image and generator."""

import numpy as np

from keras_deit.errors import UserError
from keras_deit.variants import MEAN, STD


def normalize(images):
    """uint8 (..., 3) to float32 of the same shape, by ImageNet's mean and standard deviation."""
    return images * _SCALE + _OFFSET


_SCALE = np.float32(1 / (255 * np.array(STD)))
_OFFSET = np.float32(-np.array(MEAN) / np.array(STD))


def padded_crop(image, pad, rng):
    """A random crop of the image's own size out of it, zero-padded by ``pad`` on every side."""
    if not pad:
        return image
    height, width, channels = image.shape
    if pad > min(height, width):
        raise UserError(f"pad={pad}: expected at most the image's side, {min(height, width)}")
    wide = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    wide[pad : pad + height, pad : pad + width] = image
    top, left = rng.integers(0, 2 * pad + 1, size=2)
    return wide[top : top + height, left : left + width]
