"""Keras' layers in a form that is faster in training and keeps its LoRA adapter in files.

Keras names some groups of a ``.weights.h5`` file by a layer's class: these keep Keras' names.
"""

import keras
from keras import ops

from keras_deit.models import operations
from keras_deit.models.lora import Adaptable


@keras.saving.register_keras_serializable("keras_deit")
class Dense(Adaptable, keras.layers.Dense):
    """Keras' dense layer, with a bias."""

    def call(self, inputs, training=None):
        kernel, bias = (ops.cast(x, self.compute_dtype) for x in (self.kernel, self.bias))
        return self.activation(operations.dense(inputs, kernel, bias, training))

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras' own refuses subclasses, as they may compute something else. This one does not.
        super().quantize(mode, type_check=False, config=config)


@keras.saving.register_keras_serializable("keras_deit")
class Conv2D(Adaptable, keras.layers.Conv2D):
    """Keras' convolution."""

    def call(self, inputs, training=None):
        if not (training and self._has_tiles(inputs)):
            return super().call(inputs)

        # The gradient of a large kernel costs a convolution ten times that of a matrix product.
        kernel, bias = (ops.cast(x, self.compute_dtype) for x in (self.kernel, self.bias))
        return operations.dense_tiles(inputs, kernel, bias)

    def _has_tiles(self, inputs):
        """Whether the kernel is laid over the images without overlaps, gaps and remainders."""
        side = self.kernel_size[0]
        return (
            side > 1
            and self.kernel_size == self.strides == (side, side)
            and self.use_bias
            and not any(size % side for size in inputs.shape[1:3])
        )


@keras.saving.register_keras_serializable("keras_deit")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer normalization over the last axis."""

    def call(self, inputs, training=None):
        return operations.layer_norm(inputs, self.gamma, self.beta, self.epsilon, training)
