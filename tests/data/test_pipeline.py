import dataclasses
import itertools
import threading
import tracemalloc

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.seeding import epoch_order
from keras_deit.data.transforms import normalize
from tests.conftest import recipe


def training_batches(row, data_dir, epochs=1, **options):
    batches = kd.data.train(row, data_dir, **options)
    passes = [list(batches.as_numpy_iterator()) for _ in range(epochs)]
    return list(itertools.chain(*passes))


def assert_same(batches, others):
    assert len(batches) == len(others)
    for (images, labels), (other_images, other_labels) in zip(batches, others, strict=True):
        np.testing.assert_array_equal(images, other_images)
        np.testing.assert_array_equal(labels, other_labels)


def test_an_epoch_is_a_function_of_seed_and_epoch(data_dir):
    row = recipe()
    two_epochs = training_batches(row, data_dir, epochs=2)
    assert_same(two_epochs, training_batches(row, data_dir, epochs=2))
    assert_same(two_epochs[3:], training_batches(row, data_dir, first_epoch=1))

    other_seed = training_batches(dataclasses.replace(row, seed=1), data_dir)
    for other in (two_epochs[3:], other_seed):
        assert np.abs(two_epochs[0][0] - other[0][0]).max() > 0


def test_every_pass_shows_every_image_once(data_dir):
    order = epoch_order(3, 0, 90, passes=2)
    assert sorted(order[:90]) == sorted(order[90:]) == list(range(90))
    assert (order[:90] != order[90:]).any()

    plain = recipe("digits_none", "pad=0", "mixup=0", "cutmix=0", "label_smoothing=0", "passes=1")
    plain = dataclasses.replace(plain, batch_size=90)
    images, labels = training_batches(plain, data_dir)[0]
    assert len(np.unique(images.reshape(90, -1), axis=0)) > 85
    assert set(np.unique(labels)) == {0, 1}


def test_evaluation_shows_every_image_once_in_order(data_dir):
    batches = list(kd.data.evaluation(recipe(), data_dir).as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [256, 104]

    dataset = datasets.load("digits", "validation", data_dir)
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    np.testing.assert_array_equal(images[300], normalize(dataset[300][0]))
    assert [dataset[i][1] for i in range(len(dataset))] == labels.argmax(axis=1).tolist()


def test_processes_evaluate_all_images_in_as_many_batches(data_dir):
    dataset = kd.data.images("digits", "test", data_dir, size=(8, 8))
    images = np.concatenate([images for images, _ in dataset.as_numpy_iterator()])

    runs = [
        kd.data.images("digits", "test", data_dir, size=(8, 8), process=(index, 3))
        for index in range(3)
    ]
    assert len({len(run) for run in runs}) == 1
    joined = [images for run in runs for images, _ in run.as_numpy_iterator()]
    np.testing.assert_array_equal(np.concatenate(joined), images)

    with pytest.raises(kd.UserError, match=r"10 images to evaluate for 7 .*: expected fewer"):
        kd.data.images("digits", "test[:10]", data_dir, size=(8, 8), process=(0, 7))


ALL = "train+validation+test"  # of the digits, 1,797


def test_evaluation_holds_a_few_batches_whatever_the_number_of_threads(data_dir):
    batches = kd.data.images("digits", ALL, data_dir, size=(48, 48), workers=64)
    assert batches.steps == 8
    tracemalloc.start()  # which sees the memory of numpy's arrays
    sizes = [images.numpy().nbytes for images, _ in batches]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 6 * sizes[0]


def test_all_threads_work_on_a_small_dataset(data_dir):
    def pool_threads():
        return {thread for thread in threading.enumerate() if "ThreadPool" in thread.name}

    before = pool_threads()
    batches = kd.data.images("digits", "test[:20]", data_dir, size=(256, 256), workers=4)
    assert len(list(batches)) == 1
    assert len(pool_threads() - before) == 4


def test_evaluation_is_the_same_with_any_number_of_threads(data_dir):
    def run(workers, process):
        batches = kd.data.images("digits", ALL, data_dir, (8, 8), process=process, workers=workers)
        return list(batches.as_numpy_iterator())

    for process in ((0, 1), (6, 7)):
        one, none, many = (run(workers, process) for workers in (1, 0, 64))
        assert_same(one, none)
        assert_same(one, many)
    assert [len(images) for images, _ in one] == [255, 0]  # others have 256 and 1


def test_eval_crop_is_the_center_crop_ratio(data_dir):
    full, center = (
        next(iter(kd.data.evaluation(recipe("digits_none", f"eval_crop={crop}"), data_dir)))[0]
        for crop in (1, 0.5)
    )
    assert full.shape == center.shape == (256, 8, 8, 3)
    assert np.mean(center) > np.mean(full) + 0.1  # digits are white on black, in the middle
