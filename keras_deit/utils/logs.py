"""What the library prints of its progress: one logger, ``keras_deit``, with a line per message.

Messages go to standard output at level INFO, and warnings to Python's ``warnings``. To redirect or
filter them, configure ``logging.getLogger("keras_deit")``. A function's ``quiet=True`` silences the
library, progress bars included, until the function returns.
"""

import contextlib
import logging
import sys

from keras_deit.utils.names import printable

logger = logging.getLogger("keras_deit")


class _StandardOutput(logging.StreamHandler):
    """Writes to ``sys.stdout`` as it is at the time, as ``print`` does."""

    def __init__(self):
        super().__init__(sys.stdout)
        self.setFormatter(logging.Formatter("%(message)s"))

    stream = property(lambda self: sys.stdout, lambda self, _: None)


def set_up():
    """Gives the logger its handler and its level, once, unless the application did."""
    if not logger.handlers:
        logger.addHandler(_StandardOutput())
        logger.propagate = False
    if logger.level == logging.NOTSET:
        logger.setLevel(logging.INFO)


def info(message):
    """Prints a line."""
    # Any handler can write it, also one that knows only valid Unicode.
    logger.info("%s", printable(message))


def verbose():
    """Whether messages and progress bars are shown, as Keras' ``verbose``: 1 or 0."""
    return int(logger.isEnabledFor(logging.INFO))


@contextlib.contextmanager
def quiet(quiet=True):
    """A context in which, if ``quiet`` is true, the library shows no messages and progress bars."""
    if not quiet:
        yield
        return

    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)


set_up()
