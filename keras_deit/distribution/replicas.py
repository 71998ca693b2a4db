"""The replicas of a step under ``tf.distribute``: one, number 0, everywhere else."""

import keras
import numpy as np

from keras_deit.distribution import processes


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


def total(value):
    """The sum over the replicas of a float32 that each has; within a step."""
    if count() == 1:
        return value
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce("SUM", value)


def counted(variable):
    """What each replica, of all processes, has counted in a metric's variable: (replicas, ...). On
    JAX, and without a strategy, there is one."""
    here = np.stack([np.array(value) for value in _local(variable)])
    return here if keras.backend.backend() == "jax" else processes.concatenate(here)


def set_counted(variable, values):
    """Gives it back. Where the replicas are more or fewer now, the first gets the sum."""
    if len(values) != count():
        whole, values = values.sum(axis=0), np.zeros((count(), *values.shape[1:]), values.dtype)
        values[0] = whole
    local = _local(variable)
    first = processes.index() * len(local) if len(values) > 1 else 0
    for value, here in zip(local, values[first:], strict=False):
        value.assign(here)


def _local(variable):
    return getattr(variable.value, "values", None) or (variable,)
