import numpy as np

import keras_deit as kd
from keras_deit.training.optimization import learning_rate
from tests.conftest import recipe


def test_schedule_is_timms(golden):
    schedule = kd.WarmupCosine(2e-3, 40, 5)
    ours = [float(schedule(step)) for step in range(40)]
    np.testing.assert_allclose(ours, golden("schedule")["rates"], rtol=1e-5)
    assert float(schedule(1000)) == np.float32(1e-5)
    assert kd.WarmupCosine.from_config(schedule.get_config()).get_config() == schedule.get_config()


def test_learning_rate_scales_with_the_batch():
    assert learning_rate(recipe("digits_none", "lr=0.001", "batch_size=1024")) == 0.002


def test_weight_decay_spares_what_the_published_code_spares(tiny):
    adamw = kd.optimizer(recipe(), steps_per_epoch=3)
    adamw.build(tiny.trainable_weights)
    for variable in tiny.trainable_weights:
        spared = len(variable.shape) == 1 or variable.name in ("pos_embed", "cls_token")
        # Inside a step Keras asks with TensorFlow's own variable, which has another name.
        assert adamw._use_weight_decay(variable.value) is not spared, variable.path
    both = kd.optimizer(recipe("digits_hard", "no_decay=dist_token"), steps_per_epoch=3)
    both.build(tiny.trainable_weights)
    assert not both._use_weight_decay(tiny.tokens.dist_token)


def test_regnety_decays_kernels_alone():
    model = kd.build("regnety_digits")
    adamw = kd.optimizer(recipe(), steps_per_epoch=3)
    adamw.build(model.trainable_weights)
    for variable in model.trainable_weights:
        assert adamw._use_weight_decay(variable) is (len(variable.shape) > 1), variable.path


def test_adamw_is_the_papers():
    config = kd.optimizer(recipe(), steps_per_epoch=3).get_config()
    expected = {"beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8, "clipnorm": None}
    assert {name: config[name] for name in expected} == expected
    assert kd.optimizer(recipe("digits_hard", "weight_decay=0.3"), 3).weight_decay == 0.3
