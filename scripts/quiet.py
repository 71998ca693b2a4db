"""A command without noise: no messages of TensorFlow's C++ code, no traceback of Ctrl-C."""

import logging
import os
import signal
import sys
import tempfile
import warnings

import absl.logging


def import_tensorflow():
    """Imports TensorFlow, whose C++ code prints messages before it reads the log level: standard
    error is held back, and shown if the import fails."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)  # C++ writes to the descriptor, not to sys.stderr
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)

    # It warns of functions that are made in a loop, which here is on purpose.
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def exit_on_interrupt():
    """Until a command begins, Ctrl-C ends the process with exit code 130 and no traceback."""
    signal.signal(signal.SIGINT, lambda *_: os._exit(130))


def begin_command():
    """From here on Ctrl-C raises KeyboardInterrupt, as usual in Python. Warnings are one line, TFDS
    no longer reports every file that it opens, and names that are not valid Unicode are escaped."""
    sys.stdout.reconfigure(errors="backslashreplace")
    signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    # Pillow warns of images that ``decode`` then refuses.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit")
    absl.logging.set_verbosity(absl.logging.WARNING)


exit_on_interrupt()  # as soon as this module is imported
