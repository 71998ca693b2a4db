"""Compiled inference."""

import keras
import numpy as np
import pytest

from keras_deit.evaluation import predictor
from tests.programs.clusters import environment, run_together


def images(count):
    return np.random.default_rng(count).normal(size=(count, 24, 16, 3)).astype("float32")


def test_logits_are_those_of_the_model_for_any_batch_size(tiny):
    predict = predictor(tiny)
    for count in (3, 5, 1):
        heads = predict(images(count))
        assert len(heads) == 2
        for head, expected in zip(heads, tiny.logits(images(count)), strict=True):
            assert isinstance(head, np.ndarray)
            np.testing.assert_allclose(head, np.array(expected), rtol=1e-5, atol=1e-6)


def test_weights_are_those_of_the_model_at_the_call(tiny):
    predict = predictor(tiny)
    before = predict(images(2))[0]
    tiny.head.bias.assign_add(keras.ops.ones(5))
    np.testing.assert_allclose(predict(images(2))[0], before + 1, rtol=1e-5)


def test_other_functions_of_the_model_are_compiled_too(tiny):
    (tokens,) = predictor(tiny, lambda images: [tiny.features(images)])(images(2))
    np.testing.assert_allclose(tokens, np.array(tiny.features(images(2))), rtol=1e-4, atol=1e-5)


def test_any_keras_classifier_has_one_head():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    (logits,) = predictor(model)(np.ones((4, 3), "float32"))
    np.testing.assert_allclose(logits, np.array(model(np.ones((4, 3)))), rtol=1e-6)


SEVERAL_DEVICES = """
import keras
import numpy as np
import keras_deit as kd
from keras_deit.distribution import Strategy
from tests.evaluation.test_inference import images

strategy = Strategy({"tensorflow": "mirrored", "jax": "auto"}[keras.backend.backend()])
with strategy.scope():
    assert strategy.device_count == 2
    model = kd.DeiT((24, 16), patch_size=8, width=12, depth=1, heads=3, num_classes=5)
expected = [np.array(head) for head in model.logits(images(4))]
predict = kd.evaluation.predictor(model)
for count in (3, 4, 1):
    for head, logits in zip(predict(images(4)[:count]), expected, strict=True):
        np.testing.assert_allclose(head, logits[:count], rtol=1e-4, atol=1e-5)
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["tensorflow", "jax"])
def test_images_are_split_over_two_devices(forks, backend):
    """In a separate process, whose CPU is two devices."""
    command = ["-c", SEVERAL_DEVICES], environment(backend, devices=2)
    (done,) = run_together(forks, [command])
    assert not done.returncode, done.stderr[-2000:]
