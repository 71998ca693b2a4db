"""Targets of several teachers, and targets that come with the batches."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from tests.distillation.test_losses import X, Y, teacher


def constant(logits):
    """A teacher that gives the same logits of any image."""
    dense = keras.layers.Dense(len(logits), kernel_initializer="zeros")
    model = keras.Sequential([keras.Input((24, 16, 3)), keras.layers.Flatten(), dense])
    dense.bias.assign(logits)
    return model


def test_several_teachers_vote_or_are_averaged():
    def target(teachers, kind):
        return keras.ops.convert_to_numpy(kd.Distillation(teachers, kind).target(X, None))

    teachers = [constant([9, 0, 0]), constant([1, 2, 0]), constant([0, 2, 1])]
    assert (target(teachers, "hard").argmax(-1) == 1).all()  # two of three
    assert (target(teachers[:2], "hard").argmax(-1) == 0).all()  # the mean probability decides

    rows = np.exp([[9, 0, 0], [1, 2, 0], [0, 2, 1]])
    mean = (rows / rows.sum(-1, keepdims=True)).mean(0)
    soft = target(teachers, "soft")
    np.testing.assert_allclose(np.exp(soft), np.broadcast_to(mean, (8, 3)), rtol=1e-5)


def test_each_of_several_teachers_has_to_fit(tiny):
    teachers = [teacher(), teacher(classes=7)]
    with pytest.raises(kd.UserError, match="7 classes and the student 5"):
        tiny.compile("sgd", distillation=kd.Distillation(teachers))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_targets_in_the_batches_teach_as_the_teacher_does(tiny, accumulate):
    convnet, start = teacher(), tiny.get_weights()
    logs = []
    for model, labels in (
        (convnet, Y),
        (None, {"labels": Y, "targets": convnet.predict(X, verbose=0)}),
    ):
        tiny.set_weights(start)
        distillation = kd.Distillation(model, "soft", alpha=0.3)
        tiny.compile(
            "sgd",
            kd.loss(),
            metrics=["accuracy"],
            distillation=distillation,
            accumulate=accumulate,
        )
        logs.append(tiny.fit(X, labels, batch_size=4, shuffle=False, verbose=0).history)
    assert list(logs[0]) == list(logs[1])
    for name, values in logs[0].items():
        np.testing.assert_allclose(logs[1][name], values, rtol=1e-5)


@pytest.mark.parametrize("shape", [(8, 7), (8, 1), (8,)])
def test_targets_of_another_shape_are_refused(tiny, shape):
    tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(kind="hard"))
    labels = {"labels": Y, "targets": np.zeros(shape, "float32")}
    with pytest.raises(kd.UserError, match=r"targets \(.*\): expected logits \(batch, 5\)"):
        tiny.fit(X, labels, verbose=0)


def test_without_a_teacher_and_without_targets_nothing_trains(tiny):
    tiny.compile("sgd", kd.loss(), distillation=kd.Distillation(kind="hard"))
    with pytest.raises(kd.UserError, match='expected a teacher, or labels that are a dict of "lab'):
        tiny.fit(X, Y, verbose=0)
