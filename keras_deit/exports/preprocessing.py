"""``evaluation_view`` inside a TensorFlow graph, for the SavedModel's pixels and files."""

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_deit.configs.preprocessing import IMAGENET
from keras_deit.data.resizing import MAX_RESIZED
from keras_deit.exports.exif import orientation, turned

PNG = b"\x89PNG\r\n\x1a\n"  # first bytes


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
    image_size = tf.shape(images, tf.int64)[1:3]
    resized_size = _resized_size(image_size, size, crop)
    view_size = tf.constant(size, tf.int64)
    view_start = tf.cast(tf.round((resized_size - view_size) / 2), tf.int64)

    # Of a large result only the view is made, as ``data.resizing.resize_part`` does.
    is_large = tf.reduce_prod(resized_size) > MAX_RESIZED
    start = tf.where(is_large, view_start, tf.zeros_like(view_start))
    part_size = tf.where(is_large, view_size, resized_size)
    images = _resize_part(images, image_size, resized_size, start, part_size)

    top, left = tf.unstack(view_start - start)
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
    scale = tf.reduce_min(image_size / tf.constant(least, tf.int64))
    return tf.cast(tf.round(tf.cast(image_size, tf.float64) / scale), tf.int64)


def _resize_part(images, image_size, resized_size, start, part_size):
    """A part of resized images, float32 of whole gray levels.

    Args:
        images: uint8 (batch, height, width, 3).
        image_size, resized_size: int64 (2,). The images' size before and after they are resized.
        start, part_size: int64 (2,). The part's place and size in the result.
    """
    # The pixels that the part depends on, with the cubic kernel's support.
    pixel = image_size / resized_size  # of the result, in pixels of the image
    support = 2 * tf.maximum(pixel, 1) + 1
    edge = start * image_size / resized_size
    other_edge = (start + part_size) * image_size / resized_size
    first = tf.maximum(tf.cast(tf.floor(edge - support), tf.int64), 0)
    last = tf.minimum(tf.cast(tf.math.ceil(other_edge + support), tf.int64), image_size)
    images = images[:, first[0] : last[0], first[1] : last[1]]

    # First across, then down, each to whole gray levels, as Pillow resizes.
    scale = tf.cast(resized_size, tf.float32) / tf.cast(image_size, tf.float32)
    shift = tf.cast((tf.cast(first, tf.float64) - edge) / pixel, tf.float32)
    across = (last[0] - first[0], part_size[1]), (1, scale[1]), (0, shift[1])
    down = part_size, (scale[0], 1), (shift[0], 0)
    for target, scales, shifts in (across, down):
        images = tf.raw_ops.ScaleAndTranslate(
            images=images,
            size=tf.cast(target, tf.int32),
            scale=scales,
            translation=shifts,
            kernel_type="keyscubic",
            antialias=True,
        )
        images = tf.clip_by_value(tf.round(images), 0, 255)
    return images


def from_files(files, size, crop, preprocessing=IMAGENET):
    """The model's input from string (batch,), JPEG or PNG files of any sizes, turned as their EXIF
    orientation says if ``preprocessing.upright``; see ``from_pixels``."""

    def decode(file):
        # Before the pixels take memory.
        is_png = tf.strings.substr(file, 0, len(PNG)) == PNG
        is_known = tf.debugging.Assert(tf.io.is_jpeg(file) | is_png, ["expected JPEG or PNG files"])
        with tf.control_dependencies([is_known]):
            is_small = _pixel_count(file) <= Image.MAX_IMAGE_PIXELS
        checked = tf.debugging.Assert(is_small, ["more pixels than", Image.MAX_IMAGE_PIXELS])

        with tf.control_dependencies([checked]):
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


def _pixel_count(file):
    """The number of pixels that a JPEG's or PNG's header gives, int64."""

    def of_png():
        sides = tf.strings.substr(tf.strings.join([file, bytes(24)]), 16, 8)  # in the chunk IHDR
        return tf.io.decode_raw(sides, tf.int32, little_endian=False)

    sides = tf.cond(tf.io.is_jpeg(file), lambda: tf.io.extract_jpeg_shape(file)[:2], of_png)
    return tf.reduce_prod(tf.cast(sides, tf.int64))
