"""Latencies of functions, measured in turn."""

import statistics
import time

MAX_ROUNDS = 15
MAX_SECONDS = 5.0  # after which no further round begins


def median_milliseconds(*functions):
    """The median duration of a call of each function, in milliseconds.

    The functions, without arguments, are called in turn, so that a change in the machine's speed
    affects all of them. One call of each before that is not timed.

    Returns:
        A tuple of floats, one per function.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.exports.timing import median_milliseconds
        >>> short, long = median_milliseconds(lambda: sum(range(10)), lambda: sum(range(10_000)))
        >>> short < long
        True
    """
    for function in functions:
        function()

    durations = [[] for _ in functions]
    start = time.perf_counter()
    for _ in range(MAX_ROUNDS):
        for function, milliseconds in zip(functions, durations, strict=True):
            begin = time.perf_counter()
            function()
            milliseconds.append(1000 * (time.perf_counter() - begin))
        if time.perf_counter() - start > MAX_SECONDS:
            break
    return tuple(map(statistics.median, durations))
