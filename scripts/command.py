"""How every command starts: quiet TensorFlow, one line for what a user can put right."""

import contextlib
import os
import signal
import sys
import traceback
import warnings

from absl import app, flags, logging

from scripts import quiet  # noqa: F401 - before anything that imports TensorFlow

from keras_deit.utils.errors import UserError  # isort: skip


def run(main, words=False):
    """Parses the flags and calls ``main``, with the words that are no flags, if it takes any; a
    wrong flag or a UserError ends in one line and exit code 2 (75: saved, the same goes on)."""
    app.run(lambda rest: _guarded(main, rest[1:]), flags_parser=lambda argv: _parse(argv, words))


def _parse(argv, words):
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))
    if rest[1:] and not words:
        _fail(f"unexpected {rest[1]!r}: expected --flag=value")
    return rest


def _guarded(main, words):
    logging.set_verbosity(logging.WARNING)  # TFDS would report every file it opens
    warnings.formatwarning = lambda message, *_: f"warning: {message}\n"
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        main(*words)
    except UserError as error:
        _fail(error, error.code)
    except KeyboardInterrupt:
        _end(130)
    except BrokenPipeError:
        _fail("what read the output is gone")
    except Exception:
        traceback.print_exc()
        _end(1)


def _fail(message, code=2):
    print(f"error: {message}", file=sys.stderr)
    _end(code)


def _end(code):
    """Ends the process at once: TensorFlow's threads do not always outlive the interpreter."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code)
