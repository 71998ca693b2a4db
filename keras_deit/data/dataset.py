"""``Dataset``: one split, of whatever source."""

from dataclasses import dataclass, field

import numpy as np

from keras_deit.data.decode import decode
from keras_deit.utils.errors import Unreadable, UserError, reason

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
        upright: bool. Whether images are turned as their EXIF orientation says. Default False.

    Raises:
        Unreadable: by ``dataset[i]``, for an image or record that cannot be read.
    """

    name: str
    split: str
    source: object
    class_names: tuple[str, ...]
    upright: bool = False

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
            image = decode(data, self.upright)
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
