"""``evaluation_view`` inside a TensorFlow graph, for the SavedModel's pixels and files."""

import numpy as np
import tensorflow as tf

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.exports.exif import orientation, turned


def from_pixels(images, size, crop, preprocessing=IMAGENET):
    """The model's input from pixels, as ``data.transforms.evaluation_view`` makes it, to one gray
    level of rounding.

    Args:
        images: uint8 (batch, height, width, 3), of any size.
        size: (height, width) of the model's images.
        crop: float. Center-crop ratio.
        preprocessing: ``Preprocessing`` of the model. Default: ImageNet's.

    Returns:
        float32 (batch, *size, 3), normalized.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.exports.preprocessing import from_pixels
        >>> from_pixels(np.zeros((1, 30, 20, 3), "uint8"), (16, 16), 0.875).shape
        TensorShape([1, 16, 16, 3])
    """
    resized_size = _resized_size(tf.shape(images)[1:3], size, crop)

    # First across, then down, each to whole gray levels, as Pillow resizes.
    across = (tf.shape(images)[1], resized_size[1])
    for target in (across, resized_size):
        images = tf.image.resize(images, target, "bicubic", antialias=True)
        images = tf.clip_by_value(tf.round(images), 0, 255)

    top, left = tf.unstack(tf.cast(tf.round((resized_size - tf.constant(size)) / 2), tf.int32))
    images = images[:, top : top + size[0], left : left + size[1]]
    images = tf.ensure_shape(images, (None, *size, 3))
    return (images / 255 - np.float32(preprocessing.mean)) / np.float32(preprocessing.std)


def _resized_size(image_size, size, crop):
    """The size to which an image is resized, keeping its aspect: it just covers size / crop."""
    least = [int(side / crop) for side in size]
    if least[0] == least[1]:
        # Of a square, sides are rounded down, as torchvision's Resize does.
        return least[0] * image_size // tf.reduce_min(image_size)
    # Otherwise they are rounded, as timm's ResizeKeepRatio does.
    scale = tf.reduce_min(image_size / tf.constant(least))
    return tf.cast(tf.round(tf.cast(image_size, tf.float64) / scale), tf.int32)


def from_files(files, size, crop, preprocessing=IMAGENET):
    """The model's input from string (batch,), JPEG or PNG files of any sizes, turned as their EXIF
    orientation says if ``preprocessing.upright``; see ``from_pixels``."""

    def decode(file):
        pixels = tf.cond(
            tf.io.is_jpeg(file),
            # Pillow's and OpenCV's inverse DCT, not TensorFlow's faster default.
            lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_png(file, 3),
        )
        if preprocessing.upright:
            pixels = turned(pixels, orientation(file))
        return from_pixels(pixels[tf.newaxis], size, crop, preprocessing)[0]

    return tf.map_fn(decode, files, fn_output_signature=tf.TensorSpec((*size, 3), tf.float32))
