"""Padded batches: images that are not there."""

import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd

IMAGES = np.random.default_rng(0).normal(size=(7, 24, 16, 3)).astype("float32")
LABELS = np.eye(5, dtype="float32")[np.arange(7) % 5]


def batches():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)


def test_every_batch_is_of_one_size_and_the_images_are_the_same():
    padded = [list(map(np.array, batch)) for batch in kd.data.padded(batches(), 6)]
    assert [part.shape[0] for batch in padded for part in batch] == [6] * 6
    images, labels, weights = map(np.concatenate, zip(*padded, strict=True))
    np.testing.assert_array_equal(images[weights > 0], IMAGES)
    np.testing.assert_array_equal(labels[weights > 0], LABELS)
    assert not images[weights == 0].any()
    assert weights.sum() == 7


def test_a_step_and_a_score_are_those_without_what_was_added(tiny):
    weights = []
    start = [np.random.default_rng(1).normal(size=x.shape) for x in tiny.get_weights()]
    for feed in (batches(), kd.data.padded(batches(), 6)):
        tiny.set_weights(start)
        tiny.compile("sgd", kd.loss(None), weighted_metrics=["accuracy"])
        logs = tiny.fit(feed, verbose=0, shuffle=False).history
        scores = tiny.evaluate(feed, verbose=0)
        weights.append([*tiny.get_weights(), logs["loss"], logs["accuracy"], scores])
    for one, other in zip(*weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_weights_are_kept_and_larger_batches_refused():
    given = batches().map(lambda images, labels: (images, labels, 2 * tf.ones(len(images))))
    assert [np.array(w).tolist() for *_, w in kd.data.padded(given, 4)] == [[2] * 4, [2] * 3 + [0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="a batch of more than 3 images"):
        list(kd.data.padded(batches(), 3))
