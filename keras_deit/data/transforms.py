"""From images to what the model sees. Each function is pure in its image and its generator.

``training_view`` takes from the generator, in this order: the crop, whether to flip, RandAugment's
operations, erasing.
"""

import functools

import cv2
import numpy as np

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data import randaugment
from keras_deit.data.boxes import BoxSampler
from keras_deit.data.erasing import erase
from keras_deit.data.resizing import resize, resize_fast, resize_part
from keras_deit.utils.errors import UserError

# torchvision's RandomResizedCrop.
CROPS = BoxSampler(
    area=(0.08, 1),
    aspect=(3 / 4, 4 / 3),
    aspect_is="width/height",
    smallest=1,
    margin=0,
)


def training_view(
    image,
    size,
    rng,
    *,
    pad=None,
    flip=0.5,
    rand_augment=True,
    erasing=0.25,
    out=None,
    preprocessing=IMAGENET,
):
    """A view of an image as DeiT was trained on: crop, flip, RandAugment, erasing.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the view, in pixels.
        rng: a numpy generator.
        pad: int. Instead of a random resized crop, resize the image to ``size`` and crop it from a
            border of so many black pixels, as is usual for small images. Default: None.
        flip: float in [0, 1]. Probability of a horizontal flip. Default 0.5.
        rand_augment: bool. Whether RandAugment is applied. Default True.
        erasing: float in [0, 1]. Probability of random erasing. Default 0.25.
        out: float32 array of the view's shape to write it to. Default: a new one.
        preprocessing: ``Preprocessing``. Normalizes the view. Default: ImageNet's.

    Returns:
        float32 (height, width, 3), normalized.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.transforms import training_view
        >>> image = np.zeros((30, 40, 3), np.uint8)
        >>> view = training_view(image, (16, 16), np.random.default_rng(0))
        >>> view.shape, view.dtype
        ((16, 16, 3), dtype('float32'))
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
    return erase(normalize(image, out, preprocessing), erasing, rng)


def evaluation_view(image, size, crop, preprocessing=IMAGENET):
    """The center crop of an image, whatever its size.

    The image is resized, keeping its aspect ratio, until it just covers int(size / crop); of that
    the middle ``size`` is cut out. Sizes and offsets are rounded as torchvision and timm do.

    Args:
        image: uint8 (height, width, 3).
        size: (height, width) of the view, in pixels.
        crop: float from 0.05 to 1. The center-crop ratio.
        preprocessing: ``Preprocessing``. Normalizes the view. Default: ImageNet's.

    Returns:
        float32 (height, width, 3), normalized.

    Raises:
        UserError: ``crop`` is out of range.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.transforms import evaluation_view
        >>> evaluation_view(np.zeros((30, 40, 3), np.uint8), (16, 16), crop=0.875).shape
        (16, 16, 3)
    """
    check_crop(crop)
    sides = image.shape[:2]
    covered = [int(side / crop) for side in size]

    if covered[0] == covered[1]:  # torchvision's Resize
        resized = [int(covered[0] * side / min(sides)) for side in sides]
    else:  # timm's ResizeKeepRatio
        scale = min(side / target for side, target in zip(sides, covered, strict=True))
        resized = [round(side / scale) for side in sides]

    top, left = (round((side - kept) / 2) for side, kept in zip(resized, size, strict=True))
    image = resize_part(image, resized, (top, left, *size))
    return normalize(image, None, preprocessing)


def check_crop(crop):
    """Raises UserError if ``crop`` is no center-crop ratio."""
    if not 0.05 <= crop <= 1:
        raise UserError(f"crop {crop}: expected a center-crop ratio from 0.05 to 1")


def random_box(height, width, rng):
    """The box of a random resized crop, torchvision's ``RandomResizedCrop``.

    Args:
        height, width: ints. The image's size in pixels.
        rng: a numpy generator.

    Returns:
        (top, left, height, width) in pixels. If no random box fits, the middle of the image,
        clipped to the range of aspect ratios.
    """
    box = CROPS.sample(height, width, rng)
    if box is not None:
        return box

    narrowest, widest = CROPS.aspect
    rows = min(height, round(width / narrowest))
    columns = min(width, round(height * widest))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


def normalize(images, out=None, preprocessing=IMAGENET):
    """Normalizes images by a mean and standard deviation.

    Args:
        images: uint8 (..., 3).
        out: float32 array of the same shape to write to, which saves allocating memory; that costs
            more than the arithmetic. Default: a new one.
        preprocessing: ``Preprocessing``. Default: ImageNet's.

    Returns:
        float32 array of the same shape.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.transforms import normalize
        >>> normalize(np.full((1, 1, 3), 255, np.uint8)).round(2)
        array([[[2.25, 2.43, 2.64]]], dtype=float32)
    """
    if out is None:
        out = np.empty(images.shape, np.float32)
    flat = -1, images.shape[-2], 3  # OpenCV takes two dimensions and channels
    matrix = _matrix(preprocessing)
    cv2.transform(images.astype(np.float32).reshape(flat), matrix, dst=out.reshape(flat))
    return out


@functools.cache
def _matrix(preprocessing):
    """float32 (3, 4): a matrix that scales each channel, and a column that is added."""
    mean, std = np.array(preprocessing.mean), np.array(preprocessing.std)
    return np.float32(np.column_stack([np.diag(1 / (255 * std)), -mean / std]))


def padded_crop(image, pad, rng):
    """A random crop of the image's own size, after padding every side with ``pad`` black pixels.

    Args:
        image: uint8 (height, width, channels).
        pad: int, in pixels. At most the image's shorter side.
        rng: a numpy generator.

    Returns:
        uint8 (height, width, channels).

    Raises:
        UserError: ``pad`` is too large.
    """
    if not pad:
        return image
    height, width, channels = image.shape
    if pad > min(height, width):
        raise UserError(f"pad={pad}: expected at most the image's side, {min(height, width)}")

    padded = np.zeros((height + 2 * pad, width + 2 * pad, channels), image.dtype)
    padded[pad : pad + height, pad : pad + width] = image

    top, left = rng.integers(0, 2 * pad + 1, size=2)
    return padded[top : top + height, left : left + width]
