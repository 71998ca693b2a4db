"""Where no gradients are needed."""

import contextlib

import keras


def without_gradients():
    """A context in which PyTorch keeps nothing for gradients, as it otherwise does for every layer.
    Other backends keep nothing that is not needed, and have no such context.

    Example:
        >>> import keras
        >>> from keras_deit.utils.gradients import without_gradients
        >>> with without_gradients():
        ...     print(float(keras.ops.sum([1.0, 2.0])))
        3.0
    """
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()
