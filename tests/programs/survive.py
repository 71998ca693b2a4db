"""Kills a run again and again and compares its results with an uninterrupted run:
python -m tests.programs.survive --kills=20 --engine=single

Prints a line for each kill, then what differs, and exits with 1 if anything does.
"""

import argparse
import csv
import os
import pathlib
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import dataclass

import numpy as np

from tests.forks import Forks
from tests.programs.clusters import cluster, free_addresses

SETTINGS = ("drop_path=0.1", "dropout=0.1", "ema=0.9", "save_minutes=0", "passes=9")
SPEED = "images_per_second"  # the one column of metrics.csv that may differ
END_SECONDS = 60  # within which the other processes of a killed one must have ended
TWO_PROCESSES = ("batch_size=60", "mix_group=30")
ENGINES = {  # backend, processes, settings
    "single": ("tensorflow", 1, ()),
    "mirrored": ("tensorflow", 1, ("strategy=mirrored",)),
    "workers": ("tensorflow", 2, TWO_PROCESSES),
    "jax": ("jax", 1, ()),
    "jax_processes": ("jax", 2, TWO_PROCESSES),
}


def commands(engine, workdir, data_dir, settings):
    """The (arguments, environment) of each process of a run, as ``Forks`` takes them."""
    backend, count, engine_settings = ENGINES[engine]
    flags = [f"--set={setting}" for setting in (*SETTINGS, *engine_settings, *settings)]
    flags += ["--recipe=digits_none", f"--workdir={workdir}", f"--data_dir={data_dir}"]
    arguments = ["-m", "scripts.train", *flags]

    addresses = free_addresses(count)
    environs = [cluster(backend, addresses, index) for index in range(count)]
    return [(arguments, {"KERAS_BACKEND": backend, **environ}) for environ in environs]


def survive(
    forks,
    folder,
    kills,
    epochs,
    rng,
    data_dir,
    signals=(signal.SIGKILL,),
    engine="single",
    say=print,
):
    """Lines that say in what a run that was killed differs from an uninterrupted one.

    Args:
        forks: ``Forks``, which starts the processes.
        folder: where both runs are made.
        kills: int. How often it is killed.
        epochs: int. Length of the run.
        rng: ``random.Random``, which chooses the moments.
        data_dir: where TFDS keeps its datasets.
        signals: by which it is killed, in turn.
        engine: a key of ``ENGINES``.
        say: called with a line for each kill.
    """
    settings = [f"epochs={epochs}"]
    uninterrupted = folder / "uninterrupted"
    killed = folder / "killed"

    times, _ = run(forks, commands(engine, uninterrupted, data_dir, settings))
    startup_seconds = times[1] - times[0]
    first_epoch_seconds = times[2] - times[1]  # with the compilation before it
    epoch_seconds = (times[-1] - times[2]) / (len(times) - 3)

    done = 0
    while not (killed / "last.keras").exists():
        kill = None
        if done < kills:
            number = signals[done % len(signals)]
            # One in five during start-up, the others in the first or second epoch of the process.
            if rng.random() < 0.2:
                kill = Kill(number, after_epochs=0, seconds=rng.uniform(0, startup_seconds))
            elif rng.random() < 0.5:
                kill = Kill(number, after_epochs=1, seconds=rng.uniform(0, first_epoch_seconds))
            else:
                kill = Kill(number, after_epochs=2, seconds=rng.uniform(0, epoch_seconds))

        _, output = run(forks, commands(engine, killed, data_dir, settings), kill, rng)
        done += kill is not None

        progress = [line for line in output if line.startswith(("Resuming", "Epoch"))]
        text = f"{progress[0]} ... {progress[-1]}" if progress else "before the first epoch"
        say(f"kill {done} of {kills}: {text}", flush=True)
    return list(differences(uninterrupted, killed))


@dataclass
class Kill:
    """When one of a run's processes gets a signal.

    Attributes:
        signal: int. Its number.
        after_epochs: int. It comes after so many epochs of the process began.
        seconds: float. And so long after that.
    """

    signal: int
    after_epochs: int
    seconds: float


def run(forks, commands, kill=None, rng=random):
    """Runs the processes of a run to their end.

    Args:
        forks: ``Forks``, which starts them.
        commands: as ``commands`` gives them.
        kill: None, or a ``Kill``; the other processes must then end by themselves.
        rng: chooses the process.

    Returns:
        (times, output): when the processes began, began each epoch, and ended; and the lines that
        the first one printed.
    """
    times, output = [time.monotonic()], []

    reading, writing = os.pipe()
    started = []
    with open(os.devnull, "w") as nowhere:
        for arguments, environ in commands:
            target = nowhere.fileno() if started else writing
            started.append(forks.start(arguments, environ=environ, output=target))
    os.close(writing)

    during_startup = kill is not None and not kill.after_epochs
    victim = rng.choice(started)

    def strike():
        victim.send_signal(kill.signal)
        if during_startup:  # processes that wait for each other wait for longer
            for process in started:
                process.send_signal(signal.SIGKILL)

    timer = None

    def start_timer():
        nonlocal timer
        if kill and len(times) - 1 == kill.after_epochs:
            timer = threading.Timer(kill.seconds, strike)
            timer.daemon = True
            timer.start()

    start_timer()
    with open(reading) as lines:
        for line in lines:
            output.append(line.rstrip())
            if line.startswith("Epoch"):
                times.append(time.monotonic())
                start_timer()
    if timer:
        timer.cancel()

    # During start-up SIGTERM just ends a process; later it saves, and exits with 75.
    number = kill and kill.signal
    expected = {None: (0,), signal.SIGTERM: (0, 75, -signal.SIGTERM)}.get(number, (0, -9, 75))
    for process in started:
        code = process.wait(END_SECONDS).returncode
        if code not in (*expected, -9 if during_startup else 0):
            raise SystemExit("\n".join(output))
    return [*times, time.monotonic()], output


def differences(first, second):
    """Lines that say in what two workdirs of the same recipe differ, the speed aside."""
    import keras

    import keras_deit  # noqa: F401

    for name in ("last.keras", "best.keras", "average.keras"):
        pair = [keras.saving.load_model(each / name).get_weights() for each in (first, second)]
        if not all(map(np.array_equal, *pair)):
            yield f"{name} differs"

    rows = []
    for folder in (first, second):
        with open(folder / "metrics.csv", newline="") as lines:
            rows.append([{**row, SPEED: ""} for row in csv.DictReader(lines)])
    if rows[0] != rows[1]:
        yield "metrics.csv differs"

    names = [{path.name for path in folder.iterdir()} for folder in (first, second)]
    if names[0] != names[1]:
        yield f"files {names[0] ^ names[1]}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--engine", choices=ENGINES, default="single")
    options = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder, Forks() as forks:
        folder = pathlib.Path(folder)
        lines = survive(
            forks,
            folder,
            options.kills,
            options.epochs,
            random.Random(options.seed),
            folder / "data",
            engine=options.engine,
        )
    print("\n".join(lines) or "Weights, best model, moving average and metrics are identical.")
    sys.exit(bool(lines))


if __name__ == "__main__":
    main()
