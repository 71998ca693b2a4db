"""The EXIF orientation of files inside a TensorFlow graph, for the SavedModel."""

import tensorflow as tf

ENTRY = 12  # bytes of an entry of EXIF: tag, type, count, value

# An entry's tag 0x0112, its type, a short integer, and the count 1.
ORIENTATION = [0x12, 0x01, 3, 0, 1, 0, 0, 0]
ORIENTATION_BIG_ENDIAN = [0x01, 0x12, 0, 3, 0, 0, 0, 1]

NOWHERE = -(1 << 10)  # in place of a position
PADDING = 32  # zeros after a file, so that the reading of any header stays inside


def orientation(file):
    """The EXIF orientation of a JPEG or PNG file; without one it is 1, upright.

    Args:
        file: scalar string.

    Returns:
        int64 scalar, from 1 to 8.
    """
    data = tf.concat([tf.io.decode_raw(file, tf.uint8), tf.zeros(PADDING, tf.uint8)], 0)
    start = tf.cond(tf.io.is_jpeg(file), lambda: _in_jpeg(data), lambda: _in_png(data))
    return tf.cond(start > 0, lambda: _in_exif(data, start), lambda: tf.constant(1, tf.int64))


def turned(pixels, orientation):
    """The pixels (height, width, 3) as they are to be seen; see ``orientation``."""

    def where(orientations, change):
        nonlocal pixels
        is_one = tf.reduce_any(orientation == tf.constant(orientations, tf.int64))
        unchanged = pixels
        pixels = tf.cond(is_one, lambda: change(unchanged), lambda: unchanged)

    where([5, 6, 7, 8], lambda image: tf.transpose(image, (1, 0, 2)))
    where([3, 4, 7, 8], lambda image: tf.reverse(image, [0]))
    where([2, 3, 6, 7], lambda image: tf.reverse(image, [1]))
    return pixels


def _in_jpeg(data):
    """Where EXIF begins in a JPEG: in a segment of marker 0xFFE1 that starts with "Exif"."""

    def is_exif(start):
        return _is(data, start, b"\xff\xe1") & _is(data, start + 4, b"Exif\0\0")

    def is_before(start):
        is_segment = _is(data, start, b"\xff") & ~_is(data, start, b"\xff\xda")  # then come pixels
        return is_segment & ~is_exif(start)

    def next_segment(start):
        return _inside(data, start + 2 + _number(data, start + 2, 2))

    return _first(is_exif, is_before, next_segment, 2) + 10


def _in_png(data):
    """Where EXIF begins in a PNG: in a chunk of type "eXIf"."""

    def is_exif(start):
        return _is(data, start + 4, b"eXIf")

    def is_before(start):
        return ~is_exif(start) & (start < tf.size(data, tf.int64) - PADDING)

    def next_chunk(start):
        return _inside(data, start + 12 + _number(data, start, 4))

    return _first(is_exif, is_before, next_chunk, 8) + 8


def _first(is_exif, is_before, following, start):
    """The start of the first block for which ``is_exif``; ``NOWHERE`` if there is none."""
    start = tf.constant(start, tf.int64)
    (start,) = tf.while_loop(is_before, lambda at: (following(at),), (start,))
    return tf.where(is_exif(start), start, tf.constant(NOWHERE, tf.int64))


def _in_exif(data, start):
    """The orientation in a block of EXIF, which is a TIFF: byte order, offset of its entries."""
    is_little = _is(data, start, b"II")

    entries = _inside(data, start + _number(data, start + 4, 4, is_little))
    count = _number(data, entries, 2, is_little)
    room = (tf.size(data, tf.int64) - entries - 2) // ENTRY
    count = tf.minimum(count, tf.maximum(room, 0))
    rows = tf.reshape(data[entries + 2 : entries + 2 + ENTRY * count], (-1, ENTRY))

    expected = tf.where(is_little, ORIENTATION, ORIENTATION_BIG_ENDIAN)
    is_orientation = tf.reduce_all(rows[:, :8] == tf.cast(expected, tf.uint8), axis=1)
    values = tf.cast(rows[:, 8:10], tf.int64)
    powers = tf.where(is_little, [1, 256], [256, 1])
    values = tf.reduce_sum(values * tf.cast(powers, tf.int64), axis=1)

    is_valid = is_orientation & (values >= 1) & (values <= 8)
    return tf.reduce_max(tf.concat([[1], tf.boolean_mask(values, is_valid)], 0))


def _inside(data, start):
    """A position, not beyond the end of the file."""
    return tf.clip_by_value(start, 0, tf.size(data, tf.int64) - PADDING)


def _is(data, start, expected):
    """Whether these bytes are at a position."""
    found = data[start : start + len(expected)]
    return tf.reduce_all(found == tf.constant(list(expected), tf.uint8))


def _number(data, start, count, is_little=False):
    """The integer of so many bytes at a position, the most significant byte first."""
    digits = tf.cast(data[start : start + count], tf.int64)
    digits = tf.where(is_little, digits[::-1], digits)
    return tf.reduce_sum(digits * [256**power for power in reversed(range(count))])
