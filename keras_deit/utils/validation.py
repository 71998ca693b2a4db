"""Checks of arguments that several packages take."""

import operator

import keras
import numpy as np

from keras_deit.utils.errors import UserError
from keras_deit.utils.names import printable


def positive_integers(**values):
    """The named values as ints, in their order.

    Raises:
        UserError: one of them is not an integer, 1 or more.
    """
    for name, value in values.items():
        if _integer(value) < 1:
            raise UserError(f"{name} {value!r}: expected an integer, 1 or more")
    return tuple(map(operator.index, values.values()))


def height_and_width(image_size):
    """An image size, an int or (height, width) in pixels, as (height, width).

    Raises:
        UserError: anything else.
    """
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    sides = tuple(map(_integer, sides))
    if len(sides) != 2 or min(sides) < 1:
        raise UserError(f"image_size {image_size!r}: expected an int or (height, width), in pixels")
    return sides


def class_name_tuple(class_names, num_classes):
    """``class_names`` as a tuple of ``printable`` str, or None if they are None.

    Raises:
        UserError: there is not one name for each class.
    """
    if class_names is None:
        return None
    if not isinstance(class_names, (tuple, list)) or len(class_names) != num_classes:
        raise UserError(f"class_names: expected a name for each of {num_classes} classes")
    return tuple(map(printable, class_names))


def keras_arguments(kwargs):
    """``kwargs`` of a model's constructor, if any Keras model takes them.

    Given ``inputs``, Keras would turn the class into one of functional models, permanently.

    Raises:
        TypeError: an argument that is not Keras' own.
    """
    unknown = kwargs.keys() - {"name", "dtype", "trainable"}
    if unknown:
        raise TypeError(f"unexpected argument {min(unknown)!r}")
    return kwargs


def with_static_shape(images, labels, image_size):
    """Images and labels of a training step, whose shapes a ``tf.data.Dataset`` may not know.

    Args:
        images: (batch, height, width, 3), of any backend.
        labels: any shape, or None.
        image_size: (height, width) in pixels, or None for images of any size.

    Returns:
        The images; if TensorFlow does not know their size, it is ``image_size`` now, checked at run
        time.

    Raises:
        UserError: TensorFlow does not know how many axes the images or labels have.
    """
    if keras.backend.backend() != "tensorflow":
        return images
    import tensorflow as tf

    if image_size and tf.is_tensor(images) and not images.shape[1:].is_fully_defined():
        images = tf.ensure_shape(images, (None, *image_size, 3))

    for name, tensor in (("images", images), ("labels", labels)):
        if tf.is_tensor(tensor) and tensor.shape.rank is None:
            raise unknown_shape(name)
    return images


def unknown_shape(name):
    """The UserError of a ``tf.data.Dataset`` that does not know how many axes its arrays have."""
    return UserError(
        f"a dataset of {name} of unknown shape: give from_generator an output_signature with their"
        " shapes, or set them with tf.ensure_shape in dataset.map; (None, None, None, 3) is enough"
        " for images, (None, classes) for labels"
    )


def check_normalized(images):
    """Raises UserError if the images that a model is called with are integers, as pixels are."""
    dtype = keras.backend.standardize_dtype(images.dtype)
    if "int" in dtype:
        raise UserError(
            f"images of {dtype}: expected float32, normalized by the mean and standard deviation of"
            " the model's images"
        )


def gives_fused_logits(model):
    """Whether a model has ``logits``, whose mean its call gives. A subclass that overrides ``call``
    gives something else."""
    methods = (vars(cls) for cls in type(model).__mro__)
    first = next((names for names in methods if "call" in names or "logits" in names), ())
    return "logits" in first


def rows_are_probabilities(outputs):
    """Which rows are nonnegative and sum to 1, as after a softmax: bool (rows,).

    Args:
        outputs: float (rows, classes).
    """
    # Rounded to bfloat16, the probabilities of a thousand classes may sum to 0.99.
    sums = outputs.sum(axis=-1)
    return (outputs >= 0).all(axis=-1) & (np.abs(sums - 1) < 0.01)


def _integer(value):
    try:
        return operator.index(value)
    except TypeError:
        return 0
