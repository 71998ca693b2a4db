"""TensorFlow's SavedModel: for TensorFlow Serving and ``tf.saved_model.load``, without Keras."""

import json

import tensorflow as tf

from keras_deit.exports import graphs
from keras_deit.exports.preprocessing import from_bytes, from_pixels


def write(model, path, sides, crop, batch=None, attention=False):
    """Writes the folder. Its signatures take

    - ``serving_default``: ``images``, float32 (batch, height, width, 3), normalised;
    - ``pixels``: ``pixels``, uint8 (batch, any height, any width, 3);
    - ``encoded``: ``encoded``, strings (batch,), JPEG or PNG files of any sizes;

    and give ``logits``, ``probabilities``, ``class_head``, ``distillation_head`` where there is
    one, and ``class_names``, the same for every image, all (batch, classes).

    Args:
        model: what ``graphs.plain`` gives.
        path: of the folder.
        sides: (height, width) of its images.
        crop: the share of an image's side that is seen.
        batch: how many images at a time; None is any number.
        attention: whether ``attention`` is among the outputs.
    """
    module = tf.Module()
    module.values = [tf.Variable(value, trainable=False) for value in graphs.values(model)]
    module.names = tf.Variable(graphs.names(model), trainable=False)
    described = json.dumps(graphs.metadata(model, crop, sides), ensure_ascii=False)
    module.metadata = tf.function(lambda: tf.constant(described), input_signature=[])

    def outputs(images):
        values = [value.read_value() for value in module.values]
        found = graphs.outputs(model, values, images, attention)
        found["probabilities"] = tf.nn.softmax(found["logits"])
        shape = tf.shape(found["logits"])
        return {**found, "class_names": tf.broadcast_to(module.names, shape)}

    def signature(make, name, shape, kind):
        spec = tf.TensorSpec((batch, *shape), kind, name)
        return tf.function(lambda data: outputs(make(data)), input_signature=[spec])

    module.serve = signature(lambda images: images, "images", (*sides, 3), tf.float32)
    module.pixels = signature(
        lambda pixels: from_pixels(pixels, sides, crop), "pixels", (None, None, 3), tf.uint8
    )
    module.encoded = signature(
        lambda files: from_bytes(files, sides, crop), "encoded", (), tf.string
    )
    signatures = {"pixels": module.pixels, "encoded": module.encoded}
    tf.saved_model.save(module, str(path), {"serving_default": module.serve, **signatures})
