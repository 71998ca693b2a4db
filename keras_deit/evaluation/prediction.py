"""What a model sees in image files."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_deit.data.decode import decode
from keras_deit.data.transforms import evaluation_view
from keras_deit.evaluation.inference import predictor
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import height_and_width

BATCH = 32


def predict(model, paths, image_size=None, crop=0.875):
    """Probabilities of the classes for each image, the softmax of the heads' mean logits.

    Args:
        model: a ``DeiT`` or ``RegNetY``.
        paths: image files.
        image_size: pixels, an int or (height, width); None is the model's own.
        crop: the share of an image's side that is seen.

    Yields:
        (path, image, probabilities): the image as the model sees it, float32 (height, width, 3),
        normalised, and float32 (num_classes,); or (path, None, why it cannot be read).

    Raises:
        UserError: the model has no size of its own, and there is no ``image_size``.
    """
    size = image_size or getattr(model, "image_size", None)
    if size is None:
        raise UserError("a model of images of any size: expected image_size, in pixels")
    size, heads = height_and_width(size), predictor(model)

    def seen(path):
        try:
            return evaluation_view(decode(path.read_bytes()), size, crop)
        except OSError as error:
            return error.strerror
        except UserError as error:
            return str(error)

    rest = iter(paths)
    with ThreadPoolExecutor() as pool:
        while batch := list(itertools.islice(rest, BATCH)):
            views = list(pool.map(seen, batch))
            images = [view for view in views if not isinstance(view, str)]
            shares = iter(_softmax(heads(np.stack(images))) if images else ())
            for path, view in zip(batch, views, strict=True):
                bad = isinstance(view, str)
                yield (path, None, view) if bad else (path, view, next(shares))


def _softmax(heads):
    logits = sum(heads) / len(heads)
    shares = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return shares / shares.sum(axis=-1, keepdims=True)


def names(model):
    """What to call a model's classes: their names, or "class 0" and so on."""
    return model.class_names or tuple(f"class {i}" for i in range(model.num_classes))
