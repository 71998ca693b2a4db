"""Which epoch a pass shows, whatever opens iterators and drops them."""

import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.data.streaming import EpochCursor, parallel_map
from keras_deit.utils.errors import UserError
from tests.conftest import recipe


def positions(cursor, prefetch=2):
    dataset = cursor.positions().map(lambda position: (position, position))
    return dataset.prefetch(prefetch).map(cursor.hand_out)


def numbers(dataset):
    return [int(number) for (number,) in dataset]


def test_every_pass_is_the_next_epoch():
    dataset = positions(EpochCursor(epoch=0, first=0, length=3))
    assert [numbers(dataset) for _ in range(3)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]


def test_the_first_pass_may_begin_within_an_epoch():
    dataset = positions(EpochCursor(epoch=2, first=1, length=3))
    assert [numbers(dataset) for _ in range(2)] == [[7, 8], [9, 10, 11]]


@pytest.mark.parametrize("prefetch", [1, 100])
def test_a_pass_that_is_left_is_begun_anew(prefetch):
    dataset = positions(EpochCursor(epoch=0, first=0, length=4), prefetch)
    for count in (0, 1, 3):  # everything may be made ahead of time, and is not handed out
        iterator = iter(dataset)
        for _ in range(count):
            next(iterator)
    assert numbers(dataset) == [0, 1, 2, 3]
    assert numbers(dataset) == [4, 5, 6, 7]


def test_the_last_batch_ends_the_epoch_whether_or_not_more_is_asked_for():
    dataset = positions(EpochCursor(epoch=0, first=0, length=2))
    iterator = iter(dataset)
    next(iterator), next(iterator)  # as Keras does, which knows the number of steps
    assert numbers(dataset) == [2, 3]


def test_iterators_side_by_side_show_the_same_epoch():
    dataset = positions(EpochCursor(epoch=0, first=0, length=2))
    assert [(int(one), int(two)) for (one,), (two,) in zip(dataset, dataset, strict=True)] == [
        (0, 0),
        (1, 1),
    ]
    assert numbers(dataset) == [2, 3]


def test_a_look_at_the_data_costs_no_epoch(data_dir):
    row = recipe("digits_none")
    batches, looked_at = kd.data.train(row, data_dir), kd.data.train(row, data_dir)
    next(iter(looked_at))
    for one, two in zip((*batches, *batches), (*looked_at, *looked_at), strict=True):
        np.testing.assert_array_equal(one[0], two[0])


@pytest.mark.parametrize("workers", [0, 1, None])
def test_arrays_are_made_in_order_and_errors_are_kept(workers):
    def make(position):
        if position == 5:
            raise UserError("five is wrong")
        return np.full((2, 3), position, np.float32), np.zeros(2, np.float32)

    errors = []
    shapes = (None, 3), (2,)
    dataset = parallel_map(tf.data.Dataset.range(9), make, shapes, workers, errors)
    assert [spec.shape.as_list() for spec in dataset.element_spec] == [[], [None, 3], [2]]
    rows = [(int(position), float(array[0, 0])) for position, array, _ in dataset.take(5)]
    assert rows == [(number, float(number)) for number in range(5)]

    with pytest.raises(tf.errors.InvalidArgumentError, match="five is wrong"):
        list(dataset)
    assert {str(error) for error in errors} == {"five is wrong"}
