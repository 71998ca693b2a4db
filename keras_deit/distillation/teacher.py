"""Any Keras classifier as a teacher."""

import keras
import numpy as np
from keras import ops

from keras_deit.configs.variants import MEAN, STD
from keras_deit.utils.validation import height_and_width


def adapt(model, image_size, scale=1.0, offset=0.0, probabilities=False):
    """Any Keras classifier as a teacher: takes the student's images, gives logits.

    ``Distillation`` hands a teacher the student's images, normalised by ImageNet's mean and
    standard deviation, and reads its output as logits. Models of ``keras.applications`` expect
    another range and most end in a softmax.

    Args:
        model: a Keras classifier, (batch, height, width, 3) to (batch, num_classes).
        image_size: an int or (height, width): the student's images, in pixels.
        scale, offset: what the model expects is ``pixels / 255 * scale + offset``, per channel or
            for all; e.g. scale 2 and offset -1 for a model trained on [-1, 1].
        probabilities: whether the model's output has been through a softmax.

    Returns:
        A ``keras.Model`` sharing the given one's weights.
    """
    images = keras.Input((*height_and_width(image_size), 3))
    unit = images * np.array(STD, "float32") + np.array(MEAN, "float32")
    output = model(unit * np.array(scale, "float32") + np.array(offset, "float32"), training=False)
    if probabilities:
        output = ops.log(ops.maximum(output, 1e-30))
    return keras.Model(images, output, name=model.name)
