"""Soft distillation takes logits: a teacher of probabilities is refused, however it makes them."""

import keras
import pytest
from keras import ops

import keras_deit as kd


def convnet(end):
    """A functional teacher that ends in a function or layer."""
    images = keras.Input((24, 16, 3))
    logits = keras.layers.Dense(5)(keras.layers.GlobalAveragePooling2D()(images))
    return keras.Model(images, end(logits), name="convnet")


class Subclassed(keras.Model):
    """A teacher whose end no layer shows."""

    def __init__(self, end):
        super().__init__()
        self.pool = keras.layers.GlobalAveragePooling2D()
        self.dense = keras.layers.Dense(5)
        self.end = end

    def call(self, images):
        return self.end(self.dense(self.pool(images)))


class Custom(keras.layers.Layer):
    def call(self, logits):
        return ops.exp(logits) / ops.sum(ops.exp(logits), axis=-1, keepdims=True)


PROBABILITIES = {
    "operation": lambda: convnet(ops.softmax),
    "activation function": lambda: convnet(keras.activations.softmax),
    "activation": lambda: convnet(keras.layers.Activation("softmax")),
    "own activation": lambda: convnet(keras.layers.Activation(lambda x: ops.softmax(x))),
    "own layer": lambda: convnet(Custom()),
    "nested": lambda: keras.Sequential([keras.Input((24, 16, 3)), convnet(ops.softmax)]),
    "subclassed": lambda: Subclassed(ops.softmax),
}
LOGITS = {
    "linear": lambda: convnet(keras.layers.Activation("linear")),
    "log-softmax": lambda: convnet(ops.log_softmax),
    "subclassed": lambda: Subclassed(ops.log_softmax),
    "adapted": lambda: kd.adapt(convnet(ops.softmax), (24, 16), probabilities=True),
}


@pytest.mark.parametrize("teacher", PROBABILITIES.values(), ids=PROBABILITIES)
def test_a_teacher_of_probabilities_is_refused(tiny, teacher):
    with pytest.raises(kd.UserError, match=r"ends in a softmax.*: use keras_deit\.adapt"):
        kd.Distillation(teacher(), "soft").check(tiny)


@pytest.mark.parametrize("teacher", LOGITS.values(), ids=LOGITS)
def test_a_teacher_of_logits_is_accepted(tiny, teacher):
    kd.Distillation(teacher(), "soft").check(tiny)
