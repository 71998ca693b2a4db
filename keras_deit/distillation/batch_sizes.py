"""The sizes of the batches that ``fit`` makes of its data, before it makes them."""

import math

KERAS_BATCH_SIZE = 32  # of arrays, if ``fit`` is given none


def batch_sizes(data, batch_size=None, validation_split=0.0):
    """The different sizes of the batches of an epoch.

    Args:
        data: the ``x`` of ``fit``.
        batch_size: int or None. Its ``batch_size``, for arrays.
        validation_split: float. The fraction of arrays that is not trained on. Default 0.

    Returns:
        A set of one or two integers; an empty one if the sizes are not known.

    Example:
        >>> import numpy as np
        >>> from keras_deit.distillation.batch_sizes import batch_sizes
        >>> sorted(batch_sizes(np.zeros((10, 2)), batch_size=4))
        [2, 4]
    """
    if hasattr(data, "element_spec"):  # of tf.data, which any backend takes
        from keras_deit.utils.tensorflow_private import rows_and_batch_size

        rows, batch_size = rows_and_batch_size(data) or (0, 1)
    elif hasattr(data, "shape"):
        rows = math.floor(data.shape[0] * (1 - validation_split))
        batch_size = batch_size or KERAS_BATCH_SIZE
    else:
        return set()

    return {min(rows, batch_size), rows % batch_size} - {0}
