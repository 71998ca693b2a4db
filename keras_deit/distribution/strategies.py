"""Where a recipe trains: one device, the devices of this host, several hosts, a TPU."""

import contextlib
import functools
import os

import keras

from keras_deit.distribution import processes, replicas
from keras_deit.distribution.devices import device_kind
from keras_deit.utils.errors import UserError


class Strategy:
    """The devices that a recipe trains on. The constructor joins the other processes, if there are
    any, and configures the devices, so it comes before any other use of TensorFlow or JAX.

    Args:
        name: the recipe's ``strategy``. On TensorFlow "single"; "mirrored", over this host's GPUs
            or, to try it without GPUs, two logical CPU devices; "multiworker", over the devices of
            several processes; "tpu"; or "auto": multiworker if the environment names other
            processes, else mirrored if there are several GPUs. On JAX "auto" and "multiworker" are
            Keras' ``DataParallel`` over all devices of all processes.

    Raises:
        UserError: such devices or processes do not exist, or Keras is on another backend.

    Example:
        >>> from keras_deit.distribution import Strategy
        >>> strategy = Strategy("single")
        >>> with strategy.scope():
        ...     print(strategy.device_count)
        1
    """

    def __init__(self, name="auto"):
        backend = keras.backend.backend()
        if backend not in ("tensorflow", "jax"):
            raise UserError(
                f"recipes do not train on {backend}: set KERAS_BACKEND=tensorflow or jax"
            )

        # Joining comes first: TensorFlow and JAX refuse it once their devices are initialized.
        if name == "multiworker" or (name == "auto" and processes.announced()):
            processes.join()

        if backend == "jax":
            self._distribution = _data_parallel(name)
        else:
            self._distribution = _tensorflow_strategy(name)

    def scope(self):
        """The context in which models are made, compiled and trained."""
        if self._distribution is None:
            return contextlib.nullcontext()
        return self._distribution.scope()

    @property
    def device_count(self):
        """The number of devices that share a batch, those of other processes included."""
        if self._distribution is None:
            return 1
        if keras.backend.backend() == "jax":
            return self._distribution.device_mesh.devices.size
        return self._distribution.num_replicas_in_sync

    def feed(self, batches):
        """Data for ``fit``, from this process' ``batches``: its rows of the global batches."""
        if processes.count() == 1 or keras.backend.backend() == "jax":
            return batches

        strategy = self._distribution
        local_replicas = replicas.local_count(strategy)
        if local_replicas == 1:
            return strategy.distribute_datasets_from_function(lambda context: batches)

        rows = batches.element_spec[0].shape[0] // local_replicas
        return strategy.distribute_datasets_from_function(lambda context: batches.rebatch(rows))

    def describe(self):
        """The devices as text: "1 CPU device", "8 NVIDIA H100 devices of 2 processes"."""
        text = f"{self.device_count} {device_kind()} device{'s' * (self.device_count > 1)}"
        if processes.count() > 1:
            text += f" of {processes.count()} processes"
        return text


def check_batch(recipe, device_count):
    """Checks that a recipe's batch divides among devices and micro-batches.

    Args:
        recipe: a ``Recipe``.
        device_count: int. The devices that share a batch, as ``Strategy.device_count``.

    Raises:
        UserError: it does not.
    """
    # The replicas of one process can take unequal numbers of rows.
    unequal = keras.backend.backend() == "tensorflow" and processes.count() == 1
    divisor = recipe.accumulate
    if not (unequal and recipe.accumulate == 1):
        divisor *= device_count

    if recipe.batch_size % divisor:
        micro = f" in {recipe.accumulate} micro-batches" * (recipe.accumulate > 1)
        raise UserError(
            f"batch_size={recipe.batch_size}{micro} on {device_count} devices: expected a multiple"
            f" of {divisor}"
        )


def _data_parallel(name):
    if name in ("mirrored", "tpu"):
        raise UserError(
            f"strategy={name} needs TensorFlow: on JAX expected auto (all devices), single or"
            " multiworker"
        )
    devices = keras.distribution.list_devices()
    if len(devices) == 1 or name == "single":
        return None
    return keras.distribution.DataParallel(devices=devices, auto_shard_dataset=False)


def _tensorflow_strategy(name):
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
    return tf.distribute.MirroredStrategy(two_logical_cpus())


def two_logical_cpus():
    """The names of two logical CPU devices, which are made if TensorFlow's devices are not
    initialized yet.

    Raises:
        UserError: they are initialized with a single one.
    """
    import tensorflow as tf

    cpu = tf.config.list_physical_devices("CPU")[0]
    if not tf.config.get_logical_device_configuration(cpu):
        with contextlib.suppress(RuntimeError):  # the devices are initialized
            devices = [tf.config.LogicalDeviceConfiguration()] * 2
            tf.config.set_logical_device_configuration(cpu, devices)

    names = [device.name for device in tf.config.list_logical_devices("CPU")]
    if len(names) == 1:
        raise UserError(
            "strategy=mirrored: expected several GPUs, or a process that has not used TensorFlow"
            " yet, so that its CPU can be divided into two logical devices"
        )
    return names


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
        problem = " ".join(str(error).split())[:200]
        raise UserError(
            f"no TPU {address!r} ({problem}): expected a TPU on this host, or its name in TPU_NAME"
        ) from error

    if strategy.extended.num_hosts > 1:
        raise UserError(
            f"a TPU of {strategy.extended.num_hosts} hosts: expected one with a single host, or"
            " KERAS_BACKEND=jax, which trains on several"
        )
    return strategy
