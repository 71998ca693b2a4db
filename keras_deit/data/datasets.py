"""Datasets by name: TFDS', our own builders, a folder of class folders."""

import contextlib
import importlib
import pathlib

from keras_deit.configs.class_names import numbered
from keras_deit.data import folders
from keras_deit.data.builders import BUILDERS
from keras_deit.data.dataset import Dataset
from keras_deit.data.downloads import download_config, one_at_a_time
from keras_deit.data.records import Records
from keras_deit.utils.errors import UserError, reason
from keras_deit.utils.paths import FOLDER, expand_home
from keras_deit.utils.tfds_private import reachable_servers

KEYS = ("image", "label")  # features of a builder that names none


def load(name, split, data_dir=None, upright=False):
    """Opens a split of a dataset.

    Args:
        name: str. A TFDS name (with ``/config``, if it has some), one of ``BUILDERS``, or
            ``folder:<path>``, a folder of class folders, see ``folders.Folder``.
        split: str. A TFDS split, slices included: "train", "train[:90%]", "train+validation".
        data_dir: str or path. Where TFDS keeps its datasets, as TFRecord or ArrayRecord. Default:
            TFDS' own.

    Returns:
        A ``Dataset``.

    Raises:
        UserError: the dataset, the split or its files do not exist. The message names what was
            looked for, the folder, and the command that prepares it.

    Example:
        >>> import keras_deit as kd
        >>> import tempfile
        >>> from keras_deit.data import datasets
        >>> with tempfile.TemporaryDirectory() as data_dir:
        ...     digits = datasets.load("digits/0to4", "train[:10]", data_dir)
        ...     image, label = digits[0]
        >>> len(digits), image.shape, label
        (10, (8, 8, 3), 2)
    """
    if name.startswith(FOLDER):
        return _load_folder(expand_home(name), split, upright)

    builder = make_builder(name, data_dir)
    if not builder.info.splits:
        if not ready(name, data_dir):
            raise UserError(_unprepared(name, data_dir, builder))
        builder = _prepare_silently(name, data_dir)
    return _open(builder, name, split, upright)


def _load_folder(name, split, upright):
    try:
        source = folders.Folder(name.removeprefix(FOLDER), split)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return Dataset(name, split, source, source.class_names, upright)


def default_split(name):
    """The split of a dataset to evaluate on, a str: "validation", or see ``folders``."""
    folder = expand_home(name).removeprefix(FOLDER)
    return folders.default_split(folder) if name.startswith(FOLDER) else "validation"


def ready(name, data_dir=None):
    """Whether a dataset is prepared, or will be on its first use.

    Raises:
        UserError: no dataset has that name.
    """
    row = BUILDERS.get(_base_name(name))
    is_embedded = row is not None and row.embedded
    return is_embedded or bool(make_builder(name, data_dir).info.splits)


def _base_name(name):
    """A dataset's name without its configuration."""
    return name.partition("/")[0]


def _prepare_silently(name, data_dir):
    """``prepare`` for an embedded dataset, which takes two seconds."""
    import tensorflow_datasets as tfds

    tfds.disable_progress_bar()
    with contextlib.redirect_stdout(None):
        return prepare(name, data_dir)


def prepare(name, data_dir=None):
    """Downloads a dataset, if it is free, and writes it as ArrayRecord.

    Returns:
        Its TFDS builder.

    Raises:
        UserError: unknown name, no network, no room, or missing files to download by hand.
    """
    if name.startswith(FOLDER):
        raise UserError(f"{name} is used as it is: there is nothing to prepare")

    builder = make_builder(name, data_dir)
    if builder.info.splits:
        return builder

    with one_at_a_time(_base_name(name), builder.data_dir_root):
        builder = make_builder(name, data_dir)  # another process may have prepared it meanwhile
        try:
            with reachable_servers():
                config = download_config(has_copy=_base_name(name) not in BUILDERS)
                builder.download_and_prepare(file_format="array_record", download_config=config)
        except UserError:
            raise
        except Exception as error:  # of the network, the disk, the archives, TFDS itself
            raise UserError(
                f"{name} could not be prepared: {reason(error).rstrip('.:')}.{_by_hand(builder)}"
            ) from error
    return builder


def _open(builder, name, split, upright):
    """The ``Dataset`` of a prepared builder's split."""
    keys = builder.info.supervised_keys or KEYS
    if len(keys) != 2 or not set(keys) <= set(builder.info.features):
        features = ", ".join(builder.info.features)
        raise UserError(f"dataset {name} has {features}: expected images and labels")

    splits = ", ".join(builder.info.splits)
    try:
        source = Records(builder, split, keys)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(f"split {split!r} of {name} (it has {splits}): {reason(error)}") from error
    except Exception as error:  # corrupt files make readers raise errors of any type
        raise UserError(
            f"the files of {name} in {builder.data_dir} are corrupt or missing:"
            f" remove that folder and prepare it again: {reason(error)}"
        ) from error
    if not len(source):
        raise UserError(f"split {split!r} of {name} (it has {splits}): expected at least one image")

    class_names = _class_names(builder, name, source.label_key)
    return Dataset(name, split, source, class_names, upright)


def _class_names(builder, name, key):
    """The class names of a prepared builder's labels."""
    label = builder.info.features[key]
    label = getattr(label, "feature", label)  # of a sequence of labels
    count = getattr(label, "num_classes", None)
    if not count:
        raise UserError(
            f"{name}: its {key} has no number of classes: expected a tfds.features.ClassLabel"
        )

    # Without names TFDS gives the numbers as names, and writes no file of names.
    is_named = any(pathlib.Path(builder.data_dir).glob(f"{key}*.labels.txt"))
    return tuple(label.names) if is_named else numbered(count)


def make_builder(name, data_dir):
    """The TFDS builder of a dataset, prepared or not.

    Raises:
        UserError: unknown name, or files of it that cannot be read.
    """
    import tensorflow_datasets as tfds

    data_dir = expand_home(data_dir)
    try:
        row = BUILDERS.get(_base_name(name))
        if row is None:
            return tfds.builder(name, data_dir=data_dir)
        _, _, config = name.partition("/")
        builder_class = getattr(importlib.import_module(row.module), row.class_name)
        return builder_class(data_dir=data_dir, config=config or None)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        folder = pathlib.Path(data_dir).resolve() if data_dir else "TFDS' default folder"
        raise UserError(
            f"no dataset {name!r}: expected {', '.join(BUILDERS)}, a name of TensorFlow Datasets"
            f" or folder:<path> (looked in {folder})"
        ) from error
    except OSError as error:
        raise UserError(f"dataset {name} cannot be kept in {data_dir}: {error}") from error
    except Exception as error:  # of a corrupt description
        raise UserError(
            f"dataset {name} in {data_dir} has a corrupt dataset_info.json or features.json:"
            f" remove its folder and prepare it again: {reason(error)}"
        ) from error


def _unprepared(name, data_dir, builder):
    flag = f" --data_dir={data_dir}" if data_dir else ""
    return (
        f"dataset {name} is not prepared (looked in {builder.data_dir}):"
        f" prepare it with 'python -m scripts.prepare --dataset={name}{flag}'.{_by_hand(builder)}"
    )


def _by_hand(builder):
    """Which files to put where, for a dataset that cannot be downloaded freely."""
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return ""
    instructions = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    folder = pathlib.Path(builder.data_dir_root).expanduser() / "downloads" / "manual"
    return f" Download by hand into {folder}: {instructions}"
