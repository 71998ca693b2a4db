"""How every command starts and ends: flags, TensorFlow kept silent, one line for an error."""

import contextlib
import os
import sys
import traceback

from absl import app, flags

from scripts import quiet


def run(main, words=False):
    """Parses the flags and calls ``main``, with the arguments that are not flags if ``words``.

    A wrong flag ends in one line and exit code 2, a UserError in its own code, Ctrl-C in 130.
    """
    app.run(lambda rest: _run_main(main, rest[1:]), flags_parser=lambda argv: _parse(argv, words))


def _parse(argv, words):
    argv = ["=".join(map(os.path.expanduser, word.split("=", 1))) for word in argv]  # --flag=~/path
    try:
        rest = flags.FLAGS(argv)
    except flags.Error as error:
        _fail(" ".join(str(error).split()))
    except (SystemExit, BrokenPipeError):
        _end(0)  # absl has printed the help
    if rest[1:] and not words:
        _fail(f"unexpected {rest[1]!r}: expected --flag=value")
    return rest


def _run_main(main, words):
    quiet.import_tensorflow()  # only now, and in ``main`` the library: --help waits for neither
    from keras_deit.utils.errors import UserError  # isort: skip

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
