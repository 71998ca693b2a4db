"""``keras.RematScope``: the same training, with activations computed again for the gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd

IMAGES = np.random.default_rng(0).normal(size=(4, 24, 16, 3)).astype("float32")
LABELS = np.eye(5, dtype="float32")[:4]
SCOPES = {
    "full": {},
    "larger_than": {"output_size_threshold": 1},
    "list_of_layers": {"layer_names": ["blocks.0"]},  # whose drop path has the rate 0
}


def trained(mode, drop_path, **options):
    """The weights after a step, and the number of matrix products in its graph."""
    keras.utils.set_random_seed(0)
    with keras.RematScope(mode, **options):
        model = kd.DeiT(
            (24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=5, drop_path=drop_path
        )
        model.compile(keras.optimizers.SGD(1.0), kd.loss(), jit_compile=False)
        model.fit(IMAGES, LABELS, verbose=0)

        batch = tf.constant(IMAGES), tf.constant(LABELS), None, tf.constant(4.0)
        graph = tf.function(model._gradients).get_concrete_function(*batch).graph
    return model.get_weights(), sum(
        "MatMul" in operation.type for operation in graph.get_operations()
    )


@pytest.mark.slow
@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_rematerialization_trains_to_the_same_weights(drop_path):
    expected, products = trained(None, drop_path)
    for mode, options in SCOPES.items():
        weights, more_products = trained(mode, drop_path, **options)
        for ours, other in zip(weights, expected, strict=True):
            np.testing.assert_allclose(ours, other, atol=1e-6)
        assert more_products > products, mode


def test_a_named_layer_with_random_numbers_is_refused():
    with pytest.raises(kd.UserError, match=r"cannot recompute layer blocks\.1, which draws random"):
        trained("list_of_layers", 0.5, layer_names=["blocks.1"])


def test_keras_still_needs_our_rematerialized_call():
    """When this fails, Keras does it right, and ``make_rematerializable`` can go."""
    with keras.RematScope("full"):
        layers = [keras.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.0)]
        model = keras.Sequential(layers)
        model.compile("sgd", "mse", jit_compile=False)
        with pytest.raises(ValueError, match="supports keywords arguments only when eager"):
            model.fit(np.zeros((4, 3)), np.zeros((4, 2)), verbose=0)
