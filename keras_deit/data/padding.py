"""Batches of one size, for engines that cannot take a smaller one."""


def padded(batches, rows):
    """The batches with black images and empty labels added, which have no weight in losses and
    weighted metrics: give ``compile`` its metrics as ``weighted_metrics``.

    Several devices on JAX need batches that divide by their number, and a TPU compiles anew for
    every size.

    Args:
        batches: a ``tf.data.Dataset`` of (images, labels) or (images, labels, weights).
        rows: how many images every batch gets, at least as many as it has.

    Returns:
        A ``tf.data.Dataset`` of (images, labels, weights), the latter float32 (rows,).
    """
    import tensorflow as tf

    def pad(images, labels, weights=None):
        weights = tf.ones(tf.shape(images)[0]) if weights is None else weights
        parts = images, labels, tf.cast(weights, tf.float32)
        missing = rows - tf.shape(images)[0]
        wrong = f"a batch of more than {rows} images"
        with tf.control_dependencies([tf.debugging.assert_non_negative(missing, wrong)]):
            missing = tf.identity(missing)
        return tuple(_longer(part, missing, rows) for part in parts)

    return batches.map(pad)


def _longer(part, missing, rows):
    import tensorflow as tf

    padded = tf.pad(part, [[0, missing]] + [[0, 0]] * (part.shape.rank - 1))
    return tf.ensure_shape(padded, (rows, *part.shape[1:]))
