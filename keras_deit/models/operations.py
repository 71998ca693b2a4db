"""The operations of a DeiT between its matrix products, each in its fastest form.

In training, TensorFlow would send each of them through memory a dozen times and keep every
intermediate result for the gradients: there they are those of ``tensorflow_operations.py``. JAX
compiles a step as a unit, and the operations of inference are fused into the matrix products: there
they are Keras' own. The results agree to rounding.
"""

import keras
from keras import ops

IN_TENSORFLOW = keras.backend.backend() == "tensorflow"
WIDE = 128  # numbers in a row, from which on calling XLA costs less than it saves

if IN_TENSORFLOW:
    from keras_deit.models import tensorflow_operations


def _is_compiled(x, training):
    """Whether XLA compiles an operation on the rows of ``x`` by itself."""
    return IN_TENSORFLOW and training and x.shape[-1] >= WIDE


def dense(x, kernel, bias, training):
    """``x @ kernel + bias``.

    Args:
        x: (..., inputs).
        kernel: (inputs, units), in the dtype of ``x``.
        bias: (units,), in the dtype of ``x``.
        training: bool.
    """
    if not IN_TENSORFLOW:
        return ops.matmul(x, kernel) + bias
    return tensorflow_operations.dense(x, kernel, bias, training)


def dense_tiles(images, kernel, bias):
    """``dense``, for training, of each square tile of an image.

    Args:
        images: (batch, height, width, channels).
        kernel: (side, side, channels, units).
        bias: (units,).

    Returns:
        (batch, height // side, width // side, units).
    """
    _, height, width, channels = images.shape
    side, _, _, units = kernel.shape
    rows, columns = height // side, width // side

    tiles = ops.reshape(images, (-1, rows, side, columns, side, channels))
    tiles = ops.transpose(tiles, (0, 1, 3, 2, 4, 5))
    tiles = ops.reshape(tiles, (-1, rows, columns, side * side * channels))
    return dense(tiles, ops.reshape(kernel, (-1, units)), bias, training=True)


def gelu(x, training):
    """The exact GELU, x times the standard normal distribution function of x."""
    if _is_compiled(x, training):
        return tensorflow_operations.gelu(x)
    return ops.gelu(x, approximate=False)


def attention_weights(scores, scale, training):
    """The softmax of ``scores * scale`` over the last axis, in float32 under every dtype policy.

    Returns:
        A tensor of the shape of ``scores``: float32, or in training the dtype of ``scores``.
    """
    if _is_compiled(scores, training):
        return tensorflow_operations.attention_weights(scores, scale)
    weights = ops.softmax(ops.cast(scores, "float32") * scale)
    return ops.cast(weights, scores.dtype) if training else weights


def layer_norm(x, scale, shift, epsilon, training):
    """Layer normalization over the last axis, computed in float32.

    Args:
        x: (..., width).
        scale: float32 (width,).
        shift: float32 (width,).
        epsilon: float. Added to the variance.
        training: bool.

    Returns:
        A tensor of the shape and dtype of ``x``.
    """
    if _is_compiled(x, training):
        return tensorflow_operations.layer_norm(x, scale, shift, epsilon)
    return ops.cast(ops.layer_normalization(x, scale, shift, -1, epsilon), x.dtype)
