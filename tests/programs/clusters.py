"""Processes that train together on this host: their environments, and how they are run."""

import json
import os
import pathlib
import socket
import subprocess

ROOT = pathlib.Path(__file__).parents[2]


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


def environment(backend, devices=1, addresses=("-",), index=0):
    """The environment of process ``index`` of those at ``addresses``, on CPU devices."""
    return {
        **os.environ,
        "KERAS_BACKEND": backend,
        "PYTHONWARNINGS": "ignore",
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "JAX_PLATFORMS": "cpu",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
        **cluster(backend, addresses, index),
    }


def environments(backend, devices=1, count=2):
    """The environment of each of ``count`` processes that train together."""
    addresses = free_addresses(count)
    return [environment(backend, devices, addresses, index) for index in range(count)]


def run_together(commands, timeout=120):
    """Runs processes at the same time, to their ends.

    Args:
        commands: (arguments, environment) of each.
        timeout: float. Seconds for each, after which all of them are killed.

    Returns:
        A list of ``subprocess.CompletedProcess``, with their output as text.
    """
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = []
    try:
        for argv, environ in commands:
            started.append(subprocess.Popen(argv, cwd=ROOT, env=environ, **pipes))

        results = []
        for process in started:
            output, errors = process.communicate(timeout=timeout)
            results.append(
                subprocess.CompletedProcess(process.args, process.returncode, output, errors)
            )
        return results
    finally:
        for process in started:
            process.kill()
