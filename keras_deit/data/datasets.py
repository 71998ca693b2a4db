"""Datasets by name: TFDS', our own builders, a folder of class folders."""

import contextlib
import importlib
import pathlib
from dataclasses import dataclass, field

import numpy as np

from keras_deit.configs.class_names import numbered
from keras_deit.data.builders import BUILDERS
from keras_deit.data.decode import decode
from keras_deit.data.folders import Folder
from keras_deit.data.records import Records
from keras_deit.utils.errors import Unreadable, UserError, reason
from keras_deit.utils.files import locked

KEYS = ("image", "label")  # features of a builder that names none
CACHE_BYTES = 256 << 20  # for decoded images, per split
SMALL = 1 << 14  # bytes of the largest decoded image that is kept


@dataclass
class Dataset:
    """One split of a dataset: ``dataset[i]`` is an image and its label.

    The image is uint8 (height, width, 3). The label is an int, or a tuple of ints if several
    classes are right.

    Attributes:
        name: str. As ``load`` takes it.
        split: str.
        source: anything with ``len()`` and ``[i]``, which gives encoded bytes and a label.
        class_names: tuple of str.

    Raises:
        Unreadable: by ``dataset[i]``, for an image or record that cannot be read.
    """

    name: str
    split: str
    source: object
    class_names: tuple[str, ...]

    # Decoded images, and how many bytes of them may still be added.
    _cache: dict = field(default_factory=dict)
    _cache_room: int = CACHE_BYTES

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index in self._cache:
            return self._cache[index]

        data, label = self._read(index)
        try:
            image = decode(data)
        except Unreadable as error:
            raise Unreadable(f"{self.where(index)}: {error}") from error

        # Decoding is most of the work for small images, such as the digits.
        if image.nbytes <= min(SMALL, self._cache_room):
            self._cache_room -= image.nbytes
            self._cache[index] = image, label
        return image, label

    def _read(self, index):
        try:
            data, label = self.source[index]
            for number in label if isinstance(label, tuple) else (label,):
                if not 0 <= number < self.num_classes:
                    raise ValueError(f"its class is number {number} of {self.num_classes}")
            return data, label
        except UserError:
            raise
        except Exception as error:  # corrupt bytes make readers raise errors of any type
            raise Unreadable(f"{self.where(index)}: corrupt record: {reason(error)}") from error

    @property
    def num_classes(self):
        return len(self.class_names)

    @property
    def content(self):
        """Which images the split has and in which order, a dict of JSON values: "classes", from
        each class name to its number of images (None if only reading them all would tell), and
        "content", a digest of the files' names or the version of a TFDS dataset."""
        return {
            "classes": getattr(self.source, "class_sizes", dict.fromkeys(self.class_names)),
            "content": getattr(self.source, "content", None),
        }

    def where(self, index):
        """Human-readable location of an example: its file, or its place in the split."""
        path = getattr(self.source, "where", lambda _: None)(index)
        return str(path) if path else f"{self.name}, {self.split}, example {index}"

    def subset_indices(self, fraction, rng):
        """A random subset of the split, with the same fraction of each class.

        Args:
            fraction: float in [0, 1]. At least one image of each class is taken.
            rng: a numpy generator.

        Returns:
            Sorted int array of indices. Unreadable records, whose class is unknown, are all among
            them: whoever reads them skips and counts them.
        """
        if fraction == 1:
            return np.arange(len(self))

        labels = np.array([self._label_or_unreadable(index) for index in range(len(self))])
        chosen = [np.flatnonzero(labels == _UNREADABLE)]
        for label in np.unique(labels[labels != _UNREADABLE]):
            shuffled = rng.permutation(np.flatnonzero(labels == label))
            count = max(1, round(fraction * len(shuffled)))
            chosen.append(shuffled[:count])
        return np.sort(np.concatenate(chosen))

    def _label_or_unreadable(self, index):
        try:
            _, label = self._read(index)
        except Unreadable:
            return _UNREADABLE
        return label


_UNREADABLE = -1  # in place of a label


def load(name, split, data_dir=None):
    """Opens a split of a dataset.

    Args:
        name: str. A TFDS name (with ``/config``, if it has some), one of ``BUILDERS``, or
            ``folder:<path>``, a folder of class folders, see ``Folder``.
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
    if name.startswith("folder:"):
        return _load_folder(name, split)

    builder = make_builder(name, data_dir)
    if not builder.info.splits:
        if not ready(name, data_dir):
            raise UserError(_unprepared(name, data_dir, builder))
        builder = _prepare_silently(name, data_dir)
    return _open(builder, name, split)


def _load_folder(name, split):
    try:
        source = Folder(name.removeprefix("folder:"), split)
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
    return Dataset(name, split, source, source.class_names)


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
    if name.startswith("folder:"):
        raise UserError(f"{name} is used as it is: there is nothing to prepare")

    builder = make_builder(name, data_dir)
    if builder.info.splits:
        return builder

    with _one_at_a_time(name, builder):
        builder = make_builder(name, data_dir)  # another process may have prepared it meanwhile
        try:
            builder.download_and_prepare(file_format="array_record")
        except UserError:
            raise
        except Exception as error:  # of the network, the disk, the archives, TFDS itself
            raise UserError(
                f"{name} could not be prepared: {reason(error).rstrip('.:')}.{_by_hand(builder)}"
            ) from error
    return builder


def _one_at_a_time(name, builder):
    """A context that only one process at a time enters, among those that prepare a dataset."""
    if "://" in str(builder.data_dir_root):  # a bucket, in which there are no locks
        return contextlib.nullcontext()
    folder = pathlib.Path(builder.data_dir_root).expanduser()
    return locked(folder / f".{_base_name(name)}.lock")


def _open(builder, name, split):
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

    return Dataset(name, split, source, _class_names(builder, name, source.label_key))


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
