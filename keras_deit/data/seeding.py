"""Random streams keyed by (seed, epoch, purpose), and the order of an epoch.

Everything random in the data is a pure function of the seed, the epoch and what the numbers are
for. So neither workers, devices, processes nor restarts change a batch.
"""

import functools

import numpy as np

SUBSET, ORDER, VIEW, MIX = range(4)  # purposes


def generator(seed, epoch, purpose, first=0, second=0):
    """An independent random stream for each combination of arguments.

    Args:
        seed, epoch: non-negative ints.
        purpose: one of ``SUBSET``, ``ORDER``, ``VIEW``, ``MIX``.
        first, second: non-negative ints, whose meaning depends on the purpose. Default 0.

    Returns:
        A ``numpy.random.Generator``.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.data.seeding import VIEW, generator
        >>> generator(0, 3, VIEW, 7).random() == generator(0, 3, VIEW, 7).random()
        True
        >>> generator(0, 3, VIEW, 7).random() == generator(0, 4, VIEW, 7).random()
        False
    """
    # Philox draws by counting up the first word of its counter; the others name the stream.
    bits = np.random.Philox(key=[seed, epoch], counter=[0, purpose, first, second])
    return np.random.Generator(bits)


@functools.lru_cache(maxsize=2)  # every batch of an epoch reads the same order
def epoch_order(seed, epoch, size, passes=1):
    """The order of an epoch's images: a permutation of ``range(size)`` for each pass.

    Args:
        seed, epoch: non-negative ints.
        size: int. The number of images.
        passes: int. How often the epoch shows every image. Default 1.

    Returns:
        int64 (passes * size,), read-only.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.data.seeding import epoch_order
        >>> sorted(epoch_order(seed=0, epoch=1, size=4).tolist())
        [0, 1, 2, 3]
    """
    permutations = [generator(seed, epoch, ORDER, i).permutation(size) for i in range(passes)]
    order = np.concatenate(permutations)

    order.flags.writeable = False  # all callers share the cached array
    return order
