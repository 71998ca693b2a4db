"""Batches for ``fit``, ``evaluate`` and ``predict``: (images, labels), both float32."""

import itertools

import numpy as np

from keras_deit.data import datasets
from keras_deit.data.mixing import mix, smooth
from keras_deit.data.order import MIX, SUBSET, VIEW, generator, order
from keras_deit.data.transforms import normalize, padded_crop

EVALUATION_BATCH = 256


def train(recipe, data_dir=None, first_epoch=0):
    """The recipe's augmented training images.

    Each pass over it is one epoch, the first ``first_epoch``, the next the one after, so that
    ``model.fit(train(recipe), epochs=recipe.epochs)`` sees every epoch's own order and draws.

    Returns:
        A ``tf.data.Dataset`` of images (batch, height, width, 3), normalised, and smoothed, mixed
        labels (batch, num_classes), with the attributes ``num_classes``, ``class_names``,
        ``images`` (how many there are), ``batch_size`` and ``steps`` (batches in an epoch: what
        is left over is not seen in that epoch).
    """
    dataset = datasets.load(recipe.dataset, recipe.train_split, data_dir)
    indices = dataset.fraction(recipe.train_fraction, generator(recipe.subset, 0, SUBSET))
    count = len(indices)
    size = min(recipe.batch_size, count * recipe.passes)
    epochs = itertools.count(first_epoch)

    def batch(epoch, step):
        places = np.arange(step * size, (step + 1) * size)
        rows = indices[order(recipe.seed, epoch, count, recipe.passes)[places]]
        keys = zip(rows.tolist(), (places // count).tolist(), strict=True)
        views = [_view(dataset, index, epoch, turn, recipe) for index, turn in keys]
        images, labels = (np.stack(column) for column in zip(*views, strict=True))
        images = normalize(images)
        labels = smooth(labels, dataset.num_classes, recipe.label_smoothing)
        rng = generator(recipe.seed, epoch, MIX, step, size)
        return mix(images, labels, recipe.mixup, recipe.cutmix, rng)

    steps = count * recipe.passes // size
    return _stream(dataset, count, size, steps, batch, lambda: np.int64(next(epochs)), False)


def evaluation(recipe, data_dir=None, split=None):
    """Every image of ``split`` (the recipe's validation part) once, in order, with one-hot labels;
    otherwise as ``train``. The last batch may be smaller."""
    dataset = datasets.load(recipe.dataset, split or recipe.validation_split, data_dir)
    size = min(EVALUATION_BATCH, len(dataset))

    def batch(_, step):
        stop = min((step + 1) * size, len(dataset))
        pairs = [dataset[i] for i in range(step * size, stop)]
        images = normalize(np.stack([image for image, _ in pairs]))
        return images, smooth(np.array([label for _, label in pairs]), dataset.num_classes)

    steps, partial = -(-len(dataset) // size), len(dataset) % size > 0
    return _stream(dataset, len(dataset), size, steps, batch, lambda: np.int64(0), partial)


def _view(dataset, index, epoch, turn, recipe):
    image, label = dataset[index]
    rng = generator(recipe.seed, epoch, VIEW, index, turn)
    return padded_crop(image, recipe.pad, rng), label


def _stream(dataset, images, size, steps, batch, epoch, partial):
    """The ``tf.data.Dataset`` whose every pass gives ``batch(epoch(), step)`` for each step."""
    import tensorflow as tf

    rows = None if partial else size
    shapes = [(rows, *example.shape[1:]) for example in batch(0, 0)]

    def load(now, step):
        arrays = tf.numpy_function(batch, (now, step), (tf.float32, tf.float32), stateful=False)
        return tuple(map(tf.ensure_shape, arrays, shapes))

    # Not Dataset.from_generator: after one has run, TensorFlow 2.21 trains at half the speed.
    stream = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(epoch, (), tf.int64))
    stream = stream.flat_map(lambda now: tf.data.Dataset.range(steps).map(lambda step: (now, step)))
    stream = stream.map(load, num_parallel_calls=tf.data.AUTOTUNE)
    stream = stream.apply(tf.data.experimental.assert_cardinality(steps)).prefetch(tf.data.AUTOTUNE)
    stream.num_classes, stream.class_names = dataset.num_classes, dataset.class_names
    stream.images, stream.batch_size, stream.steps = images, size, steps
    return stream
