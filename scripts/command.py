"""How every command starts: quiet TensorFlow, one line for what a user can put right."""

import os
import sys
import tempfile


def _import_quietly():
    """TensorFlow, without what its C++ says of drivers before it reads a log level."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as said:
        os.dup2(said.fileno(), 2)
        try:
            import tensorflow  # noqa: F401
        except BaseException:
            said.seek(0)
            os.write(stderr, said.read())
            raise
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


_import_quietly()

from absl import app, flags, logging  # noqa: E402

from keras_deit.errors import UserError  # noqa: E402


def run(main):
    """Parses the flags and calls ``main()``; a wrong flag or a UserError ends in one line on
    stderr and exit code 2 (75: stopped and saved, the same command goes on)."""
    app.run(lambda _: _guarded(main), flags_parser=_parse)


def _parse(argv):
    try:
        rest = flags.FLAGS(argv)[1:]
    except flags.Error as error:
        _fail(" ".join(str(error).split()))
    if rest:
        _fail(f"unexpected {rest[0]!r}: expected --flag=value")
    return argv


def _guarded(main):
    logging.set_verbosity(logging.WARNING)  # TFDS would report every file it opens
    try:
        main()
    except UserError as error:
        _fail(error, error.code)
    except KeyboardInterrupt:
        sys.exit(130)


def _fail(message, code=2):
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)
