"""The replicas of a step under ``tf.distribute``; everywhere else there is one, number 0."""

import keras
import numpy as np

from keras_deit.distribution import processes


def count():
    """The number of replicas that share a step, those of other processes included."""
    if keras.backend.backend() != "tensorflow":
        return 1
    import tensorflow as tf

    return tf.distribute.get_strategy().num_replicas_in_sync


def local_count(strategy):
    """The number of a strategy's replicas that are in this process.

    Args:
        strategy: any ``tf.distribute.Strategy``.
    """
    return len(strategy.extended.worker_devices)


def index():
    """The number of the replica that runs this, from 0; a tensor inside a step."""
    if count() == 1:
        return 0
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    return context.replica_id_in_sync_group if context else 0


def total(value):
    """The sum of a float32 over the replicas; inside a step."""
    if count() == 1:
        return value
    import tensorflow as tf

    return tf.distribute.get_replica_context().all_reduce("SUM", value)


def metric_values(variable):
    """The value of a metric's variable on each replica of all processes, (replicas, ...).

    Replicas count by themselves, and their values are summed when the metric is read. On JAX, and
    without a strategy, there is one value.
    """
    local = np.stack([np.array(value) for value in _local_values(variable)])
    return local if keras.backend.backend() == "jax" else processes.concatenate(local)


def set_metric_values(variable, values):
    """Assigns what ``metric_values`` gave. With another number of replicas than then, the first one
    gets the sum, and the others zero."""
    if len(values) != count():
        total = values.sum(axis=0)
        values = np.zeros((count(), *total.shape), values.dtype)
        values[0] = total

    local = _local_values(variable)
    first = processes.index() * len(local) if len(values) > 1 else 0
    for replica_variable, value in zip(local, values[first:], strict=False):
        replica_variable.assign(value)


def _local_values(variable):
    """What can be assigned to on each replica of this process."""
    if count() == 1:
        return (variable,)
    import tensorflow as tf

    return tf.distribute.get_strategy().experimental_local_results(variable.value)
