"""How every command starts and ends: TensorFlow kept silent, flags, one line for an error."""

import contextlib
import os
import sys
import traceback

from scripts import quiet

from absl import app, flags

from keras_deit.utils.errors import UserError


def run(main, words=False):
    """Parses the flags and calls ``main``, with the arguments that are not flags if ``words``.

    A wrong flag and a UserError end in one line and the error's exit code: 2, or 75 if the run is
    saved and the same command resumes it. Ctrl-C ends in exit code 130.
    """
    app.run(lambda rest: _run_main(main, rest[1:]), flags_parser=lambda argv: _parse(argv, words))


def _parse(argv, words):
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))

    if rest[1:] and not words:
        _fail(f"unexpected {rest[1]!r}: expected --flag=value")
    return rest


def _run_main(main, words):
    quiet.begin_command()
    try:
        main(*words)
    except UserError as error:
        _fail(error, error.code)
    except KeyboardInterrupt:
        _end(130)
    except BrokenPipeError:
        _fail("broken pipe: nothing reads the output any more")
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
