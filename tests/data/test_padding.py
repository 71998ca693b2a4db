"""Padded batches: their added rows do not count."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd

IMAGES = np.random.default_rng(0).normal(size=(7, 24, 16, 3)).astype("float32")
LABELS = np.eye(5, dtype="float32")[np.arange(7) % 5]


def batches():
    return tf.data.Dataset.from_tensor_slices((IMAGES, LABELS)).batch(4)


def test_every_batch_has_the_same_size_and_the_images_stay():
    padded = [list(map(np.array, batch)) for batch in kd.data.padded(batches(), 6)]
    assert [tensor.shape[0] for batch in padded for tensor in batch] == [6] * 6
    images, labels, weights = map(np.concatenate, zip(*padded, strict=True))
    np.testing.assert_array_equal(images[weights > 0], IMAGES)
    np.testing.assert_array_equal(labels[weights > 0], LABELS)
    assert not images[weights == 0].any()
    assert weights.sum() == 7


@pytest.mark.slow
def test_padding_changes_neither_a_step_nor_a_score(tiny):
    results = []
    start = [np.random.default_rng(1).normal(size=x.shape) for x in tiny.get_weights()]
    for dataset in (batches(), kd.data.padded(batches(), 6)):
        tiny.set_weights(start)
        tiny.compile("sgd", kd.loss(None), weighted_metrics=["accuracy"])
        logs = tiny.fit(dataset, verbose=0, shuffle=False).history
        scores = tiny.evaluate(dataset, verbose=0)
        results.append([*tiny.get_weights(), logs["loss"], logs["accuracy"], scores])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)


def test_weights_are_kept_and_larger_batches_fail():
    weighted = batches().map(lambda images, labels: (images, labels, 2 * tf.ones(len(images))))
    weights = [np.array(weights).tolist() for *_, weights in kd.data.padded(weighted, 4)]
    assert weights == [[2] * 4, [2] * 3 + [0]]
    with pytest.raises(tf.errors.InvalidArgumentError, match="a batch of more than 3 images"):
        list(kd.data.padded(batches(), 3))


def test_unknown_sizes_are_padded_and_unknown_ranks_refused():
    def unknown(*shapes):
        signature = tuple(tf.TensorSpec(shape) for shape in shapes)
        return tf.data.Dataset.from_generator(
            lambda: iter([(IMAGES, LABELS)]), output_signature=signature
        )

    ((images, labels, weights),) = kd.data.padded(unknown((None, None, None, 3), (None, 5)), 8)
    assert (images.shape, labels.shape, weights.shape) == ((8, 24, 16, 3), (8, 5), (8,))
    for shapes, name in (((None, (None, 5)), "images"), (((None, 24, 16, 3), None), "labels")):
        with pytest.raises(
            kd.UserError, match=f"a dataset of {name} of unknown shape: give"
        ) as error:
            kd.data.padded(unknown(*shapes), 8)
        assert "\n" not in str(error.value)


def test_info_is_kept_with_the_new_batch_size(data_dir):
    batches = kd.data.images("digits", "test[:100]", data_dir, (8, 8), process=(1, 2))
    padded = kd.data.padded(batches, 60)
    assert padded.info == dataclasses.replace(batches.info, batch_size=120)
    assert padded.info.errors is batches.info.errors
    assert padded.info.unreadable is batches.info.unreadable
    assert [images.shape for images, *_ in padded] == [(60, 8, 8, 3)]
