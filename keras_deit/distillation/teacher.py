"""Any Keras classifier as a teacher: its own images, in the student's classes."""

import keras
import numpy as np
from keras import ops

from keras_deit.configs.class_names import class_order
from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.utils.validation import height_and_width

SMALLEST = 1e-30  # probability, so that its logarithm is finite


def adapt(model, image_size, scale=1.0, offset=0.0, probabilities=False):
    """Makes a teacher of any Keras classifier: it takes the student's images and gives logits.

    ``Distillation`` hands a teacher the student's images and reads its output as logits. Models of
    ``keras.applications`` expect another range, and most end in a softmax.

    Args:
        model: Keras classifier. (batch, height, width, 3) to (batch, num_classes).
        image_size: int or (height, width). The student's images, in pixels.
        scale: float, or one per channel. The model expects ``pixels / 255 * scale + offset``.
            Default 1.
        offset: float, or one per channel. Default 0; scale 2 and offset -1 are for a model that was
            trained on [-1, 1].
        probabilities: bool. Whether the model ends in a softmax. Default False.

    Returns:
        A ``keras.Model`` that shares the given one's weights. It has a ``preprocessing``,
        ImageNet's: a student of another one has its images normalized anew for it.

    Example:
        >>> import keras
        >>> import keras_deit as kd
        >>> layers = [keras.Input((16, 16, 3)), keras.layers.Flatten()]
        >>> model = keras.Sequential([*layers, keras.layers.Dense(5, "softmax")])
        >>> teacher = kd.adapt(model, image_size=16, scale=2, offset=-1, probabilities=True)
        >>> teacher.output_shape
        (None, 5)
    """
    images = keras.Input((*height_and_width(image_size), 3))
    mean, std = (np.array(values, "float32") for values in (IMAGENET.mean, IMAGENET.std))
    pixels = images * std + mean  # in [0, 1]

    expected = pixels * np.array(scale, "float32") + np.array(offset, "float32")
    output = model(expected, training=False)
    if probabilities:
        output = ops.log(ops.maximum(output, SMALLEST))

    adapted = keras.Model(images, output, name=model.name)
    adapted.preprocessing = IMAGENET
    return adapted


def logits_for(teacher, student):
    """A teacher's logits as a student needs them.

    Args:
        teacher: a Keras model. If it has a ``preprocessing``, it gets images of that; else the
            student's. If both have ``class_names``, its outputs are put in the student's order.
        student: an ``ImageClassifier``.

    Returns:
        A function from the student's images, (batch, height, width, 3), to (batch, num_classes).

    Raises:
        UserError: they have other classes.
    """
    names = getattr(teacher, "class_names", None)
    order = class_order(names, student.class_names, f"teacher {teacher.name}", "the student")

    given = student.preprocessing
    expected = getattr(teacher, "preprocessing", given)
    scale = np.array(given.std) / expected.std
    offset = (np.array(given.mean) - expected.mean) / expected.std
    is_same = (expected.mean, expected.std) == (given.mean, given.std)

    def logits(images):
        if not is_same:
            images = images * scale.astype("float32") + offset.astype("float32")
        outputs = teacher(images, training=False)
        return outputs if order is None else ops.take(outputs, order, axis=-1)

    return logits


def combine(logits, kind):
    """The logits of several teachers as those of one, see ``Distillation``.

    Args:
        logits: list of float32 tensors (batch, num_classes).
        kind: "hard" or "soft".
    """
    mean = sum(ops.softmax(each) for each in logits) / len(logits)
    if kind == "soft":
        return ops.log(ops.maximum(mean, SMALLEST))

    votes = sum(
        ops.one_hot(ops.argmax(each, axis=-1), each.shape[-1], dtype="float32") for each in logits
    )
    return votes + mean / 2  # which is less than a vote
