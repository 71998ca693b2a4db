"""Images to what the model sees. Each is a pure function of image and generator.

``training_view`` takes from the generator, in this order: the crop, whether to flip, RandAugment's
operations, erasing.
"""

import math

import cv2
import numpy as np

from keras_deit.configs.variants import MEAN, STD
from keras_deit.data import randaugment
from keras_deit.data.erasing import erase
from keras_deit.data.resizing import resize, resize_fast
from keras_deit.utils.errors import UserError

AREA = (0.08, 1)  # of a random crop in the image, uniform
ASPECT = (3 / 4, 4 / 3)  # width to height, log-uniform
TRIES = 10


def training_view(
    image, size, rng, *, pad=None, flip=0.5, rand_augment=True, erasing=0.25, out=None
):
    """A view of an image as DeiT was trained on: crop, flip, RandAugment, erasing.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the view.
        rng: a numpy generator.
        pad: None crops at random, ``random_box``; a number of pixels brings the image to ``size``
            and crops it from a border of so many zeros, as is usual for small images.
        flip, erasing: probabilities of a horizontal flip and of random erasing.
        rand_augment: whether RandAugment is applied.
        out: None, or a float32 array of the view's shape to write it to.

    Returns:
        float32 (height, width, 3), normalised.
    """
    if pad is None:
        top, left, height, width = random_box(*image.shape[:2], rng)
        image = resize_fast(image[top : top + height, left : left + width], size)
    else:
        if image.shape[:2] != tuple(size):
            image = resize(image, size)
        image = padded_crop(image, pad, rng)
    if rng.random() < flip:
        image = cv2.flip(image, 1)
    if rand_augment:
        image = randaugment.apply(image, randaugment.draw(rng))
    return erase(normalize(image, out), erasing, rng)


def evaluation_view(image, size, crop):
    """The middle of an image, whatever its size.

    The image is resized, keeping its shape, until it just covers int(size / crop); of that the
    middle ``size`` is cut out. Sizes and offsets are rounded as torchvision and timm do.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of what is returned.
        crop: the share of the side that is kept, more than 0 and at most 1.

    Returns:
        float32 (height, width, 3), normalised.
    """
    check_crop(crop)
    sides, least = image.shape[:2], [int(side / crop) for side in size]
    if least[0] == least[1]:  # torchvision's Resize
        whole = [int(least[0] * side / min(sides)) for side in sides]
    else:  # timm's ResizeKeepRatio
        scale = min(side / wanted for side, wanted in zip(sides, least, strict=True))
        whole = [round(side / scale) for side in sides]
    top, left = (round((side - kept) / 2) for side, kept in zip(whole, size, strict=True))
    image = resize(image, whole)
    return normalize(image[top : top + size[0], left : left + size[1]])


def check_crop(crop):
    """Raises UserError where ``crop`` is no share of an image's side."""
    if not 0.05 <= crop <= 1:
        raise UserError(f"crop {crop}: expected a share, from 0.05 to 1")


def random_box(height, width, rng):
    """(top, left, height, width) in pixels of a random part of an image of that size: torchvision's
    ``RandomResizedCrop``. Where no try fits, the middle, clipped to the aspects."""
    for _ in range(TRIES):
        area, aspect, down, right = rng.random(4).tolist()
        area = (AREA[0] + (AREA[1] - AREA[0]) * area) * height * width
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        rows, columns = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 0 < rows <= height and 0 < columns <= width:
            top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
            return top, left, rows, columns
    rows = min(height, round(width / ASPECT[0]))
    columns = min(width, round(height * ASPECT[1]))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def normalize(images, out=None):
    """uint8 (..., 3) to float32 of the same shape, by ImageNet's mean and standard deviation;
    written to ``out`` where one is given, which saves an image's memory, dearer than the sum."""
    out = np.empty(images.shape, np.float32) if out is None else out
    flat = -1, images.shape[-2], 3
    cv2.transform(images.astype(np.float32).reshape(flat), _NORMALIZE, dst=out.reshape(flat))
    return out


_SCALE = 1 / (255 * np.array(STD))
_NORMALIZE = np.float32(np.column_stack([np.diag(_SCALE), -np.array(MEAN) / np.array(STD)]))


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
