"""The replicas of a step under ``tf.distribute``: one, number 0, everywhere else."""

import contextlib

import keras

from keras_deit.errors import UserError


def count():
    """How many replicas the step at hand has."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def index():
    """Which replica this is."""
    if count() == 1:
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group if context else 0


def share(images):
    """What the mean loss over this replica's images counts in the sum of all replicas' means, for
    that to be ``count()`` times the mean over all images: 1 where all replicas have as many."""
    if count() == 1:
        return 1.0
    import tensorflow as tf

    here = tf.cast(tf.shape(images)[0], tf.float32)
    total = tf.distribute.get_replica_context().all_reduce("SUM", here)
    return here * count() / total


def scope(recipe):
    """The context in which models are made for the recipe's ``strategy``: a ``MirroredStrategy`` of
    this host's GPUs, or, where there are none and it is asked for, of its logical CPU devices."""
    import tensorflow as tf

    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    several = len(devices) > 1 and devices[0].device_type == "GPU"
    if recipe.strategy == "single" or (recipe.strategy == "auto" and not several):
        return contextlib.nullcontext()
    if recipe.jit_compile == "true":
        raise UserError(
            "a whole step cannot be compiled by XLA for several devices: expected"
            " jit_compile=auto or strategy=single"
        )
    return tf.distribute.MirroredStrategy([device.name for device in devices]).scope()
