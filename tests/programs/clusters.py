"""Processes that train together on this host: their environments, and how they are run."""

import json
import os
import socket


def free_addresses(count):
    """Addresses of so many processes, at most two, on free ports of this host."""
    with socket.socket() as first, socket.socket() as second:
        for each in (first, second):
            each.bind(("localhost", 0))
        return [f"localhost:{each.getsockname()[1]}" for each in (first, second)][:count]


def cluster(backend, addresses, index):
    """The environment variables that tell process ``index`` of the others, if there are several."""
    if len(addresses) == 1:
        return {}

    if backend == "jax":
        names = {"JOB_ADDRESSES": ",".join(addresses), "NUM_PROCESSES": len(addresses)}
        names["PROCESS_ID"] = index
        return {f"KERAS_DISTRIBUTION_{name}": str(value) for name, value in names.items()}

    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


def xla_flags(devices):
    """``XLA_FLAGS`` of this process, and so many CPU devices."""
    given = os.environ.get("XLA_FLAGS", "")
    return f"{given} --xla_force_host_platform_device_count={devices}".strip()


def environment(backend, devices=1, addresses=("-",), index=0):
    """What ``Forks`` adds to the environment of process ``index`` of those at ``addresses``, on CPU
    devices."""
    return {
        "KERAS_BACKEND": backend,
        "PYTHONWARNINGS": "ignore",
        "XLA_FLAGS": xla_flags(devices),
        **cluster(backend, addresses, index),
    }


def environments(backend, devices=1, count=2):
    """The environment of each of ``count`` processes that train together."""
    addresses = free_addresses(count)
    return [environment(backend, devices, addresses, index) for index in range(count)]


def run_together(forks, commands, timeout=120):
    """Runs processes at the same time, to their ends.

    Args:
        forks: ``Forks``, which starts them, and ends what is left of them.
        commands: (arguments, environment) of each.
        timeout: float. Seconds for each.

    Returns:
        A list of ``subprocess.CompletedProcess``, with their output as text.
    """
    started = [forks.start(arguments, environ=environ) for arguments, environ in commands]
    return [process.wait(timeout) for process in started]
