"""Batches for ``fit``, ``evaluate`` and ``predict``: (images, labels), both float32."""

import collections
import contextlib
import dataclasses
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data import datasets
from keras_deit.data.reading import UnreadableImages, try_read
from keras_deit.data.samples import Samples
from keras_deit.data.stored_targets import StoredTargets
from keras_deit.data.streaming import EpochCursor, aligned_empty, parallel_map
from keras_deit.data.transforms import check_crop, evaluation_view
from keras_deit.utils.errors import UserError

EVALUATION_BATCH = 256
CHUNKS_PER_THREAD = 4  # of a batch: a thread that is done early takes another one


def train(
    recipe,
    data_dir=None,
    first_epoch=0,
    first_step=0,
    workers=None,
    process=(0, 1),
    preprocessing=IMAGENET,
):
    """The augmented training images of a recipe.

    Each pass over them is one epoch: the first is ``first_epoch``, the next the one after it. So
    ``model.fit(train(recipe), epochs=recipe.epochs)`` sees every epoch's own order and
    augmentation. An abandoned pass is restarted, because Keras opens iterators
    only to look at the shapes.

    Args:
        recipe: a ``Recipe``.
        data_dir: str or path. Where TFDS keeps its datasets. Default: TFDS' own.
        first_epoch: int. The epoch of the first pass. Default 0.
        first_step: int. The step that the first pass begins with; those before it cost nothing.
            Default 0.
        workers: int. Threads that make images, 0 for the caller's own. Default: one per core. The
            batches are the same with any number.
        process: (index, count) of the processes that train together. Each gets as many rows of
            every batch, in whole mixing groups. Default (0, 1).
        preprocessing: ``Preprocessing`` of the model that is trained. Default: ImageNet's.

    Returns:
        ``Batches``, a ``tf.data.Dataset`` with ``info``: images (batch, height, width, 3),
        normalized, and labels (batch, num_classes), smoothed and mixed; of a recipe with
        ``targets``, a dict of "labels" and "targets", the teacher's logits (batch, num_classes).
        Images that do not fill a last batch are not seen in that epoch.

    Raises:
        UserError: the dataset is not there, has one class, or has too many unreadable images; the
            batch does not divide by the processes; the targets are not of these images.

    Example:
        >>> import keras_deit as kd
        >>> import tempfile
        >>> recipe = kd.override(kd.RECIPES["digits_none"], ["batch_size=30"])
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     batches = kd.data.train(recipe, data_dir)
        ...     images, labels = next(iter(batches))
        >>> batches.num_classes, batches.info.batch_size
        (10, 30)
        >>> tuple(images.shape), tuple(labels.shape)
        ((30, 8, 8, 3), (30, 10))
    """
    import tensorflow as tf

    from keras_deit.data.batches import Batches, BatchInfo

    samples = Samples(recipe, data_dir, preprocessing)
    targets = StoredTargets(recipe.targets, samples) if recipe.targets else None
    process_index, process_count = process
    groups = _groups_per_process(samples, process_count)

    info = BatchInfo(
        class_names=samples.dataset.class_names,
        images=len(samples.indices),
        batch_size=samples.batch_size,
        steps=samples.steps,
        process_count=process_count,
        content=samples.dataset.content,
        unreadable=samples.unreadable.reasons,
    )
    groups_per_epoch = samples.steps * groups

    # The unit of parallel work is a group: images that are mixed with each other.
    def make_group(position):
        epoch, number = divmod(position, groups_per_epoch)
        step, group = divmod(number, groups)
        group += process_index * groups
        arrays = samples.make_group(epoch, step, group)
        if targets is None:
            return arrays

        rows = slice(group * samples.group_size, (group + 1) * samples.group_size)
        return *arrays, targets.logits(samples.epoch_of_views(epoch), step, rows)

    def join_groups(positions, *arrays):
        rows = groups * samples.group_size
        return positions[-1], *(tf.reshape(x, (rows, *x.shape[2:])) for x in arrays)

    # Nothing after ``hand_out`` may read ahead: it notes what the consumer took.
    cursor = EpochCursor(first_epoch, first_step * groups, groups_per_epoch)
    shapes = (
        (samples.group_size, *samples.image_shape),
        (samples.group_size, info.num_classes),
    )
    if targets is not None:
        shapes += ((samples.group_size, info.num_classes),)

    dataset = parallel_map(cursor.positions(), make_group, shapes, workers, info.errors)
    dataset = dataset.batch(groups, drop_remainder=True).map(join_groups)
    dataset = dataset.prefetch(2).map(cursor.hand_out)
    if targets is not None:
        dataset = dataset.map(lambda x, y, target: (x, {"labels": y, "targets": target}))
    if not first_step:  # else the first pass is shorter than the others
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(info.steps))
    return Batches(dataset, info)


def _groups_per_process(samples, process_count):
    groups = samples.batch_size // samples.group_size
    if groups % process_count:
        raise UserError(
            f"a batch of {samples.batch_size} images, mixed in groups of {samples.group_size}, for"
            f" {process_count} processes: expected a number of groups that divides by"
            f" {process_count}: set mix_group={samples.batch_size // process_count} or less"
        )
    return groups // process_count


def evaluation(recipe, data_dir=None, split=None, process=(0, 1), preprocessing=IMAGENET):
    """``images`` of a recipe's validation split, as its model expects them.

    Args:
        recipe: a ``Recipe``, whose ``max_damaged`` is the number of images that may be unreadable.
        data_dir: str or path. Where TFDS keeps its datasets. Default: TFDS' own.
        split: str. Another split than the recipe's.
        process, preprocessing: see ``images``.

    Returns:
        ``Batches``, as ``images`` does.

    Example:
        >>> import keras_deit as kd
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     batches = kd.data.evaluation(kd.RECIPES["digits_none"], data_dir)
        >>> batches.info.images, batches.steps
        (360, 2)
    """
    upright = recipe.upright or preprocessing.upright
    return images(
        recipe.dataset,
        split or recipe.validation_split,
        data_dir,
        size=(recipe.image_size, recipe.image_size),
        crop=recipe.eval_crop,
        process=process,
        max_damaged=recipe.max_damaged,
        preprocessing=dataclasses.replace(preprocessing, upright=upright),
    )


def images(
    dataset,
    split,
    data_dir=None,
    size=(224, 224),
    crop=0.875,
    process=(0, 1),
    max_damaged=0,
    preprocessing=IMAGENET,
    workers=None,
):
    """Every image of a split once, in order: its center crop and its label.

    Args:
        dataset, split, data_dir: see ``datasets.load``.
        size: (height, width) in pixels. Default (224, 224).
        crop: float from 0.05 to 1. The center-crop ratio. Default 0.875.
        process: (index, count) of the processes that evaluate together. Each gets an equal run of
            the images, the last one a shorter run, in as many batches as the others. Default:
            (0, 1).
        max_damaged: int. How many images may be unreadable. Such an image is replaced by zeros
            with an all-zero label, so that ``evaluate`` skips it. Default 0.
        preprocessing: ``Preprocessing`` of the model that gets the images. Default: ImageNet's.
        workers: int. Threads that make images, 0 for the caller's own. Default: one per core. The
            batches are the same with any number, and never more than a few are in memory.

    Returns:
        ``Batches``, a ``tf.data.Dataset`` with ``info``: images (batch, height, width, 3),
        normalized, and labels (batch, num_classes), 1 for each right class, else 0. The last batch
        may be smaller.

    Raises:
        UserError: the dataset is not there, or has too many unreadable images.

    Example:
        >>> import keras_deit as kd
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     batches = kd.data.images("digits/5to9", "test", data_dir, size=(8, 8), crop=1)
        >>> batches.class_names
        ('5', '6', '7', '8', '9')
    """
    import tensorflow as tf

    from keras_deit.data.batches import Batches, BatchInfo

    check_crop(crop)
    source = datasets.load(dataset, split, data_dir, preprocessing.upright)
    begin, end, longest = _run_of_process(len(source), *process)

    rows = min(EVALUATION_BATCH, longest)
    steps = -(-longest // rows)
    process_count = process[1]

    unreadable = UnreadableImages(split, max_damaged)
    info = BatchInfo(
        class_names=source.class_names,
        images=len(source),
        batch_size=rows * process_count,
        steps=steps,
        process_count=process_count,
        content=source.content,
        unreadable=unreadable.reasons,
    )
    black = np.zeros((*size, 3), np.uint8)

    def read(index):
        example, reason = try_read(source.__getitem__, index)
        if reason is None:
            return example
        unreadable.add(index, reason)
        return black, ()

    workers = os.cpu_count() if workers is None else workers
    pool = ThreadPoolExecutor(workers) if workers else None

    # All threads work on the same batch: if each made one, they would fill the memory, and most of
    # them would have nothing to do in a small dataset.
    def make_batch(number):
        first = begin + number * rows
        count = max(0, min(rows, end - first))
        views = aligned_empty((count, *size, 3))
        labels = np.zeros((count, info.num_classes), np.float32)

        def fill(some_rows):
            for row in some_rows:
                image, label = read(first + row)
                views[row] = evaluation_view(image, size, crop, preprocessing)
                labels[row, list(label) if isinstance(label, tuple) else label] = 1

        chunks = np.array_split(range(count), CHUNKS_PER_THREAD * max(1, workers))
        collections.deque((pool.map if pool else map)(fill, chunks), maxlen=0)
        return views, labels

    # Static shapes, if no batch of any process is smaller than the others.
    static_rows = rows if steps * rows * process_count == len(source) else None
    shapes = (static_rows, *size, 3), (static_rows, info.num_classes)

    # A second batch, so that no thread waits for the last image of the first one.
    batch_numbers = tf.data.Dataset.range(steps)
    threads = min(2, workers)
    batches = parallel_map(batch_numbers, make_batch, shapes, threads, info.errors, ahead=threads)
    batches = batches.map(lambda _, images, labels: (images, labels)).prefetch(1)
    batches = batches.apply(tf.data.experimental.assert_cardinality(steps))
    return Batches(batches, info)


def _run_of_process(count, process_index, process_count):
    """(begin, end) of a process' images, and how many the longest run has."""
    longest = -(-count // process_count)  # rounded up
    if longest * (process_count - 1) >= count:
        raise UserError(
            f"{count} images to evaluate for {process_count} processes: expected fewer processes"
        )
    begin = min(process_index * longest, count)
    return begin, min(begin + longest, count), longest


@contextlib.contextmanager
def user_errors(batches):
    """A context in which a UserError raised while ``batches`` are made reaches the caller.

    Otherwise TensorFlow raises an error of another type, with our message inside its text.

    Args:
        batches: ``Batches``. Errors of other datasets stay as they are.
    """
    try:
        yield
    except Exception:
        info = getattr(batches, "info", None)
        if info is None or not info.errors:
            raise
        raise info.errors[0] from None
