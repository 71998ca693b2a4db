"""``keras.RematScope``: the same training, with activations computed again for the gradients."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from tests.programs.clusters import environment

IMAGES = np.random.default_rng(0).normal(size=(4, 24, 16, 3)).astype("float32")
LABELS = np.eye(5, dtype="float32")[:4]
SCOPES = {
    "full": {},
    "larger_than": {"output_size_threshold": 1},
    "list_of_layers": {"layer_names": ["blocks.0"]},  # whose drop path has the rate 0
}
PROGRAM = """
from keras_deit.distribution import Strategy

strategy = Strategy({strategy!r})
assert strategy.device_count == 2
with strategy.scope():
    from tests.distillation import test_rematerialization as checks

    checks.check_the_same_weights(drop_path=0.0)
"""


def trained(mode, drop_path, **options):
    """A model after a step."""
    keras.utils.set_random_seed(0)
    with keras.RematScope(mode, **options):
        model = kd.DeiT(
            (24, 16), patch_size=8, width=12, depth=2, heads=3, num_classes=5, drop_path=drop_path
        )
        model.compile(keras.optimizers.SGD(1.0), kd.loss(), jit_compile=False)
        model.fit(IMAGES, LABELS, verbose=0)
    return model


def products(model):
    """The number of matrix products in the graph of a step."""
    batch = tf.constant(IMAGES), tf.constant(LABELS), None, tf.constant(4.0)
    graph = tf.function(model._gradients).get_concrete_function(*batch).graph
    return sum("MatMul" in operation.type for operation in graph.get_operations())


def check_the_same_weights(drop_path):
    """That every mode trains as without a scope. Returns the models by mode."""
    models = {None: trained(None, drop_path)}
    for mode, options in SCOPES.items():
        models[mode] = trained(mode, drop_path, **options)
        pairs = zip(models[mode].get_weights(), models[None].get_weights(), strict=True)
        for ours, expected in pairs:
            np.testing.assert_allclose(ours, expected, atol=1e-6)
    return models


@pytest.mark.slow
@pytest.mark.parametrize("drop_path", [0.0, 0.5])
def test_rematerialization_trains_to_the_same_weights(drop_path):
    models = check_the_same_weights(drop_path)
    counts = {mode: products(model) for mode, model in models.items()}
    assert all(counts[mode] > counts[None] for mode in SCOPES), counts


@pytest.mark.slow
@pytest.mark.parametrize(("backend", "strategy"), [("tensorflow", "mirrored"), ("jax", "auto")])
def test_rematerialization_on_two_devices(backend, strategy, forks):
    program = ["-c", PROGRAM.format(strategy=strategy)]
    done = forks.run(program, environ=environment(backend, devices=2))
    assert not done.returncode, done.stderr[-2000:]


@pytest.mark.slow
def test_wide_models_are_recomputed_in_mixed_precision():
    """Their layers have forms for training that take one dtype."""
    weights = {}
    for mode in (None, "full"):
        keras.utils.set_random_seed(0)
        with keras.RematScope(mode):
            model = kd.DeiT(
                (24, 16), 8, width=192, depth=1, heads=3, num_classes=5, dtype="mixed_bfloat16"
            )
        start = model.get_weights()
        model.compile(keras.optimizers.SGD(0.1), kd.loss(), jit_compile=False)
        model.fit(IMAGES, LABELS, verbose=0)
        weights[mode] = model.get_weights()

    for recomputed, kept, before in zip(weights["full"], weights[None], start, strict=True):
        assert np.linalg.norm(recomputed - kept) <= 0.02 * np.linalg.norm(kept - before)


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
