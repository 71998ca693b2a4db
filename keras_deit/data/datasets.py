"""Data sets by name: TFDS', our own builders, a folder of class folders."""

import contextlib
import importlib
import pathlib
from dataclasses import dataclass, field

import numpy as np

from keras_deit.data.decode import decode
from keras_deit.data.folders import Folder
from keras_deit.data.records import Records
from keras_deit.utils.errors import Unreadable, UserError, reason

# Builders of our own, where TFDS has none, or one whose address is dead.
BUILDERS = {
    "digits": ("keras_deit.data.builders.digits", "Digits"),
    "cars196": ("keras_deit.data.builders.cars196", "Cars196"),
    "i_naturalist2019": ("keras_deit.data.builders.i_naturalist2019", "INaturalist2019"),
}
KEYS = ("image", "label")
EMBEDDED = ("digits",)  # prepared on first use from what is at hand
CACHE_BYTES = 256 << 20  # small decoded images kept in memory
SMALL = 1 << 14  # bytes


@dataclass
class Dataset:
    """One split. ``dataset[i]`` is a uint8 (height, width, 3) image and its label, an int, or a
    tuple of ints where several are right."""

    name: str
    split: str
    source: object  # anything with len() and [i] giving encoded bytes and a label
    class_names: tuple[str, ...]
    _cache: dict = field(default_factory=dict)
    _room: int = CACHE_BYTES

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index in self._cache:
            return self._cache[index]
        data, label = self._read(index)
        try:
            image = decode(data)
        except UserError as error:
            raise Unreadable(f"{self.where(index)}: {error}") from error
        if image.nbytes <= min(SMALL, self._room):
            self._room -= image.nbytes
            self._cache[index] = image, label
        return image, label

    def _read(self, index):
        try:
            data, label = self.source[index]
            for one in label if isinstance(label, tuple) else (label,):
                if not 0 <= one < self.num_classes:
                    raise ValueError(f"its class is number {one} of {self.num_classes}")
            return data, label
        except UserError:
            raise
        except Exception as error:  # whatever a reader makes of damaged bytes
            raise Unreadable(f"{self.where(index)}: damaged record: {reason(error)}") from error

    def _label(self, index):
        try:
            return self._read(index)[1]
        except Unreadable:
            return -1

    @property
    def num_classes(self):
        return len(self.class_names)

    def where(self, index):
        """What a person can find an example by."""
        path = getattr(self.source, "where", lambda _: None)(index)
        return str(path) if path else f"{self.name}, {self.split}, example {index}"

    def fraction(self, share, rng):
        """Sorted indices of a random ``share`` of each class, at least one image of it, and of
        every example that cannot be read, which will be found out where it is used."""
        if share == 1:
            return np.arange(len(self))
        labels = np.array([self._label(i) for i in range(len(self))])
        chosen = [np.flatnonzero(labels == -1)]
        for label in np.unique(labels[labels >= 0]):
            rows = rng.permutation(np.flatnonzero(labels == label))
            chosen.append(rows[: max(1, round(share * len(rows)))])
        return np.sort(np.concatenate(chosen))


def load(name, split, data_dir=None):
    """Opens a split of a data set.

    Args:
        name: a TFDS name (with ``/config``, where it has some), one of ``BUILDERS``, or
            ``folder:<path>``, a folder of class folders, see ``Folder``.
        split: a TFDS split, slices included: "train", "train[:90%]", "train+validation".
        data_dir: where TFDS keeps its data sets, as TFRecord or ArrayRecord; None is TFDS' own
            default.

    Raises:
        UserError: when the data set, the split or its files are not there: says what was looked
            for, where, and the command that prepares it.
    """
    if name.startswith("folder:"):
        try:
            source = Folder(name.removeprefix("folder:"), split)
        except OSError as error:
            raise UserError(f"cannot read {error.filename}: {error.strerror}") from error
        return Dataset(name, split, source, source.class_names)
    builder = make_builder(name, data_dir)
    if not builder.info.splits:
        if not ready(name, data_dir):
            raise UserError(_unprepared(name, data_dir, builder))
        import tensorflow_datasets as tfds

        tfds.disable_progress_bar()
        with contextlib.redirect_stdout(None):  # it is done before one has read of it
            builder = prepare(name, data_dir)
    return _open(builder, name, split)


def ready(name, data_dir=None):
    """Whether a data set is prepared, or will be at its first use. Raises UserError for no name."""
    embedded = name.partition("/")[0] in EMBEDDED
    return embedded or bool(make_builder(name, data_dir).info.splits)


def prepare(name, data_dir=None):
    """Downloads what can be, and writes the data set as ArrayRecord. Returns its builder.

    Raises:
        UserError: unknown name, no network, no room, or files to be downloaded by hand missing.
    """
    if name.startswith("folder:"):
        raise UserError(f"{name} is used as it is: there is nothing to prepare")
    builder = make_builder(name, data_dir)
    try:
        builder.download_and_prepare(file_format="array_record")
    except UserError:
        raise
    except Exception as error:  # of the network, the disk, the archives, TFDS itself
        raise UserError(
            f"{name} could not be prepared: {reason(error).rstrip('.:')}.{_by_hand(builder)}"
        ) from error
    return builder


def _open(builder, name, split):
    keys = builder.info.supervised_keys or KEYS  # which some builders do not say
    if len(keys) != 2 or not set(keys) <= set(builder.info.features):
        features = ", ".join(builder.info.features)
        raise UserError(f"data set {name} is not of images and labels, but of {features}")
    known = ", ".join(builder.info.splits)
    try:
        source = Records(builder, split, keys)
    except (ValueError, KeyError, NotImplementedError) as error:
        raise UserError(f"split {split!r} of {name} (it has {known}): {reason(error)}") from error
    except Exception as error:  # whatever a reader makes of damaged files
        raise UserError(
            f"the files of {name} in {builder.data_dir} are damaged or missing:"
            f" remove that folder and prepare it again: {reason(error)}"
        ) from error
    if not len(source):
        raise UserError(f"split {split!r} of {name} (it has {known}): expected at least one image")
    label = builder.info.features[source.label]
    return Dataset(name, split, source, tuple(getattr(label, "feature", label).names))


def make_builder(name, data_dir):
    """The TFDS builder of a data set, prepared or not. Raises UserError for an unknown name."""
    import tensorflow_datasets as tfds

    try:
        base, _, config = name.partition("/")
        if base not in BUILDERS:
            return tfds.builder(name, data_dir=data_dir)
        module, kind = BUILDERS[base]
        kind = getattr(importlib.import_module(module), kind)
        return kind(data_dir=data_dir, config=config or None)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        where = pathlib.Path(data_dir).resolve() if data_dir else "TFDS' default folder"
        raise UserError(
            f"no data set {name!r}: expected {', '.join(BUILDERS)}, a name of TensorFlow Datasets"
            f" or folder:<path> (looked in {where})"
        ) from error
    except OSError as error:
        raise UserError(f"data set {name} cannot be kept in {data_dir}: {error}") from error
    except Exception as error:  # of a description that is damaged
        raise UserError(
            f"data set {name} in {data_dir} is described by a damaged dataset_info.json or"
            f" features.json: remove its folder and prepare it again: {reason(error)}"
        ) from error


def _unprepared(name, data_dir, builder):
    where = f" --data_dir={data_dir}" if data_dir else ""
    return (
        f"data set {name} is not prepared (looked in {builder.data_dir}):"
        f" prepare it with 'python -m scripts.prepare --dataset={name}{where}'.{_by_hand(builder)}"
    )


def _by_hand(builder):
    """Which files belong where, for a data set that is not downloaded freely."""
    if not builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        return ""
    what = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    folder = pathlib.Path(builder._data_dir_root).expanduser() / "downloads" / "manual"
    return f" Download by hand into {folder}: {what}"
