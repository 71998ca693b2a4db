"""TensorFlow, imported without what its C++ says of drivers before it reads a log level."""

import logging
import os
import signal
import tempfile

signal.signal(signal.SIGINT, lambda *_: os._exit(130))  # until a command begins


def import_tensorflow():
    """With stderr shown only where it fails."""
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
    logging.getLogger("tensorflow").setLevel(logging.ERROR)  # it counts functions made in a loop


import_tensorflow()
