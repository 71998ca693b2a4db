"""A ``tf.data.Dataset`` of batches that carries its class names, sizes and errors."""

from dataclasses import dataclass, field

import tensorflow as tf

from keras_deit.utils.errors import UserError


@dataclass(frozen=True)
class BatchInfo:
    """Facts about batches, known before they are made, and problems found while making them.

    Attributes:
        class_names: tuple of str, in the order of the labels.
        images: int. The number of images, over all processes.
        batch_size: int. Images in a batch, over all processes; the last batch may be smaller.
        steps: int. Batches in an epoch.
        process_count: int. The number of processes that share the images. Default 1.
        content: dict of JSON values. Which images these are and in which order, see
            ``Dataset.content``; empty if unknown.
        unreadable: dict from the index of each image that could not be read so far to the reason.
        errors: list of the UserErrors raised so far while a batch was made.
    """

    class_names: tuple[str, ...]
    images: int
    batch_size: int
    steps: int
    process_count: int = 1
    content: dict = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    errors: list[UserError] = field(default_factory=list)

    @property
    def num_classes(self):
        return len(self.class_names)


class Batches(tf.data.Dataset):
    """A dataset together with its ``BatchInfo``.

    Keras, ``tf.distribute`` and ``tf.data`` take it as any other dataset. A dataset derived from
    it, such as ``batches.take(1)``, is an ordinary one without ``info``. TensorFlow I/O
    subclasses datasets in the same way.

    Args:
        dataset: a ``tf.data.Dataset`` of batches.
        info: a ``BatchInfo``.

    Example:
        >>> import keras_deit as kd
        >>> import tensorflow as tf
        >>> from keras_deit.data.batches import BatchInfo, Batches
        >>> info = BatchInfo(class_names=("cat", "dog"), images=6, batch_size=4, steps=2)
        >>> batches = Batches(tf.data.Dataset.range(6).batch(4), info)
        >>> batches.num_classes, batches.steps, len(batches)
        (2, 2, 2)
    """

    def __init__(self, dataset, info):
        self._dataset = dataset  # first, as the base class reads ``_inputs``
        self.info = info
        super().__init__(dataset._variant_tensor)

    def _inputs(self):
        return [self._dataset]

    @property
    def element_spec(self):
        return self._dataset.element_spec

    @property
    def class_names(self):
        return self.info.class_names

    @property
    def num_classes(self):
        return self.info.num_classes

    @property
    def steps(self):
        return self.info.steps
