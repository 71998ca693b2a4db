"""Images to calibrate int8 files with, and to compare files on."""

import warnings

import numpy as np

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data import datasets
from keras_deit.data.reading import read_images
from keras_deit.data.transforms import evaluation_view
from keras_deit.utils.errors import UserError


def sample_images(
    dataset, split, count, data_dir=None, size=(224, 224), crop=0.875, preprocessing=IMAGENET
):
    """Images of a dataset, evenly spaced in its order. Unreadable ones are skipped with a warning.

    Args:
        dataset, split, data_dir: see ``datasets.load``.
        count: int. Number of images, at most.
        size: (height, width), in pixels. Default (224, 224).
        crop: float in [0.05, 1]. Center-crop ratio. Default 0.875.
        preprocessing: ``Preprocessing`` of the model that gets the images. Default: ImageNet's.

    Returns:
        float32 (images, height, width, 3), normalized.

    Raises:
        UserError: none of these images can be read.
    """
    data = datasets.load(dataset, split, data_dir, preprocessing.upright)
    indices = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)

    def read(index):
        return evaluation_view(data[index][0], size, crop, preprocessing)

    images = []
    for _, image, reason in read_images(read, indices.tolist()):
        if image is None:
            warnings.warn(f"{reason}: skipped", stacklevel=2)
        else:
            images.append(image)

    if not images:
        raise UserError(f"{dataset} {split}: none of {len(indices)} images can be read")
    return np.stack(images)


def random_images(size, count, seed=0):
    """Normally distributed images, to compare files on if there are no others.

    Args:
        size: (height, width), in pixels.
        count: int. Number of images.
        seed: int. Default 0.

    Returns:
        float32 (count, height, width, 3), of mean 0 and standard deviation 1.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.exports.calibration import random_images
        >>> random_images((16, 24), 2).shape
        (2, 16, 24, 3)
    """
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *size, 3)).astype(np.float32)
