"""Batches of one size, for engines that cannot take a smaller one."""

import dataclasses

from keras_deit.utils.validation import unknown_shape


def padded(batches, rows):
    """Fills up smaller batches with black images and empty labels of weight 0.

    They do not count in losses and weighted metrics: give ``compile`` its metrics as
    ``weighted_metrics``. Several devices on JAX need batches that divide by their number, and a
    TPU compiles anew for every size.

    Args:
        batches: a ``tf.data.Dataset`` of (images, labels) or (images, labels, weights).
        rows: int. Images in every batch, of one process; at least as many as the largest batch
            has.

    Returns:
        A ``tf.data.Dataset`` of (images, labels, weights), the weights float32 (rows,). It is
        ``Batches`` if ``batches`` are.

    Raises:
        UserError: the dataset does not know how many axes its arrays have.
        tf.errors.InvalidArgumentError: while iterating, a batch of more than ``rows`` images.

    Example:
        >>> import keras_deit as kd
        >>> import tensorflow as tf
        >>> images, labels = tf.ones((3, 8, 8, 3)), tf.eye(3)
        >>> batches = tf.data.Dataset.from_tensor_slices((images, labels)).batch(2)
        >>> for images, labels, weights in kd.data.padded(batches, 2):
        ...     print(images.shape, weights.numpy())
        (2, 8, 8, 3) [1. 1.]
        (2, 8, 8, 3) [1. 0.]
    """
    import tensorflow as tf

    from keras_deit.data.batches import Batches

    # Before ``map``, which would put a page of Python around the message.
    for name, spec in zip(("images", "labels", "weights"), batches.element_spec, strict=False):
        if spec.shape.rank is None:
            raise unknown_shape(name)

    def pad(images, labels, weights=None):
        if weights is None:
            weights = tf.ones(tf.shape(images)[0])
        weights = tf.cast(weights, tf.float32)

        # Before ``tf.pad``, whose own message would not name the batch.
        missing = rows - tf.shape(images)[0]
        message = f"a batch of more than {rows} images"
        with tf.control_dependencies([tf.debugging.assert_non_negative(missing, message)]):
            missing = tf.identity(missing)
        return tuple(_add_rows(tensor, missing, rows) for tensor in (images, labels, weights))

    dataset = batches.map(pad)
    if not isinstance(batches, Batches):
        return dataset
    batch_size = rows * batches.info.process_count
    return Batches(dataset, dataclasses.replace(batches.info, batch_size=batch_size))


def _add_rows(tensor, missing, rows):
    import tensorflow as tf

    paddings = [[0, missing]] + [[0, 0]] * (tensor.shape.rank - 1)
    return tf.ensure_shape(tf.pad(tensor, paddings), (rows, *tensor.shape[1:]))
