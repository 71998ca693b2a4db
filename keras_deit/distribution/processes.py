"""The processes that train together; without ``join`` there is only one, number 0."""

import contextlib
import functools
import json
import logging
import os
import re
import sys

import keras
import numpy as np

from keras_deit.utils import logs
from keras_deit.utils.errors import ProcessLost, UserError

HEARTBEAT_SECONDS = 30  # without one for so long, JAX counts a process as dead

# What JAX's and TensorFlow's errors say if another process is gone. The tests have such messages of
# the versions that are supported.
LOST_MESSAGE = re.compile(
    r"(?i)[^\n:]*\b(connection (reset|closed|refused)|socket closed|broken pipe|failed to connect"
    r"|peer|heartbeat|collective ops is aborted|unavailable|unhealthy|preempted)\b[^\n]{0,120}"
)


def announced():
    """Whether the environment names other processes: ``TF_CONFIG`` for TensorFlow, Keras'
    ``KERAS_DISTRIBUTION_...`` for JAX.

    Raises:
        UserError: they are malformed.
    """
    if keras.backend.backend() == "jax":
        return _jax_environment() is not None
    return len(_tf_config_workers() or ()) > 1


def _jax_environment():
    """The (address, count, index) of ``jax.distributed.initialize``; None for a single process."""
    suffixes = ("JOB_ADDRESSES", "NUM_PROCESSES", "PROCESS_ID")
    names = [f"KERAS_DISTRIBUTION_{suffix}" for suffix in suffixes]
    addresses, count, index = (os.environ.get(name) or "" for name in names)
    if count in ("", "1"):
        return None

    if not addresses or not (count.isdecimal() and index.isdecimal()):
        settings = ", ".join(f"{name}={os.environ.get(name)}" for name in names)
        raise UserError(
            f"{settings}: expected host:port, the number of processes, and this one's, from 0"
        )
    return addresses.split(",")[0], int(count), int(index)


def _tf_config_workers():
    """The addresses of the workers that ``TF_CONFIG`` names; None without it."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        return None

    try:
        config = json.loads(text)
        workers = config["cluster"]["worker"]
        task = config["task"]
        valid = (
            [*config["cluster"]] == ["worker"]
            and isinstance(workers, list)
            and task["type"] == "worker"
            and workers[int(task["index"])]
        )
    except (ValueError, TypeError, KeyError, IndexError):
        valid = False

    if not valid:
        raise UserError(
            f"TF_CONFIG={text}: expected"
            ' {"cluster": {"worker": ["host:port", ...]}, "task": {"type": "worker", "index": 0}}'
        )
    return workers


_joined = None  # TensorFlow's strategy, or True on JAX, once this process has joined the others


def join():
    """Joins the other processes, once: those that the environment names (see ``announced``), or
    those of the Slurm job and, on JAX, any that ``jax.distributed`` detects (Kubernetes, Cloud TPU,
    MPI).

    Raises:
        UserError: there are no other processes, or TensorFlow is in use already.
    """
    global _joined
    if _joined is not None:
        return

    if keras.backend.backend() == "jax":
        _join_jax()
        _joined = True
    else:
        _joined = _join_tensorflow()

    if index():  # only process 0 prints
        logs.logger.setLevel(logging.WARNING)


def _join_jax():
    import jax

    settings = _jax_environment() or ()
    _print_waiting(settings[:1])
    try:
        jax.distributed.initialize(*settings, heartbeat_timeout_seconds=HEARTBEAT_SECONDS)
    except Exception as error:
        problem = " ".join(str(error).split())
        raise UserError(
            f"cannot join the other processes ({problem}): expected"
            " KERAS_DISTRIBUTION_JOB_ADDRESSES, _NUM_PROCESSES and _PROCESS_ID, or a job of Slurm,"
            " Kubernetes, Cloud TPU or MPI"
        ) from error


def _join_tensorflow():
    import tensorflow as tf

    resolvers = tf.distribute.cluster_resolver
    if _tf_config_workers():
        resolver = resolvers.TFConfigClusterResolver()
    elif "SLURM_STEP_NODELIST" in os.environ:
        resolver = resolvers.SlurmClusterResolver(
            # A separate range for each job, below the ports that systems hand out.
            port_base=10_000 + int(os.environ.get("SLURM_JOB_ID", "0")) % 20_000,
            # Slurm gives a task its GPUs; with a smaller number the resolver asks nvidia-smi.
            gpus_per_node=1024,
            gpus_per_task=1,
            auto_set_gpu=False,
        )
    else:
        raise UserError("strategy=multiworker: expected TF_CONFIG with the workers, or a Slurm job")

    _print_waiting(resolver.cluster_spec().as_dict()["worker"])
    try:
        return tf.distribute.MultiWorkerMirroredStrategy(resolver)
    except (RuntimeError, ValueError, TypeError, tf.errors.OpError) as error:
        problem = " ".join(str(error).split())
        raise UserError(f"cannot join the other workers: {problem}") from error


def _print_waiting(addresses):
    # On stderr, and from every process: nobody knows yet which one is number 0.
    text = f"Waiting for the other processes {', '.join(addresses)}".rstrip()
    print(text, file=sys.stderr)


def strategy():
    """The ``MultiWorkerMirroredStrategy`` that ``join`` made on TensorFlow; None otherwise."""
    return None if _joined is True else _joined


def count():
    """The number of processes that train together."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_count()
    joined = strategy()
    return joined.cluster_resolver.cluster_spec().num_tasks("worker") if joined else 1


def index():
    """The number of this process, from 0. Only process 0 writes files and prints."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.process_index()
    joined = strategy()
    return joined.cluster_resolver.task_id if joined else 0


def merge(array):
    """Combines arrays that each process has filled in other places, with zeros elsewhere.

    All processes call it, in the same order, and get the same array, bit for bit.
    """
    array = np.ascontiguousarray(array)
    if count() == 1 or not array.size:
        return array

    # Only one process has a nonzero value in a byte, so that their sum is exact in any type.
    local_bytes = np.frombuffer(array.tobytes(), np.uint8)
    if keras.backend.backend() == "jax":
        from jax.experimental import multihost_utils

        merged = np.asarray(multihost_utils.process_allgather(local_bytes)).sum(axis=0)
    else:
        import tensorflow as tf

        merged = np.array(_tensorflow_sum()(tf.constant(local_bytes, tf.float32)))
    return np.frombuffer(merged.astype(np.uint8).tobytes(), array.dtype).reshape(array.shape)


@functools.cache
def _tensorflow_sum():
    """A compiled function that sums a float32 vector over the processes."""
    import tensorflow as tf

    joined = strategy()
    local_replicas = len(joined.extended.worker_devices)

    def add(value):
        # Every replica of a process has the value: the first one's counts.
        context = tf.distribute.get_replica_context()
        is_first = tf.cast(context.replica_id_in_sync_group % local_replicas == 0, tf.float32)
        return context.all_reduce("SUM", value * is_first)

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.float32)])
    def run(value):
        return joined.experimental_local_results(joined.run(add, (value,)))[0]

    return run


def gather(value):
    """The values of all processes, one of the same shape each: (processes, ...)."""
    values = np.zeros((count(), *np.shape(value)), np.asarray(value).dtype)
    values[index()] = value
    return merge(values)


def concatenate(rows):
    """The rows of all processes, (rows, ...), in the processes' order; their numbers may differ."""
    rows = np.asarray(rows)
    lengths = gather(len(rows))
    start = int(lengths[: index()].sum())

    everything = np.zeros((int(lengths.sum()), *rows.shape[1:]), rows.dtype)
    everything[start : start + len(rows)] = rows
    return merge(everything)


def wait():
    """Returns once every process has called it."""
    gather(1)


@contextlib.contextmanager
def first_process_first():
    """Lets process 0 run the block before the others do: it prepares what they then find."""
    if index():
        wait()
    yield
    if not index():
        wait()


@contextlib.contextmanager
def lost_process_is_reported(workdir):
    """A context in which the end of another process raises ``ProcessLost``, which says how to
    resume the run in ``workdir``."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lost = _lost_process(error)
        if not lost:
            raise
        raise ProcessLost(
            f"another process ended or cannot be reached ({lost}): see its output; run the same"
            f" command in every process again to resume from the last checkpoint in {workdir}"
        ) from error


def _lost_process(error):
    """What an error says of a lost process; None if it says nothing of one."""
    if count() == 1 or not isinstance(error, _engine_errors()):
        return None
    message = LOST_MESSAGE.search(str(error))
    return message and message[0].strip(" :.")


def _engine_errors():
    """The types of error by which TensorFlow and JAX report a lost process."""
    if keras.backend.backend() == "jax":
        return (RuntimeError, ValueError)  # JaxRuntimeError is a RuntimeError
    import tensorflow as tf

    return (tf.errors.OpError, RuntimeError)
