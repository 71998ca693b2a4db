import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.models.regnet import GroupedConv2D
from tests.conftest import fill


def regnety(truth, **changes):
    depths, widths = truth["depths"].tolist(), truth["widths"].tolist()
    fields = {"stem": 8, "depths": depths, "widths": widths, "group_width": 8, "num_classes": 5}
    return kd.RegNetY(**{**fields, **changes})


def test_logits_are_timms(golden):
    truth = golden("regnety")
    logits = fill(regnety(truth), truth)(truth["images"])
    np.testing.assert_allclose(logits, truth["logits"], atol=2e-5 * np.ptp(truth["logits"]), rtol=0)


def test_squeeze_and_group_widths_matter(golden):
    truth = golden("regnety")
    assert regnety(truth, se_ratio=0.5).count_params() > regnety(truth).count_params()
    assert regnety(truth, group_width=4).count_params() < regnety(truth).count_params()


def test_widths_that_do_not_fit_are_refused(golden):
    with pytest.raises(kd.UserError, match="group width 7"):
        regnety(golden("regnety"), group_width=7)


def test_grouped_convolution_is_keras_own():
    x = np.random.default_rng(1).normal(size=(2, 6, 5, 8)).astype("float32")
    ours = GroupedConv2D(4, strides=2)
    theirs = keras.layers.Conv2D(8, 3, strides=2, groups=4, use_bias=False)
    padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    ours.build(x.shape)
    theirs.build(padded.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(ours(x), theirs(padded), atol=1e-6)


def test_saves_and_reloads(golden, tmp_path):
    truth = golden("regnety")
    model = fill(regnety(truth), truth)
    model.save(tmp_path / "teacher.keras")
    again = keras.saving.load_model(tmp_path / "teacher.keras")
    np.testing.assert_array_equal(again(truth["images"]), model(truth["images"]))
