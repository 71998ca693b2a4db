"""Where a recipe trains: one device, those of this host, several hosts, a TPU."""

import contextlib
import functools
import os

import keras

from keras_deit.distribution import processes, replicas
from keras_deit.utils.errors import UserError


def join(recipe):
    """Meets the other processes, where the recipe's ``strategy`` is of several, or is "auto" and
    the environment names them. Comes before anything else is done on TensorFlow or JAX.

    Raises:
        UserError: there are none, or Keras is on another backend.
    """
    backend = keras.backend.backend()
    if backend not in ("tensorflow", "jax"):
        raise UserError(f"recipes do not train on {backend}: set KERAS_BACKEND=tensorflow or jax")
    if recipe.strategy == "multiworker" or (recipe.strategy == "auto" and processes.announced()):
        processes.join()


def scope(recipe):
    """The context in which the recipe's models are made and trained.

    On TensorFlow ``strategy`` is "single"; "mirrored", over this host's GPUs or, to try it where
    there are none, two logical CPU devices; "multiworker", over those of several processes; "tpu";
    or "auto": what ``join`` joined, else mirrored where there are several GPUs. On JAX "auto" and
    "multiworker" are Keras' ``DataParallel`` over all devices there are.

    Raises:
        UserError: what was asked for is not there.
    """
    if keras.backend.backend() == "jax":
        return _jax(recipe)
    strategy = _tensorflow(recipe.strategy)
    return strategy.scope() if strategy else contextlib.nullcontext()


def _jax(recipe):
    if recipe.strategy in ("mirrored", "tpu"):
        raise UserError(
            f"strategy={recipe.strategy} is TensorFlow's: on JAX expected auto (all devices there"
            " are), single or multiworker"
        )
    devices = keras.distribution.list_devices()
    if len(devices) == 1 or recipe.strategy == "single":
        return contextlib.nullcontext()
    parallel = keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)
    return parallel.scope()


def _tensorflow(name):
    import tensorflow as tf

    if processes.strategy():
        return processes.strategy()
    if name == "auto":
        name = "mirrored" if len(tf.config.list_physical_devices("GPU")) > 1 else "single"
    return {"mirrored": _mirrored, "tpu": _tpu}[name]() if name != "single" else None


@functools.cache
def _mirrored():
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        return tf.distribute.MirroredStrategy()
    return tf.distribute.MirroredStrategy(two_cpus())


def two_cpus():
    """The names of two logical CPU devices, made where TensorFlow has not begun."""
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        with contextlib.suppress(RuntimeError):
            parts = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(cpu, parts)
    devices = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(devices) == 1:
        raise UserError(
            "strategy=mirrored: expected several GPUs, or a process that has not used TensorFlow,"
            " whose CPU can be two logical devices"
        )
    return devices


@functools.cache
def _tpu():
    import tensorflow as tf

    address = os.environ.get("TPU_NAME") or "local"
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        strategy = tf.distribute.TPUStrategy(resolver)
    except (ValueError, RuntimeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"no TPU {address!r} ({reason}): expected one of this host, or TPU_NAME"
        ) from error
    if strategy.extended.num_hosts > 1:
        raise UserError(
            f"a TPU of {strategy.extended.num_hosts} hosts: expected one of a single host, or"
            " KERAS_BACKEND=jax, which trains on any"
        )
    return strategy


def devices():
    """How many devices share a batch."""
    parallel = keras.distribution.distribution()
    return parallel.device_mesh.devices.size if parallel else replicas.count()


def check(recipe):
    """Raises UserError where the recipe's batch does not divide as its devices and parts need it.
    Under the scope."""
    count = devices()
    # A host's own replicas can have unequal shares.
    alone = keras.backend.backend() == "tensorflow" and processes.count() == 1
    parts = recipe.accumulate * (1 if alone and recipe.accumulate == 1 else count)
    if recipe.batch_size % parts:
        each = f" in {recipe.accumulate} parts" * (recipe.accumulate > 1)
        raise UserError(
            f"batch_size={recipe.batch_size}{each} on {count} devices: expected a multiple of"
            f" {parts}"
        )


def feed(batches):
    """What ``fit`` takes under the scope: each process' ``batches`` are its share of the whole."""
    if processes.count() == 1 or keras.backend.backend() == "jax":
        return batches
    strategy = processes.strategy()
    local = len(strategy.extended.worker_devices)
    share = batches.element_spec[0].shape[0] // local if local > 1 else None
    return strategy.distribute_datasets_from_function(
        lambda context: batches.rebatch(share) if share else batches
    )
