"""The learning rate schedule, and which variables weight decay applies to."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.training.from_recipe import learning_rate
from tests.conftest import recipe


def test_the_schedule_matches_timm(golden):
    schedule = kd.WarmupCosine(2e-3, 40, 5)
    ours = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(ours, golden("schedule")["rates"], rtol=1e-5)
    assert float(schedule(1000)) == np.float32(1e-5)
    assert kd.WarmupCosine.from_config(schedule.get_config()).get_config() == schedule.get_config()


def test_the_learning_rate_scales_with_the_batch():
    assert learning_rate(recipe("digits_none", "lr=0.001", "batch_size=1024")) == 0.002


def test_weight_decay_skips_the_variables_of_the_published_code(tiny):
    adamw = kd.optimizer(recipe(), steps_per_epoch=3)
    adamw.build(tiny.trainable_weights)
    for variable in tiny.trainable_weights:
        excluded = len(variable.shape) == 1 or variable.name in ("pos_embed", "cls_token")
        # Inside a step Keras asks with TensorFlow's own variable, which has another name.
        assert adamw.decays(variable.value) is not excluded, variable.path
    optimizer = kd.optimizer(recipe("digits_hard", "no_decay=dist_token"), steps_per_epoch=3)
    optimizer.build(tiny.trainable_weights)
    assert not optimizer.decays(tiny.tokens.dist_token)


def test_weight_decay_of_regnety_is_on_kernels_only():
    model = kd.build("regnety_digits")
    adamw = kd.optimizer(recipe(), steps_per_epoch=3)
    adamw.build(model.trainable_weights)
    for variable in model.trainable_weights:
        assert adamw.decays(variable) is (len(variable.shape) > 1), variable.path


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["adamw", "sgd", "lamb"])
def test_an_optimizer_is_recreated_from_its_config(kind, tiny):
    settings = [f"optimizer={kind}", "weight_decay=0.3", "clip_norm=2.0", "ema=0.9"]
    original = kd.optimizer(recipe("digits_hard", *settings), steps_per_epoch=3)

    kept = keras.optimizers.deserialize(keras.optimizers.serialize(original))
    again = type(original).from_config(original.get_config())
    gradients = [keras.random.normal(v.shape, seed=3) for v in tiny.trainable_variables]
    start = tiny.get_weights()
    results = []
    for optimizer in (original, again, kept):
        assert type(optimizer) is type(original)
        assert optimizer.get_config() == original.get_config()
        tiny.set_weights(start)
        for _ in range(2):
            optimizer.apply(gradients, tiny.trainable_variables)
        results.append(tiny.get_weights())
    assert max(np.abs(x - y).max() for x, y in zip(start, results[0], strict=True)) > 0
    for result in results[1:]:
        for one, other in zip(results[0], result, strict=True):
            np.testing.assert_array_equal(one, other)


def test_adamw_has_the_papers_values():
    config = kd.optimizer(recipe(), steps_per_epoch=3).get_config()
    expected = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "clipnorm": None}
    assert {name: config[name] for name in expected} == expected
    assert kd.optimizer(recipe("digits_hard", "weight_decay=0.3"), 3).weight_decay == 0.3
