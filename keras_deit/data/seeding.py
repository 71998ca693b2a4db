"""Which random numbers belong to what, and the order of an epoch.

Everything random in the data is a pure function of (seed, epoch) and of what it is for, so neither
workers, devices, processes nor restarts change a batch.
"""

import functools

import numpy as np

SUBSET, ORDER, VIEW, MIX = range(4)  # what the numbers are for


def generator(seed, epoch, purpose, first=0, second=0):
    """An independent numpy generator for each combination of non-negative integers."""
    # Philox draws by counting up the first word of its counter; the others name the stream.
    bits = np.random.Philox(key=[seed, epoch], counter=[0, purpose, first, second])
    return np.random.Generator(bits)


@functools.lru_cache(maxsize=2)  # every batch of an epoch asks for it
def order(seed, epoch, size, passes=1):
    """The order of an epoch: one permutation of ``range(size)`` after the other, int64
    (passes * size,)."""
    turns = (generator(seed, epoch, ORDER, turn).permutation(size) for turn in range(passes))
    rows = np.concatenate(list(turns))
    rows.flags.writeable = False
    return rows
