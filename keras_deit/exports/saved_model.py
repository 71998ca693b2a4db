"""TensorFlow's SavedModel: for TensorFlow Serving and ``tf.saved_model.load``, without Keras."""

import json

from keras_deit.exports.graphs import named_outputs, variable_values
from keras_deit.exports.metadata import file_metadata

NAME = "SavedModel"
SUFFIX = ""
OPTIONS = ("batch", "attention")


def write(model, path, settings):
    """Writes the folder.

    Its signatures take

    - ``serving_default``: ``images``, float32 (batch, height, width, 3), normalized;
    - ``pixels``: ``pixels``, uint8 (batch, any height, any width, 3);
    - ``encoded``: ``encoded``, string (batch,), JPEG or PNG files of any sizes, which are turned as
      their EXIF orientation says if the model's ``preprocessing.upright``;

    and return ``logits``, ``probabilities``, ``class_head``, for a distilled model
    ``distillation_head``, and ``class_names``, the same row for every image, all (batch,
    num_classes); and ``attention``, if the settings ask for it.

    Args:
        model: a float32 ``ImageClassifier``.
        path: of the folder.
        settings: ``ExportSettings``.
    """
    import tensorflow as tf

    from keras_deit.exports.preprocessing import from_files, from_pixels

    module = tf.Module()
    # As variables they are kept in the folder's variables/, and not as constants in each signature.
    module.weights = [tf.Variable(value, trainable=False) for value in variable_values(model)]
    module.class_names = tf.Variable(list(model.class_labels), trainable=False)

    metadata = json.dumps(file_metadata(model, settings), ensure_ascii=False)
    module.metadata = tf.function(
        lambda: tf.constant(metadata), input_signature=[], autograph=False
    )

    image_shape = (settings.batch, *settings.image_size, 3)

    def serve(images):
        values = [weight.read_value() for weight in module.weights]
        outputs = named_outputs(model, values, images, settings.attention)
        outputs["probabilities"] = tf.nn.softmax(outputs["logits"])
        # TensorFlow Serving expects every output to have a row for each image.
        outputs["class_names"] = tf.broadcast_to(module.class_names, tf.shape(outputs["logits"]))
        return outputs

    def signature(preprocess, name, shape, dtype):
        # It calls ``serve``, so that the file holds the model's graph once.
        def preprocess_and_serve(data):
            images = preprocess(data, settings.image_size, settings.crop, model.preprocessing)
            return module.serve(tf.ensure_shape(images, image_shape))

        spec = tf.TensorSpec((settings.batch, *shape), dtype, name)
        return tf.function(preprocess_and_serve, input_signature=[spec], autograph=False)

    images_spec = tf.TensorSpec(image_shape, tf.float32, "images")
    module.serve = tf.function(serve, input_signature=[images_spec], autograph=False)
    module.pixels = signature(from_pixels, "pixels", (None, None, 3), tf.uint8)
    module.encoded = signature(from_files, "encoded", (), tf.string)
    signatures = {
        "serving_default": module.serve,
        "pixels": module.pixels,
        "encoded": module.encoded,
    }
    tf.saved_model.save(module, str(path), signatures)


def load_function(path):
    """The folder as a function from images to logits, in TensorFlow."""
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def run(images):
        _ = loaded  # a signature does not keep its own variables alive
        return serve(images=tf.constant(images))["logits"].numpy()

    return run
