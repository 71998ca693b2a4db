"""Stochastic depth and dropout, which drop the same numbers compiled or not."""

import math

import keras
from keras import ops

from keras_deit.distribution import replicas
from keras_deit.models.stateless_random import uniform


@keras.saving.register_keras_serializable("keras_deit")
class DropPath(keras.layers.Layer):
    """Stochastic depth (Huang et al., 2016): in training, drops an image's whole residual branch
    with probability ``rate`` and divides the kept ones by ``1 - rate``.

    Args:
        rate: float in [0, 1).

    Example:
        >>> import numpy as np
        >>> from keras_deit.models.dropout import DropPath
        >>> branch = np.ones((1, 8, 12), "float32")
        >>> float(np.max(DropPath(0.5)(branch)))  # inference
        1.0
    """

    def __init__(self, rate, **kwargs):
        super().__init__(**kwargs)
        self.rate = rate
        self.seeds = keras.random.SeedGenerator()

    def build(self, input_shape):
        pass

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        # One number per image; each replica draws different numbers.
        keep = uniform(ops.shape(x)[0], self.seeds.next(), replicas.index()) >= self.rate
        keep = ops.reshape(ops.cast(keep, x.dtype), (-1,) + (1,) * (len(x.shape) - 1))
        return x * (keep / (1 - self.rate))

    def compute_output_shape(self, input_shape):
        return input_shape

    def get_config(self):
        return {**super().get_config(), "rate": self.rate}


@keras.saving.register_keras_serializable("keras_deit")
class Dropout(DropPath):
    """In training, drops single numbers with probability ``rate`` and divides the kept ones by
    ``1 - rate``. Unlike Keras' layer it drops the same ones under XLA.

    Args:
        rate: float in [0, 1).
    """

    def call(self, x, training=False):
        if not training or not self.rate:
            return x
        shape = ops.shape(x)
        count = math.prod(shape[1:]) * shape[0]
        keep = uniform(count, self.seeds.next(), replicas.index()) >= self.rate
        return x * ops.reshape(ops.cast(keep, x.dtype), shape) / (1 - self.rate)
