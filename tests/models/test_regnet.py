"""RegNetY computes timm's function."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.models.regnet_layers import GroupedConv2D
from tests.conftest import fill


@pytest.fixture
def truth(golden):
    return golden("regnety")


def build(truth, **changes):
    fields = {
        "stem": 8,
        "depths": truth["depths"].tolist(),
        "widths": truth["widths"].tolist(),
        "group_width": 8,
        "num_classes": 5,
    }
    return kd.RegNetY(**{**fields, **changes})


def test_logits_match_timm_and_survive_saving(truth, tmp_path):
    model = fill(build(truth), truth)
    logits = model(truth["images"])
    np.testing.assert_allclose(logits, truth["logits"], atol=2e-5 * np.ptp(truth["logits"]), rtol=0)

    model.save(tmp_path / "teacher.keras")
    again = keras.saving.load_model(tmp_path / "teacher.keras")
    np.testing.assert_array_equal(again(truth["images"]), logits)


def test_squeeze_and_group_widths_change_the_size(truth):
    count = build(truth).count_params()
    assert build(truth, se_ratio=0.5).count_params() > count
    assert build(truth, group_width=4).count_params() < count


def test_a_group_width_that_does_not_divide_raises(truth):
    with pytest.raises(kd.UserError, match="group width 7"):
        build(truth, group_width=7)


def test_grouped_convolution_matches_keras():
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 8)).astype("float32")
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    layer = GroupedConv2D(4, strides=2)
    reference = keras.layers.Conv2D(8, 3, strides=2, groups=4, use_bias=False)
    layer.build(x.shape)
    reference.build(padded.shape)
    reference.set_weights(layer.get_weights())
    np.testing.assert_allclose(layer(x), reference(padded), atol=1e-6)
