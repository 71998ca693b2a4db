import tracemalloc

import numpy as np
import pytest

from keras_deit.data.mixing import _paste_boxes, mix, smooth
from keras_deit.data.seeding import generator


def test_mixup_is_timms(golden):
    truth = golden("mixing")

    class Fixed:  # the draw that the golden was made with
        random = staticmethod(lambda: 0.9)
        beta = staticmethod(lambda a, b: 0.3)

    labels = smooth(truth["labels"], 5, 0.1)
    mixed, targets = mix(truth["images"].copy(), labels, 0.8, 1.0, Fixed)
    np.testing.assert_allclose(mixed, truth["mixed"], atol=1e-6)
    np.testing.assert_allclose(targets, truth["targets"], atol=1e-6)


def test_smoothing_takes_the_memory_of_its_labels():
    """21,841 classes are ImageNet-21k's, of which a one-hot matrix would take 1.9 GB."""
    labels = np.array([0, 21840, 7, 7])
    tracemalloc.start()
    smoothed = smooth(labels, 21841, 0.1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1.1 * smoothed.nbytes
    off = np.float32(0.1 / 21841)
    assert set(np.unique(smoothed)) == {off, np.float32(0.9) + off}
    assert (smoothed.argmax(axis=1) == labels).all()


def test_cutmix_boxes_are_timms(golden):
    truth = golden("mixing")
    images = np.stack([np.zeros((8, 6, 1)), np.ones((8, 6, 1))]).astype("float32")
    for lam, (row, column, top, bottom, left, right) in zip(
        truth["lams"], truth["boxes"], strict=True
    ):

        class Fixed:
            integers = staticmethod(lambda *_, center=(row, column): np.array(center))

        mixed = images.copy()
        fraction_left = _paste_boxes(mixed, lam, Fixed)
        box = np.zeros((8, 6), bool)
        box[top:bottom, left:right] = True
        np.testing.assert_array_equal(mixed[0, :, :, 0] == 1, box)
        np.testing.assert_array_equal(mixed[1, :, :, 0] == 0, box)
        assert fraction_left == pytest.approx(1 - box.mean())


def test_cutmix_is_chosen_half_of_the_time_and_labels_follow_the_pixels():
    images = np.stack([np.zeros((8, 8, 3)), np.ones((8, 8, 3))]).astype("float32")
    labels = np.eye(2, dtype=np.float32)

    is_cutmix, lams = [], []
    for step in range(400):
        mixed, targets = mix(images.copy(), labels, 0.8, 1.0, generator(0, 0, 3, step))
        is_cutmix.append(set(np.unique(mixed)) <= {0, 1})
        np.testing.assert_allclose(mixed[1].mean(), targets[1, 1], atol=1e-5)
        lams.append(targets[0, 0])
    assert 0.42 < np.mean(is_cutmix) < 0.58
    assert 0.2 < np.std(lams) < 0.4

    only_mixup, _ = mix(images.copy(), labels, 0.8, 0, generator(0, 0, 3, 0))
    assert not set(np.unique(only_mixup)) <= {0, 1}


def test_images_are_mixed_in_place_with_the_group_in_reversed_order():
    images = np.random.default_rng(0).random((4, 8, 8, 3), dtype=np.float32)
    labels = np.eye(4, dtype=np.float32)
    for step in range(20):
        group = images.copy()
        mixed, targets = mix(group, labels, 0.8, 1.0, generator(0, 0, 3, step))
        assert mixed is group
        lam = targets[0, 0]
        np.testing.assert_allclose(targets, lam * labels + (1 - lam) * labels[::-1], atol=1e-6)
        if step == 0:
            assert np.argwhere(targets[0]).ravel().tolist() == [0, 3]


def test_a_generator_gives_each_group_its_own_lambda():
    images = np.random.default_rng(0).random((12, 8, 8, 3), dtype=np.float32)
    labels = np.eye(4, dtype=np.float32)
    rng = generator(0, 0, 3)
    lams = {
        float(mix(images[start : start + 4].copy(), labels, 0.8, 1.0, rng)[1][0, 0])
        for start in (0, 4, 8)
    }
    assert len(lams) == 3


def test_mixing_that_is_off_leaves_images_and_labels_as_they_are():
    images, labels = np.ones((4, 8, 8, 3), np.float32), np.eye(4, dtype=np.float32)
    same_images, same_labels = mix(images, labels, 0, 0, None)
    assert same_images is images
    assert same_labels is labels
