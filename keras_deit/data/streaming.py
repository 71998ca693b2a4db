"""Arrays made by Python in TensorFlow's threads, and which epoch a pass over them shows."""

import math
import os

import numpy as np

from keras_deit.data.reading import use_one_opencv_thread
from keras_deit.utils.errors import UserError


class EpochCursor:
    """Makes every pass over a dataset show the next epoch.

    A run is one long sequence of positions, ``length`` of them per epoch. A pass covers those from
    ``next`` to the end of that epoch. ``next`` moves on to the following epoch when the last batch
    of an epoch is handed to the consumer. So a pass that is left early is begun anew, which Keras'
    ``fit``, ``MirroredStrategy`` and JAX need: they open further iterators to look at shapes,
    and drop them.

    Three simpler ways do not work. The making of the last batch is no sign of its use: batches are
    made ahead of time. ``__iter__`` of a subclass of ``tf.data.Dataset`` is never called by
    ``MirroredStrategy``, which copies the graph; so both ends of a pass are Python functions inside
    the graph.
    ``Dataset.from_generator`` has such ends, but after one has run, TensorFlow 2.21 trains at half
    the speed.

    Args:
        epoch: int. The epoch of the first pass.
        first: int. The position in that epoch which the first pass begins with.
        length: int. Positions in an epoch.
    """

    def __init__(self, epoch, first, length):
        self.length = length
        self.next = epoch * length + first

    def positions(self):
        """The positions of one pass, a ``tf.data.Dataset`` of int64 scalars."""
        import tensorflow as tf

        def begin_pass(_):
            position = tf.numpy_function(lambda: np.int64(self.next), (), tf.int64)
            return tf.ensure_shape(position, ())

        def rest_of_epoch(position):
            end = (position // self.length + 1) * self.length
            return tf.data.Dataset.range(position, end)

        return _untuned(tf.data.Dataset.range(1).map(begin_pass).flat_map(rest_of_epoch))

    def hand_out(self, position, *batch):
        """Returns ``batch``, and notes that the consumer has everything up to ``position``.

        Map it over (last position of the batch, *arrays), after everything that makes
        batches ahead of time.
        """
        import tensorflow as tf

        def note(position):
            if (position + 1) % self.length == 0:
                self.next = int(position) + 1
            return position

        # tf.data runs a stateful function before it returns, though nothing reads its output.
        tf.numpy_function(note, (position,), tf.int64)
        return batch


def parallel_map(positions, make, shapes, workers, errors, ahead=None):
    """Makes arrays for each position, in threads, in order.

    Args:
        positions: a ``tf.data.Dataset`` of int64 scalars.
        make: a function of an int to a tuple of float32 arrays, such as (images, labels).
        shapes: their shapes.
        workers: int. The number of threads, 0 for the caller's own. Default: one per core.
        errors: list. Gets the UserErrors that ``make`` raises.
        ahead: int. How many positions are made before the first is taken, at most; 0 with no
            threads. Default: two per thread.

    Returns:
        A ``tf.data.Dataset`` of (position, *arrays).
    """
    import tensorflow as tf

    def make_arrays(position):
        use_one_opencv_thread()
        try:
            return make(int(position))
        except UserError as error:
            errors.append(error)
            raise

    def load(position):
        arrays = tf.numpy_function(
            make_arrays, (position,), [tf.float32] * len(shapes), stateful=False
        )
        return position, *map(tf.ensure_shape, arrays, shapes)

    workers = os.cpu_count() if workers is None else workers
    ahead = 2 * workers if ahead is None else ahead
    dataset = positions.map(load, num_parallel_calls=ahead or None)

    options = tf.data.Options()
    if workers:
        options.threading.private_threadpool_size = workers
    return _untuned(dataset.with_options(options))


def _untuned(dataset):
    """Turns TensorFlow's autotuner off, for ``dataset`` and everything derived from it.

    The autotuner would append a prefetch, after ``EpochCursor.hand_out`` too, which then would
    note batches that nobody took. It also has nothing to tune here, and ending it costs more than
    a second in every epoch.
    """
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def aligned_empty(shape):
    """An empty float32 array that begins at a multiple of 64 bytes.

    TensorFlow uses the memory of such an array, and copies others, which costs a tenth of the time
    to make a batch.
    """
    size = math.prod(shape)
    buffer = np.empty(size + 16, np.float32)
    first = -buffer.ctypes.data // 4 % 16
    return buffer[first : first + size].reshape(shape)
