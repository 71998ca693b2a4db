"""Kills a run again and again and compares what it comes to with a run that was left alone:
python -m tests.programs.survive --kills=20 --engine=single

Prints one line for each kill, then what is equal; ends with 1 where anything is not.
"""

import argparse
import csv
import json
import os
import pathlib
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

SETTINGS = ("drop_path=0.1", "dropout=0.1", "ema=0.9", "save_minutes=0", "passes=9")
SPEED = ("images_per_second",)
NOTICED = 60  # seconds within which the other processes of a killed one must have ended
TWO = ("batch_size=60", "mix_group=30")  # images for each of two processes
ENGINES = {  # backend, processes, settings
    "single": ("tensorflow", 1, ()),
    "mirrored": ("tensorflow", 1, ("strategy=mirrored",)),
    "workers": ("tensorflow", 2, TWO),
    "jax": ("jax", 1, ()),
    "jax_processes": ("jax", 2, TWO),
}


def commands(engine, workdir, data_dir, settings):
    """Of each process: its arguments and its environment."""
    backend, count, own = ENGINES[engine]
    flags = [f"--set={setting}" for setting in (*SETTINGS, *own, *settings)]
    flags += ["--recipe=digits_none", f"--workdir={workdir}", f"--data_dir={data_dir}"]
    argv = [sys.executable, "-m", "scripts.train", *flags]
    environ = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    addresses = [f"localhost:{port}" for port in free_ports(count)]
    return [(argv, {**environ, **cluster(backend, addresses, i)}) for i in range(count)]


def cluster(backend, addresses, index):
    """The environment that names the processes, where there are several."""
    if len(addresses) == 1:
        return {}
    if backend == "jax":
        names = {"JOB_ADDRESSES": ",".join(addresses), "NUM_PROCESSES": len(addresses)}
        names["PROCESS_ID"] = index
        return {f"KERAS_DISTRIBUTION_{name}": str(value) for name, value in names.items()}
    task = {"type": "worker", "index": index}
    return {"TF_CONFIG": json.dumps({"cluster": {"worker": addresses}, "task": task})}


def free_ports(count):
    """Numbers of so many ports, two at most, that nobody listens to."""
    with socket.socket() as one, socket.socket() as other:
        for each in (one, other):
            each.bind(("localhost", 0))
        return [each.getsockname()[1] for each in (one, other)][:count]


def survive(
    folder, kills, epochs, rng, data_dir, signals=(signal.SIGKILL,), engine="single", say=print
):
    """What differs between a run of ``epochs`` killed ``kills`` times and one left alone."""
    settings = [f"epochs={epochs}"]
    alone, killed = folder / "alone", folder / "killed"
    start, *epochs, end = processes(commands(engine, alone, data_dir, settings))[0]
    setup, steps = epochs[0] - start, end - epochs[1]
    first = epochs[1] - epochs[0]  # an epoch, and the compilation before it
    done = 0
    while not (killed / "last.keras").exists():
        before = done < kills and rng.random() < 0.2  # the first epoch
        delay = rng.uniform(0, setup) if before else rng.uniform(0.5, 1) * first
        delay += 0 if before else rng.uniform(0, 2) * steps / kills
        kill = (signals[done % len(signals)], before, delay) if done < kills else None
        output = processes(commands(engine, killed, data_dir, settings), kill, rng)[1]
        done += kill is not None
        went = [line for line in output if line.startswith(("Goes on", "Epoch"))]
        went = f"{went[0]} ... {went[-1]}" if went else "before the first epoch"
        say(f"kill {done} of {kills}: {went}", flush=True)
    return list(differences(alone, killed))


def processes(commands, kill=None, rng=random):
    """When the processes of a run began, began each epoch and ended, and the lines that the first
    one printed. One of them is sent the signal ``kill[0]``, ``kill[2]`` seconds after their start
    (``kill[1]``) or the first epoch; the others must then end by themselves."""
    number, before, delay = kill or (None, False, 1e6)
    times, output = [time.monotonic()], []
    started = []
    for argv, environ in commands:
        pipe = subprocess.DEVNULL if started else subprocess.PIPE
        options = {"stdout": pipe, "stderr": subprocess.STDOUT, "text": True, "env": environ}
        started.append(subprocess.Popen(argv, **options))
    struck = rng.choice(started)

    def strike():
        struck.send_signal(number)
        if before:  # while they look for each other they wait for longer
            for each in started:
                each.kill()

    timer = threading.Timer(delay, strike)
    timer.daemon = True
    if before:
        timer.start()
    for line in started[0].stdout:
        output.append(line.rstrip())
        if line.startswith("Epoch"):
            times.append(time.monotonic())
            if not before and len(times) == 2:
                timer.start()
    started[0].stdout.close()
    timer.cancel()
    # While things are loaded SIGTERM just ends it; then it saves and says that it can go on.
    expected = {None: (0,), signal.SIGTERM: (0, 75, -signal.SIGTERM)}.get(number, (0, -9, 75))
    for process in started:
        if process.wait(NOTICED) not in (*expected, -9 if before else 0):
            raise SystemExit("\n".join(output))
    return [*times, time.monotonic()], output


def differences(one, other):
    """Lines that say in what two workdirs of the same recipe differ, the speed aside."""
    import keras

    import keras_deit  # noqa: F401

    for name in ("last.keras", "best.keras", "average.keras"):
        pair = [keras.saving.load_model(folder / name).get_weights() for folder in (one, other)]
        if not all(map(np.array_equal, *pair)):
            yield f"{name} differs"
    rows = []
    for folder in (one, other):
        with open(folder / "metrics.csv", newline="") as lines:
            rows.append([{**row, SPEED[0]: ""} for row in csv.DictReader(lines)])
    if rows[0] != rows[1]:
        yield "metrics.csv differs"
    names = [{path.name for path in folder.iterdir()} for folder in (one, other)]
    if names[0] != names[1]:
        yield f"files {names[0] ^ names[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default="single")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder, rng = pathlib.Path(folder), random.Random(given.seed)
        found = survive(
            folder, given.kills, given.epochs, rng, folder / "data", engine=given.engine
        )
    print("\n".join(found) or "Weights, best model, moving average and metrics are identical.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
