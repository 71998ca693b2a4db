"""Private behavior of TensorFlow Datasets that this project relies on; see ``keras_private.py``."""

import contextlib

from keras_deit.utils.keras_private import PrivateName
from keras_deit.utils.network import check_reachable

_DOWNLOADER = "tensorflow_datasets.core.download.downloader"

NAMES = (
    PrivateName(
        _DOWNLOADER,
        "_open_url",
        ("kwargs",),
        "tensorflow_datasets/core/download/downloader.py:322",
        "reachable_servers: TFDS would retry for three minutes without a network",
    ),
)


@contextlib.contextmanager
def reachable_servers():
    """Within it, what TFDS downloads must come from servers that answer in seconds: the others
    raise OSError."""
    from tensorflow_datasets.core.download import downloader

    open_url = downloader._open_url

    def open_reachable(url, **kwargs):
        check_reachable(url)
        return open_url(url, **kwargs)

    downloader._open_url = open_reachable
    try:
        yield
    finally:
        downloader._open_url = open_url
