"""Reads many images in threads, and sets aside those that cannot be read."""

import collections
import itertools
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import cv2

from keras_deit.utils.errors import Unreadable, UserError

AHEAD = 64  # images that are read before the first of them is taken


def read_images(read, items, workers=None):
    """Reads images in threads, in order, with bounded memory.

    Args:
        read: a function of an item, such as a path or an index, to any value. Raises ``Unreadable``
            or ``OSError`` if the image cannot be read; any other error ends the reading.
        items: an iterable.
        workers: int. The number of threads. Default: one per core.

    Yields:
        (item, value, None), or (item, None, reason) with the reason as a str.

    Example:
        >>> import keras_deit as kd
        >>> from keras_deit.data.reading import read_images
        >>> def read(path):
        ...     with open(path, "rb") as file:
        ...         return file.read()
        >>> list(read_images(read, ["missing.jpg"]))
        [('missing.jpg', None, 'No such file or directory')]
    """

    def work(item):
        use_one_opencv_thread()
        return try_read(read, item)

    items = iter(items)
    pending = collections.deque()
    pool = ThreadPoolExecutor(workers or os.cpu_count())

    def submit(count):
        for item in itertools.islice(items, count):
            pending.append((item, pool.submit(work, item)))

    try:
        submit(AHEAD)
        while pending:
            item, future = pending.popleft()
            value, reason = future.result()
            submit(1)
            yield item, value, reason
    finally:  # also if the caller stops early
        pool.shutdown(cancel_futures=True)


def try_read(read, item):
    """``read(item)`` of one image.

    Returns:
        (value, None), or (None, reason) if ``read`` raises ``Unreadable`` or ``OSError``.
    """
    try:
        return read(item), None
    except Unreadable as error:
        return None, str(error)
    except OSError as error:
        return None, error.strerror or str(error)


def use_one_opencv_thread():
    """Keeps OpenCV from starting threads, in the whole process.

    Our threads work on an image each, and OpenCV's would only compete with them. They call this
    before each image, which costs 0.1 microseconds, instead of an import that would change the
    setting for programs that make no images here.
    """
    cv2.setNumThreads(1)


class UnreadableImages:
    """The images of a split that could not be read so far. Safe in threads.

    Args:
        split: str. The split's name, for messages.
        allowed: int. How many there may be.

    Attributes:
        reasons: dict from an image's index to the reason.
    """

    def __init__(self, split, allowed):
        self.split = split
        self.allowed = allowed
        self.reasons = {}
        self._lock = threading.Lock()

    def add(self, index, reason):
        """Notes an image, and warns of it the first time.

        Raises:
            UserError: there are more than ``allowed``.
        """
        with self._lock:
            is_new = index not in self.reasons
            self.reasons[index] = reason
            count = len(self.reasons)

        if count > self.allowed:
            raise too_many_unreadable(count, reason, self.allowed)
        if is_new:
            warnings.warn(
                f"{reason}: skipped ({count} unreadable so far in {self.split})", stacklevel=3
            )


def too_many_unreadable(count, reason, allowed):
    """The UserError for ``count`` unreadable images, the last one for ``reason``."""
    if not allowed:
        return UserError(reason)
    return UserError(
        f"{count} unreadable images, the last one {reason}; expected at most max_damaged={allowed}:"
        " fix the data or raise max_damaged"
    )
