"""Data sets by TFDS name, as random access to decoded images."""

import pathlib
from dataclasses import dataclass, field

import numpy as np

from keras_deit.errors import UserError

BUILDERS = {"digits": "keras_deit.data.digits"}  # ours, prepared on first use from what is at hand
CACHE_BYTES = 256 << 20  # decoded images kept in memory


@dataclass
class Dataset:
    """One split. ``dataset[i]`` is a uint8 (height, width, 3) image and its label, an int."""

    name: str
    split: str
    source: object  # anything with len() and [i] giving {"image": uint8, "label": int}
    class_names: tuple[str, ...]
    _cache: dict = field(default_factory=dict)
    _room: int = CACHE_BYTES

    def __len__(self):
        return len(self.source)

    def __getitem__(self, index):
        if index in self._cache:
            return self._cache[index]
        record = self.source[index]
        image = record["image"]
        if image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        if image.nbytes <= self._room:
            self._room -= image.nbytes
            self._cache[index] = image, int(record["label"])
        return image, int(record["label"])

    @property
    def num_classes(self):
        return len(self.class_names)

    def fraction(self, share, rng):
        """Sorted indices of a random ``share`` of each class, at least one image of it."""
        if share == 1:
            return np.arange(len(self))
        labels = np.array([self[i][1] for i in range(len(self))])
        chosen = []
        for label in np.unique(labels):
            rows = rng.permutation(np.flatnonzero(labels == label))
            chosen.append(rows[: max(1, round(share * len(rows)))])
        return np.sort(np.concatenate(chosen))


def load(name, split, data_dir=None):
    """Opens a split of the TFDS data set ``name``.

    Args:
        name: a TFDS name, or ``digits``, which is embedded.
        split: a TFDS split, slices included: "train", "train[:90%]", "train+validation".
        data_dir: where TFDS keeps its data sets; None is TFDS' own default.

    Raises:
        UserError: when the data set, the split or its files are not there.
    """
    import tensorflow_datasets as tfds

    builder = _builder(tfds, name, data_dir)
    if not builder.info.splits:
        where = f" --data_dir={data_dir}" if data_dir else ""
        raise UserError(
            f"data set {name} is not prepared (looked in {builder.data_dir}): prepare it with"
            f" 'tfds build {name}{where} --file_format=array_record'"
        )
    known = ", ".join(builder.info.splits)
    try:
        source = builder.as_data_source(split)
    except (ValueError, KeyError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"split {split!r} of {name} (it has {known}): {reason}") from error
    if not len(source):
        raise UserError(f"split {split!r} of {name} (it has {known}): expected at least one image")
    features = builder.info.features
    if not {"image", "label"} <= set(features):
        raise UserError(f"data set {name} has no 'image' and 'label', but {', '.join(features)}")
    return Dataset(name, split, source, tuple(features["label"].names))


def _builder(tfds, name, data_dir):
    options = {"data_dir": data_dir, "file_format": "array_record"}
    try:
        if name not in BUILDERS:
            return tfds.builder(name, **options)
        import importlib

        importlib.import_module(BUILDERS[name])  # registers it with TFDS
        builder = tfds.builder(name, **options)
        if not builder.info.splits:
            tfds.disable_progress_bar()
            builder.download_and_prepare()
        return builder
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        where = pathlib.Path(data_dir).resolve() if data_dir else "TFDS' default folder"
        raise UserError(
            f"no data set {name!r}: expected {', '.join(BUILDERS)} or a name of"
            f" TensorFlow Datasets (looked in {where})"
        ) from error
    except OSError as error:
        raise UserError(f"data set {name} cannot be kept in {data_dir}: {error}") from error
