"""Predictions for image files."""

import itertools
import pathlib

import numpy as np

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data.decode import decode
from keras_deit.data.reading import read_images
from keras_deit.data.transforms import evaluation_view
from keras_deit.evaluation.inference import predictor
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import height_and_width

BATCH_SIZE = 32


def predict(model, paths, image_size=None, crop=0.875):
    """Class probabilities of each image: the softmax of the mean of the heads' logits.

    Args:
        model: an ``ImageClassifier``.
        paths: iterable of str or path. The image files.
        image_size: int or (height, width), in pixels. Default: the model's own.
        crop: float in [0.05, 1]. Center-crop ratio. Default 0.875.

    Yields:
        (path, image, probabilities) in the order of ``paths``. The image is as the model gets it:
        float32 (height, width, 3), turned and normalized as its ``preprocessing`` says. The
        probabilities are float32 (num_classes,). For a file that cannot be read it is (path, None,
        reason), the reason a str.

    Raises:
        UserError: the model takes images of any size, and no ``image_size`` is given.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.evaluation.prediction import predict
        >>> model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
        >>> for path, image, probabilities in predict(model, ["none.png"]):
        ...     print(path, image, probabilities)
        none.png None No such file or directory
    """
    size = image_size or getattr(model, "image_size", None)
    if size is None:
        raise UserError(f"{model.name} takes images of any size: give image_size, in pixels")
    size = height_and_width(size)
    preprocessing = getattr(model, "preprocessing", IMAGENET)
    predict_logits = predictor(model)

    def read(path):
        image = decode(pathlib.Path(path).read_bytes(), preprocessing.upright)
        return evaluation_view(image, size, crop, preprocessing)

    images = read_images(read, paths)
    while batch := list(itertools.islice(images, BATCH_SIZE)):
        readable = [image for _, image, _ in batch if image is not None]
        heads = predict_logits(np.stack(readable)) if readable else []
        probabilities = iter(_mean_softmax(heads) if heads else ())

        for path, image, reason in batch:
            if image is None:
                yield path, None, reason
            else:
                yield path, image, next(probabilities)


def _mean_softmax(heads):
    """The softmax of the mean of the heads' logits."""
    logits = sum(heads) / len(heads)
    # Without the shift the exponential of large logits overflows.
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return exponentials / exponentials.sum(axis=-1, keepdims=True)
