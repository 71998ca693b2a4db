import dataclasses
import itertools

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.builders.digits import SPLITS
from keras_deit.data.mixing import _cut, mix, smooth
from keras_deit.data.seeding import generator, order
from keras_deit.data.transforms import normalize
from tests.conftest import recipe


def batches(row, data_dir, epochs=1, **options):
    stream = kd.data.train(row, data_dir, **options)
    passes = [list(stream.as_numpy_iterator()) for _ in range(epochs)]
    return list(itertools.chain(*passes))


def assert_same(some, others):
    assert len(some) == len(others)
    for a, b in zip(some, others, strict=True):
        np.testing.assert_array_equal(a[0], b[0])
        np.testing.assert_array_equal(a[1], b[1])


def test_digits_are_scikit_learns_split_by_class(data_dir):
    from sklearn.datasets import load_digits

    parts = {split: datasets.load("digits", split, data_dir) for split in SPLITS}
    assert sum(map(len, parts.values())) == 1797
    assert parts["train"].class_names == tuple("0123456789")
    seen = {}
    for split, part in parts.items():
        labels = [part[i][1] for i in range(len(part))]
        for count in np.bincount(labels, minlength=10):
            assert abs(count - 179.7 * SPLITS[split]) < 5
        seen[split] = [(part[i][0][..., 0].tobytes(), part[i][1]) for i in range(len(part))]
    digits = load_digits()
    images = np.round(digits.images * (255 / 16)).astype(np.uint8)
    truth = sorted((x.tobytes(), int(y)) for x, y in zip(images, digits.target, strict=True))
    assert sorted(itertools.chain(*seen.values())) == truth


def test_an_epoch_is_a_function_of_seed_and_epoch(data_dir):
    row = recipe()
    two = batches(row, data_dir, epochs=2)
    assert_same(two, batches(row, data_dir, epochs=2))
    assert_same(two[3:], batches(row, data_dir, first_epoch=1))
    for other in (two[3:], batches(dataclasses.replace(row, seed=1), data_dir)):
        assert np.abs(two[0][0] - other[0][0]).max() > 0


def test_batches_are_what_the_stream_says(data_dir):
    stream = kd.data.train(recipe(), data_dir)
    assert (stream.num_classes, stream.images, stream.batch_size, stream.steps) == (10, 90, 60, 3)
    for images, labels in stream:
        assert images.shape == (60, 8, 8, 3)
        np.testing.assert_allclose(np.sum(labels, axis=1), 1, rtol=1e-5)
    capped = kd.data.train(recipe("digits_hard", "batch_size=1000"), data_dir)
    assert (capped.batch_size, capped.steps) == (180, 1)


def test_every_pass_shows_every_image_once(data_dir):
    rows = order(3, 0, 90, passes=2)
    assert sorted(rows[:90]) == sorted(rows[90:]) == list(range(90))
    assert (rows[:90] != rows[90:]).any()
    plain = recipe("digits_none", "pad=0", "mixup=0", "cutmix=0", "label_smoothing=0", "passes=1")
    plain = dataclasses.replace(plain, batch_size=90)
    images, labels = batches(plain, data_dir)[0]
    assert len(np.unique(images.reshape(90, -1), axis=0)) > 85
    assert set(np.unique(labels)) == {0, 1}


def test_a_fraction_takes_the_same_share_of_each_class(data_dir):
    dataset = datasets.load("digits", "train", data_dir)
    rows = dataset.fraction(0.1, generator(0, 0, 0))
    counts = np.bincount([dataset[int(i)][1] for i in rows])
    assert set(counts) <= {8, 9, 10}
    assert (dataset.fraction(0.1, generator(1, 0, 0)) != rows).any()
    assert len(dataset.fraction(1.0, None)) == len(dataset)
    assert len(dataset.fraction(0.0, generator(0, 0, 0))) == 10


def test_evaluation_gives_every_image_once_in_order(data_dir):
    row = recipe()
    batches = list(kd.data.evaluation(row, data_dir).as_numpy_iterator())
    assert [len(images) for images, _ in batches] == [256, 104]
    dataset = datasets.load("digits", "validation", data_dir)
    images, labels = map(np.concatenate, zip(*batches, strict=True))
    np.testing.assert_array_equal(images[300], normalize(dataset[300][0]))
    assert [dataset[i][1] for i in range(len(dataset))] == labels.argmax(axis=1).tolist()


def test_the_evaluation_crop_is_what_is_seen(data_dir):
    whole, middle = (
        next(iter(kd.data.evaluation(recipe("digits_none", f"eval_crop={crop}"), data_dir)))[0]
        for crop in (1, 0.5)
    )
    assert whole.shape == middle.shape == (256, 8, 8, 3)
    assert np.mean(middle) > np.mean(whole) + 0.1  # digits are white on black, in the middle


def test_mixup_is_timms(golden):
    truth = golden("mixing")

    class Fixed:  # the draw that the golden was made at
        random, beta = staticmethod(lambda: 0.9), staticmethod(lambda a, b: 0.3)

    labels = smooth(truth["labels"], 5, 0.1)
    mixed, targets = mix(truth["images"].copy(), labels, 0.8, 1.0, Fixed)
    np.testing.assert_allclose(mixed, truth["mixed"], atol=1e-6)
    np.testing.assert_allclose(targets, truth["targets"], atol=1e-6)


def test_cutmix_boxes_are_timms(golden):
    truth = golden("mixing")
    images = np.stack([np.zeros((8, 6, 1)), np.ones((8, 6, 1))]).astype("float32")
    for share, (row, column, top, bottom, left, right) in zip(
        truth["lams"], truth["boxes"], strict=True
    ):

        class Fixed:
            integers = staticmethod(lambda *_, at=(row, column): np.array(at))

        mixed = images.copy()
        kept = _cut(mixed, share, Fixed)
        box = np.zeros((8, 6), bool)
        box[top:bottom, left:right] = True
        np.testing.assert_array_equal(mixed[0, :, :, 0] == 1, box)
        np.testing.assert_array_equal(mixed[1, :, :, 0] == 0, box)
        assert kept == pytest.approx(1 - box.mean())


def test_mixing_draws():
    images = np.stack([np.zeros((8, 8, 3)), np.ones((8, 8, 3))]).astype("float32")
    labels = np.eye(2, dtype=np.float32)
    cuts, shares = [], []
    for step in range(400):
        mixed, targets = mix(images.copy(), labels, 0.8, 1.0, generator(0, 0, 3, step))
        cuts.append(set(np.unique(mixed)) <= {0, 1})
        np.testing.assert_allclose(mixed[1].mean(), targets[1, 1], atol=1e-5)
        shares.append(targets[0, 0])
    assert 0.42 < np.mean(cuts) < 0.58
    assert 0.2 < np.std(shares) < 0.4
    assert mix(images, labels, 0, 0, None)[0] is images
    once, _ = mix(images.copy(), labels, 0.8, 0, generator(0, 0, 3, 0))
    assert not set(np.unique(once)) <= {0, 1}


def test_groups_mix_within_themselves():
    """Each group is what mixing it alone gives, with the numbers that are its turn."""
    rng = np.random.default_rng(0)
    images = rng.random((12, 8, 8, 3), dtype=np.float32)
    labels = np.eye(12, dtype=np.float32)
    mixed, targets = mix(images.copy(), labels, 0.8, 1.0, generator(0, 0, 3), group=4)
    turn, shares = generator(0, 0, 3), set()
    for start in (0, 4, 8):
        part = slice(start, start + 4)
        image, target = mix(images[part].copy(), labels[part], 0.8, 1.0, turn)
        np.testing.assert_array_equal(mixed[part], image)
        np.testing.assert_array_equal(targets[part], target)
        assert np.argwhere(targets[start]).ravel().tolist() == [start, start + 3]
        shares.add(float(targets[start, start]))
    assert len(shares) == 3
    whole, _ = mix(images.copy(), labels, 0.8, 1.0, generator(0, 0, 3))
    np.testing.assert_array_equal(
        whole, mix(images.copy(), labels, 0.8, 1.0, generator(0, 0, 3), 12)[0]
    )
    assert mix(images, labels, 0, 0, None, group=4)[0] is images
