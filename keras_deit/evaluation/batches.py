"""What ``evaluate`` takes, arrays and datasets of any kind, as batches of numpy arrays."""

import keras
import numpy as np
from keras import ops

from keras_deit.utils.errors import UserError

BATCH_SIZE = 256  # of arrays


def labeled_batches(batches):
    """Yields (images, labels, weights), numpy arrays; weights (batch,), or None.

    Args:
        batches: as ``evaluate`` takes them.

    Raises:
        UserError: a batch is not images, labels and perhaps weights, as many of each.
    """
    for batch in _batches(batches):
        if not isinstance(batch, (tuple, list)) or len(batch) not in (2, 3):
            kind = f"{len(batch)} arrays" if isinstance(batch, (tuple, list)) else type(batch)
            raise UserError(
                f"a batch of {kind}: expected images and labels, or images, labels and weights"
            )

        images, labels, weights = map(_array, (*batch, None)[:3])
        if weights is not None and weights.size == len(images):
            weights = weights.reshape(-1)  # Keras takes (batch, 1) too

        sizes = [len(array) for array in (images, labels, weights) if array is not None]
        if len(set(sizes)) > 1 or (weights is not None and weights.ndim != 1):
            shapes = ", ".join(
                str(array.shape) for array in (images, labels, weights) if array is not None
            )
            raise UserError(
                f"a batch of shapes {shapes}: expected one label for each image, and one weight if"
                " there are weights"
            )
        yield images, labels, weights


def _batches(batches):
    """An iterable of batches, of anything that ``evaluate`` takes."""
    # Python would iterate over it without end.
    if isinstance(batches, keras.utils.PyDataset):
        return (batches[number] for number in range(batches.num_batches))

    # Arrays, not a sequence of batches.
    if isinstance(batches, (tuple, list)) and batches and all(map(_is_array, batches)):
        count = len(batches[0])
        return (
            [array[first : first + BATCH_SIZE] for array in batches]
            for first in range(0, count, BATCH_SIZE)
        )
    if not hasattr(batches, "__iter__"):
        raise UserError(f"{type(batches).__name__}: expected images and labels, or batches of them")
    return batches


def _is_array(value):
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _array(value):
    if value is None or isinstance(value, np.ndarray):
        return value
    return ops.convert_to_numpy(value) if _is_array(value) else np.asarray(value)
