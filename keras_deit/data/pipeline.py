"""Batches for ``fit``, ``evaluate`` and ``predict``: (images, labels), both float32."""

import contextlib
import os
import warnings

import numpy as np

from keras_deit.data import datasets
from keras_deit.data.samples import Samples, too_many
from keras_deit.data.transforms import check_crop, evaluation_view
from keras_deit.utils.errors import Unreadable, UserError

EVALUATION_BATCH = 256


def train(recipe, data_dir=None, first_epoch=0, first_step=0, workers=None, process=(0, 1)):
    """The recipe's augmented training images.

    Each pass over it is one epoch, the first ``first_epoch``, the next the one after, so that
    ``model.fit(train(recipe), epochs=recipe.epochs)`` sees every epoch's own order and draws. A
    pass that is left before its end, as Keras leaves one after a look at the shapes, is begun anew.

    Args:
        recipe: a ``Recipe``.
        data_dir: where TFDS keeps its data sets.
        first_epoch: the epoch of the first pass.
        first_step: the step that the first pass begins with; those before it cost nothing.
        workers: threads that make images; None is one for each core, 0 the caller's own. The
            batches are the same with any number.
        process: (index, count) of the processes that train together: each gets its share of the
            rows of every batch, whole groups of those that are mixed.

    Returns:
        A ``tf.data.Dataset`` of images (batch, height, width, 3), normalised, and smoothed, mixed
        labels (batch, num_classes), with the attributes ``num_classes``, ``class_names``,
        ``images`` (how many there are), ``batch_size``, ``steps`` (batches in an epoch: what is
        left over is not seen in that epoch) and ``samples``, the ``Samples`` it takes.
    """
    import tensorflow as tf

    samples = Samples(recipe, data_dir)
    index, count = process
    groups, rest = divmod(samples.size // samples.group, count)
    if rest:
        raise UserError(
            f"a batch of {samples.size} images, mixed in groups of {samples.group}, for {count}"
            f" processes: expected as many groups for each; --set=mix_group= gives their size, here"
            f" at most {samples.size // count}"
        )

    def join(place, *parts):
        sizes = [(groups * samples.group, *part.shape[2:]) for part in parts]
        return place[-1], *map(tf.reshape, parts, sizes)

    passes = _Passes(first_epoch, first_step * groups, samples.steps * groups)
    stream = made = _stream(
        passes.start,
        samples.steps * groups,
        lambda epoch, number: samples.group_of(
            epoch, number // groups, index * groups + number % groups
        ),
        ((samples.group, *samples.shape), (samples.group, samples.dataset.num_classes)),
        workers,
    )
    stream = stream.batch(groups, drop_remainder=True).map(join).prefetch(2).map(passes.hand_out)
    if not first_step:
        stream = stream.apply(tf.data.experimental.assert_cardinality(samples.steps))
    stream = _described(stream, made, samples.dataset, samples.size, samples.steps)
    stream.images, stream.samples = len(samples.indices), samples
    return stream


def evaluation(recipe, data_dir=None, split=None, process=(0, 1)):
    """Every image of ``split`` (the recipe's validation part) once, in order, with one-hot labels,
    as the recipe's model expects it, but for at most ``max_damaged``; otherwise as ``images``."""
    return images(
        recipe.dataset,
        split or recipe.validation_split,
        data_dir,
        (recipe.image_size,) * 2,
        recipe.eval_crop,
        process,
        recipe.max_damaged,
    )


def images(
    dataset, split, data_dir=None, size=(224, 224), crop=0.875, process=(0, 1), max_damaged=0
):
    """Every image of a data set once, in order: its middle, (batch, height, width, 3), normalised,
    and its label, (batch, num_classes): 1 for each right class, else 0.

    Args:
        dataset, split, data_dir: see ``datasets.load``.
        size: (height, width) in pixels.
        crop: the share of an image's side that is seen.
        process: (index, count) of the processes that evaluate together: each gets an equal run of
            the images, the last a shorter one, in as many batches as the others.
        max_damaged: how many images may be damaged: those are black, and of no class, so that
            ``evaluate`` leaves them out.

    Returns:
        A ``tf.data.Dataset`` with the attributes of ``train``, but ``samples``; ``processes``,
        their count; and ``damaged``, the images that could not be read so far, a dict of reasons.
        The last batch may be smaller.

    Raises:
        UserError: too many damaged images.
    """
    import tensorflow as tf

    check_crop(crop)
    data = datasets.load(dataset, split, data_dir)
    index, processes = process
    share = -(-len(data) // processes)
    if share * (processes - 1) >= len(data):
        raise UserError(f"{len(data)} images to evaluate for {processes} processes: expected fewer")
    rows = min(EVALUATION_BATCH, share)
    begin, end = (min(i * share, len(data)) for i in (index, index + 1))

    black, damaged = np.zeros((*size, 3), np.uint8), {}

    def readable(index):
        try:
            return data[index]
        except Unreadable as error:
            if index not in damaged:
                damaged[index] = str(error)
                if len(damaged) > max_damaged:
                    raise too_many(len(damaged), error, max_damaged) from error
                warnings.warn(f"{error}: left out of {split}", stacklevel=2)
            return black, ()

    def batch(_, number):
        start = begin + number * rows
        pairs = [readable(i) for i in range(start, min(start + rows, end))]
        labels = np.zeros((len(pairs), data.num_classes), np.float32)
        for row, (_, label) in enumerate(pairs):
            labels[row, list(label) if isinstance(label, tuple) else label] = 1
        views = [evaluation_view(image, size, crop) for image, _ in pairs]
        return np.stack(views) if views else np.zeros((0, *size, 3), np.float32), labels

    steps = -(-share // rows)
    known = rows if steps * rows * processes == len(data) else None
    shapes = (known, *size, 3), (known, data.num_classes)
    made = _stream(lambda: np.array([0, 0]), steps, batch, shapes, None)
    stream = made.map(lambda _, *pair: pair).prefetch(1)
    stream = stream.apply(tf.data.experimental.assert_cardinality(steps))
    stream = _described(stream, made, data, rows, steps)
    stream.images, stream.processes, stream.damaged = len(data), processes, damaged
    return stream


class _Passes:
    """Where the next pass begins: at the next epoch, once the last batch of one is handed out."""

    def __init__(self, epoch, first, count):
        self.next, self.count = np.array([epoch, first]), count

    def start(self):
        return self.next

    def hand_out(self, place, *batch):
        import tensorflow as tf

        def note(place):
            epoch, number = place
            if number == self.count - 1:
                self.next = np.array([epoch + 1, 0])
            return number

        with tf.control_dependencies([tf.numpy_function(note, (place,), tf.int64)]):
            return tuple(map(tf.identity, batch))


def _described(stream, like, dataset, size, steps):
    stream.num_classes, stream.class_names = dataset.num_classes, dataset.class_names
    stream.batch_size, stream.steps, stream.failures = size, steps, like.failures
    return stream


@contextlib.contextmanager
def plain_failures(batches):
    """Within it, what goes wrong in making ``batches`` is the UserError it is, and not TensorFlow's
    account of it."""
    try:
        yield
    except Exception as error:
        failures = getattr(batches, "failures", [])
        raise (failures[0] if failures else error) from None


def _stream(start, count, make, shapes, workers):
    """The ``tf.data.Dataset`` whose every pass gives [epoch, number] and ``make(epoch, number)``,
    from where ``start()`` says to ``count`` numbers, in order."""
    import tensorflow as tf

    failures = []

    def made(epoch, number):
        try:
            return make(int(epoch), int(number))
        except UserError as error:
            failures.append(error)
            raise

    def load(epoch, number):
        arrays = tf.numpy_function(
            made,
            (epoch, number),
            (tf.float32, tf.float32),
            stateful=False,
        )
        return tf.stack([epoch, number]), *map(tf.ensure_shape, arrays, shapes)

    # Not Dataset.from_generator: after one has run, TensorFlow 2.21 trains at half the speed.
    stream = tf.data.Dataset.range(1).map(lambda _: tf.numpy_function(start, (), tf.int64))
    stream = stream.flat_map(
        lambda at: tf.data.Dataset.range(at[1], count).map(lambda number: (at[0], number))
    )
    workers = os.cpu_count() if workers is None else workers
    stream = stream.map(load, num_parallel_calls=2 * workers or None)
    # There is nothing to tune, and the tuner's end costs more than a second in every epoch.
    options = tf.data.Options()
    options.autotune.enabled = False
    if workers:
        options.threading.private_threadpool_size = workers
    stream = stream.with_options(options)
    stream.failures = failures
    return stream
