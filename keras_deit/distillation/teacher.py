"""Any Keras classifier as a teacher."""

import keras
import numpy as np
from keras import ops

from keras_deit.configs.preprocessing import MEAN, STD
from keras_deit.utils.validation import height_and_width

SMALLEST = 1e-30  # probability, so that its logarithm is finite


def adapt(model, image_size, scale=1.0, offset=0.0, probabilities=False):
    """Makes a teacher of any Keras classifier: it takes the student's images and gives logits.

    ``Distillation`` hands a teacher the student's images, normalized by ImageNet's mean and
    standard deviation, and reads its output as logits. Models of ``keras.applications`` expect
    another range, and most end in a softmax.

    Args:
        model: Keras classifier. (batch, height, width, 3) to (batch, num_classes).
        image_size: int or (height, width). The student's images, in pixels.
        scale: float, or one per channel. The model expects ``pixels / 255 * scale + offset``.
            Default 1.
        offset: float, or one per channel. Default 0; scale 2 and offset -1 are for a model that was
            trained on [-1, 1].
        probabilities: bool. Whether the model ends in a softmax. Default False.

    Returns:
        A ``keras.Model`` that shares the given one's weights.

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
    pixels = images * np.array(STD, "float32") + np.array(MEAN, "float32")  # in [0, 1]

    expected = pixels * np.array(scale, "float32") + np.array(offset, "float32")
    output = model(expected, training=False)
    if probabilities:
        output = ops.log(ops.maximum(output, SMALLEST))

    return keras.Model(images, output, name=model.name)
