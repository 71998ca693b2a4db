"""The sizes of the batches that an epoch has, before it has them."""

import numpy as np
import pytest
import tensorflow as tf

from keras_deit.distillation.batch_sizes import batch_sizes

ROWS = np.zeros((10, 2), "float32")
DATASET = tf.data.Dataset.from_tensor_slices((ROWS, ROWS))


@pytest.mark.parametrize(
    ("data", "options", "sizes"),
    [
        (ROWS, {"batch_size": 4}, {4, 2}),
        (ROWS, {"batch_size": 5}, {5}),
        (ROWS, {}, {10}),
        (ROWS, {"batch_size": 4, "validation_split": 0.5}, {4, 1}),
        (tf.constant(ROWS), {"batch_size": 3}, {3, 1}),
        (DATASET.batch(4), {}, {4, 2}),
        (DATASET.batch(4).map(lambda *rows: rows).prefetch(1), {}, {4, 2}),
        (DATASET.map(lambda *rows: rows).batch(4, drop_remainder=True), {}, {4}),
        (DATASET.batch(4).take(2), {}, set()),  # which has no smaller batch
        (DATASET.filter(lambda *rows: True).batch(4), {}, set()),
        (iter([(ROWS, ROWS)]), {}, set()),
        (None, {}, set()),
    ],
)
def test_sizes_are_known_where_data_says_them(data, options, sizes):
    assert batch_sizes(data, **options) == sizes


@pytest.mark.parametrize("count", [3, 10, 12])
def test_sizes_are_those_of_the_batches(count):
    batches = DATASET.batch(count)
    assert batch_sizes(batches) == {len(rows) for rows, _ in batches}
