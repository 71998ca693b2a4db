"""The operations of training are those of inference: values and gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_deit.models import operations
from keras_deit.models.keras_layers import Conv2D, Dense, LayerNormalization

RNG = np.random.default_rng(0)
WIDTH = operations.WIDE
X = RNG.normal(size=(2, 5, WIDTH)).astype("float32")
KERNEL = RNG.normal(size=(WIDTH, 4)).astype("float32")
VECTORS = RNG.normal(size=(2, WIDTH)).astype("float32")
IMAGES = RNG.normal(size=(2, 8, 12, 3)).astype("float32")
TILES = RNG.normal(size=(4, 4, 3, 5)).astype("float32")

# Name -> (operation(training, *inputs), inputs).
OPERATIONS = {
    "dense": (
        lambda training, x, kernel, bias: operations.dense(x, kernel, bias, training),
        (X, KERNEL, VECTORS[0, :4]),
    ),
    "gelu": (lambda training, x: operations.gelu(x, training), (3 * X,)),
    "attention_weights": (
        lambda training, x: operations.attention_weights(x, 0.3, training),
        (9 * X,),
    ),
    "layer_norm": (
        lambda training, x, *vectors: operations.layer_norm(x, *vectors, 1e-6, training),
        (X + 7, *VECTORS),
    ),
    "dense_tiles": (
        lambda training, x, kernel, bias: (
            operations.dense_tiles(x, kernel, bias)
            if training
            else keras.ops.conv(x, kernel, 4, data_format="channels_last") + bias
        ),
        (IMAGES, TILES, VECTORS[0, :5]),
    ),
}


@pytest.mark.parametrize("compiled", [False, True], ids=["eager", "graph"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_values_and_gradients_in_training_are_those_of_inference(name, compiled):
    operation, inputs = OPERATIONS[name]

    def run(training):
        def values_and_gradients(*tensors):
            with tf.GradientTape() as tape:
                tape.watch(tensors)
                y = operation(training, *tensors)
                weights = tf.reshape(tf.cos(tf.range(tf.size(y), dtype=tf.float32)), tf.shape(y))
                loss = tf.reduce_sum(weights * y)
            return y, *tape.gradient(loss, tensors)

        function = tf.function(values_and_gradients) if compiled else values_and_gradients
        return function(*map(tf.constant, inputs))

    for in_training, in_inference in zip(run(True), run(False), strict=True):
        scale = np.abs(in_inference).max()
        np.testing.assert_allclose(in_training, in_inference, rtol=0, atol=2e-6 * scale)


@pytest.mark.parametrize("name", ["gelu", "attention_weights", "layer_norm"])
def test_bfloat16_is_rounded_once(name):
    operation, (x, *others) = OPERATIONS[name]
    rounded = tf.cast(x, tf.bfloat16)
    exact = operation(False, tf.cast(rounded, tf.float32), *others)
    training = operation(True, rounded, *others)

    assert training.dtype == tf.bfloat16
    # Half a unit in the last of eight places; the tails of the GELU cancel, as PyTorch's do.
    np.testing.assert_allclose(tf.cast(training, tf.float32), exact, rtol=2**-8, atol=2e-6)


@pytest.mark.parametrize(
    ("layer", "inputs"),
    [
        (Dense(4, activation="relu"), X),
        (Dense(4), X[0]),
        (Conv2D(5, 4, strides=4, data_format="channels_last"), IMAGES),
        (Conv2D(5, 4, strides=4, data_format="channels_last"), IMAGES[:, :7]),
        (Conv2D(5, 3, strides=2, data_format="channels_last"), IMAGES),
        (LayerNormalization(epsilon=1e-6), X),
    ],
    ids=["relu", "rows", "tiles", "remainder", "overlap", "norm"],
)
def test_layers_are_those_of_keras(layer, inputs):
    layer.build(inputs.shape)
    for variable in layer.variables:
        variable.assign(RNG.normal(size=variable.shape))
    original = type(layer).__mro__[2 if isinstance(layer, Dense | Conv2D) else 1]
    expected = original.from_config(layer.get_config())
    expected.build(inputs.shape)
    expected.set_weights(layer.get_weights())

    for training in (False, True):
        y = layer(inputs, training=training)
        np.testing.assert_allclose(y, expected(inputs), rtol=0, atol=1e-5)
