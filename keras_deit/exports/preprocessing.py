"""``evaluation_view`` inside a TensorFlow graph: what a SavedModel makes of pixels and of files."""

import numpy as np
import tensorflow as tf

from keras_deit.configs.variants import MEAN, STD


def from_pixels(images, size, crop):
    """uint8 (batch, height, width, 3), of any size, to normalised float32 (batch, *size, 3), as
    ``data.transforms.evaluation_view`` does, to a grey level of rounding."""
    sides = tf.shape(images)[1:3]
    least = [int(side / crop) for side in size]
    if least[0] == least[1]:
        whole = least[0] * sides // tf.reduce_min(sides)
    else:
        scale = tf.reduce_min(sides / tf.constant(least))
        whole = tf.cast(tf.round(tf.cast(sides, tf.float64) / scale), tf.int32)
    for turn in ((sides[0], whole[1]), whole):  # across, then down, to whole levels, as Pillow does
        images = tf.image.resize(images, turn, "bicubic", antialias=True)
        images = tf.clip_by_value(tf.round(images), 0, 255)
    top, left = tf.unstack(tf.cast(tf.round((whole - tf.constant(size)) / 2), tf.int32))
    images = images[:, top : top + size[0], left : left + size[1]]
    images = tf.ensure_shape(images, (None, *size, 3))
    return (images / 255 - np.float32(MEAN)) / np.float32(STD)


def from_bytes(files, size, crop):
    """string (batch,), JPEG or PNG files of any sizes, to the same."""

    def one(file):
        jpeg = tf.io.is_jpeg(file)
        pixels = tf.cond(
            jpeg,
            lambda: tf.io.decode_jpeg(file, 3, dct_method="INTEGER_ACCURATE"),
            lambda: tf.io.decode_png(file, 3),
        )
        return from_pixels(pixels[tf.newaxis], size, crop)[0]

    return tf.map_fn(one, files, fn_output_signature=tf.TensorSpec((*size, 3), tf.float32))
