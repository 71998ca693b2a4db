"""What ``prepare`` asks of TFDS: one process at a time, and no minutes without a network."""

import contextlib
import pathlib

from keras_deit.utils.files import locked
from keras_deit.utils.network import check_reachable

BUCKETS = "https://storage.googleapis.com"  # where TFDS keeps prepared copies of its datasets


def one_at_a_time(name, data_dir):
    """A context that only one process at a time enters, among those that prepare a dataset.

    Args:
        name: str. The dataset, without its configuration.
        data_dir: str or path. The folder that its files are in; in a bucket there are no locks.
    """
    if "://" in str(data_dir):
        return contextlib.nullcontext()
    return locked(pathlib.Path(data_dir) / f".{name}.lock")


def download_config(has_copy):
    """TFDS' settings of a download.

    Args:
        has_copy: bool. Whether TFDS may have a prepared copy, which is looked for if ``BUCKETS``
            can be reached: TensorFlow would retry for minutes, and the dataset's files may be here.
    """
    import tensorflow_datasets as tfds

    if has_copy:
        try:
            check_reachable(BUCKETS)
        except OSError:
            has_copy = False
    return tfds.download.DownloadConfig(try_download_gcs=has_copy)
