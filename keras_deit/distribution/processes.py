"""The processes that train together: one, number 0, where ``join`` was not called."""

import contextlib
import functools
import json
import os
import re
import sys

import keras
import numpy as np

from keras_deit.utils.errors import ProcessLost, UserError

# What the engines' errors say where a peer is gone, of whatever class they are.
CONNECTION = (
    r"(?i)[^\n:]*\b(connection (reset|closed|refused)|socket closed|broken pipe|failed to connect"
    r"|peer|heartbeat|collective ops is aborted|unavailable|unhealthy|preempted)\b[^\n]{0,120}"
)
HEARTBEAT = 30  # seconds without one, after which JAX counts a process as dead


def announced():
    """Whether the environment names other processes: ``TF_CONFIG`` for TensorFlow, Keras'
    ``KERAS_DISTRIBUTION_...`` for JAX. Raises UserError where they are not as they should be."""
    if keras.backend.backend() == "jax":
        return _jax_environment() is not None
    return len(_tf_config() or ()) > 1


def _jax_environment():
    """(address, count, index) of ``jax.distributed.initialize``, None of a process alone."""
    names = [
        f"KERAS_DISTRIBUTION_{name}" for name in ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    ]
    address, *numbers = (os.environ.get(name) or "" for name in names)
    if numbers[0] in ("", "1"):
        return None
    if not address or not all(number.isdecimal() for number in numbers):
        found = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise UserError(f"{found}: expected host:port, a number of processes, and one from 0 on")
    return address.split(",")[0], *map(int, numbers)


def _tf_config():
    """The workers that ``TF_CONFIG`` names, None without it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        good = [*config["cluster"]] == ["worker"] and isinstance(workers, list)
        good = good and task["type"] == "worker" and workers[int(task["index"])]
    except (ValueError, TypeError, KeyError, IndexError):
        good = False
    if not good:
        raise UserError(
            f"TF_CONFIG={text}: expected"
            ' {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        )
    return workers


@functools.cache
def join():
    """Meets the other processes: those that ``announced`` tells of, or else those of the Slurm job
    and, on JAX, whatever ``jax.distributed`` finds (Kubernetes, Cloud TPU, MPI).

    Returns:
        On TensorFlow the ``MultiWorkerMirroredStrategy``; on JAX None.

    Raises:
        UserError: there is nothing to join, or TensorFlow is in use already.
    """
    return _join_jax() if keras.backend.backend() == "jax" else _join_tensorflow()


def _join_jax():
    import jax

    given = _jax_environment() or ()
    _waits(given[:1])
    try:
        jax.distributed.initialize(*given, heartbeat_timeout_seconds=HEARTBEAT)
    except Exception as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"cannot join the other processes ({reason}): expected"
            " KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID, or a job of Slurm,"
            " Kubernetes, Cloud TPU or MPI"
        ) from error


def _join_tensorflow():
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    if _tf_config():
        resolver = resolvers.TFConfigClusterResolver()
    elif "SLURM_STEP_NODELIST" in os.environ:
        resolver = resolvers.SlurmClusterResolver(
            # Of each job its own, below those that systems give away.
            port_base=10_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20_000,
            gpus_per_node=1024,  # Slurm gives a task its GPUs; the resolver would ask nvidia-smi
            gpus_per_task=1,
            auto_set_gpu=False,
        )
    else:
        raise UserError("strategy=multiworker: expected TF_CONFIG with the workers, or a Slurm job")
    _waits(resolver.cluster_spec().as_dict()["worker"])
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (RuntimeError, ValueError, TypeError, tf.errors.OpError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"cannot join the other workers: {reason}") from error


def _waits(addresses):
    print(f"Waits for the other processes {', '.join(addresses)}".rstrip(), file=sys.stderr)


def strategy():
    """What ``join`` joined on TensorFlow, None before."""
    return join() if join.cache_info().currsize else None


def count():
    """How many processes train together."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_count()
    joined = strategy()
    return joined.cluster_resolver.cluster_spec().num_tasks("worker") if joined else 1


def index():
    """Which of them this is. Number 0 alone writes files."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index()
    joined = strategy()
    return joined.cluster_resolver.task_id if joined else 0


def merge(array):
    """The array that the processes fill together, each its own places, zeros elsewhere: the same,
    bit for bit, in all of them. All must call it, and in the same order."""
    array = np.ascontiguousarray(array)
    if count() == 1 or not array.size:
        return array
    # Bytes, of which one process has any but zero: their sum is exact in any type.
    parts = np.frombuffer(array.tobytes(), np.uint8)
    if keras.backend.backend() == "jax":
        from jax.experimental import multihost_utils

        parts = np.asarray(multihost_utils.process_allgather(parts)).sum(axis=0)
    else:
        parts = _reduced(parts)
    return np.frombuffer(parts.astype(np.uint8).tobytes(), array.dtype).reshape(array.shape)


def _reduced(parts):
    import tensorflow as tf

    return np.array(_sum()(tf.constant(parts, tf.float32)))


@functools.cache
def _sum():
    import tensorflow as tf

    joined = strategy()
    local = len(joined.extended.worker_devices)

    def add(value):
        context = tf.distribute.get_replica_context()
        first = tf.cast(context.replica_id_in_sync_group % local == 0, tf.float32)
        return context.all_reduce("SUM", value * first)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def run(value):
        return joined.experimental_local_results(joined.run(add, (value,)))[0]

    return run


def each(value):
    """An array of the numbers that the processes have, in their order."""
    places = np.zeros((count(), *np.shape(value)), np.asarray(value).dtype)
    places[index()] = value
    return merge(places)


def concatenate(rows):
    """The rows of all processes, (rows, ...), those of process 0 first."""
    rows = np.asarray(rows)
    lengths = each(len(rows))
    first = int(lengths[: index()].sum())
    whole = np.zeros((int(lengths.sum()), *rows.shape[1:]), rows.dtype)
    whole[first : first + len(rows)] = rows
    return merge(whole)


def wait():
    """Returns once every process is here."""
    each(1)


@contextlib.contextmanager
def first_alone():
    """Lets process 0 pass first, and the others when it is through."""
    if index():
        wait()
    yield
    if not index():
        wait()


@contextlib.contextmanager
def noticed(where):
    """Within it, the end of another process is ``ProcessLost``, with how to go on in ``where``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        reason = re.search(CONNECTION, str(error))
        if count() == 1 or not reason:
            raise
        raise ProcessLost(
            f"another process ended or cannot be reached ({reason[0].strip(' :.')}): see what it"
            f" says; the same command on all of them goes on from the last checkpoint in {where}"
        ) from error
