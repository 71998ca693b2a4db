"""Kills a run again and again and compares what it comes to with a run that was left alone:
python -m tests.survive --kills=20

Prints one line for each kill, then what is equal; ends with 1 where anything is not.
"""

import argparse
import csv
import pathlib
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np

SETTINGS = ("drop_path=0.1", "dropout=0.1", "ema=0.9", "save_minutes=0", "passes=9")
SPEED = ("images_per_second",)


def command(workdir, data_dir, settings):
    flags = [f"--set={setting}" for setting in (*SETTINGS, *settings)]
    flags += ["--recipe=digits_none", f"--workdir={workdir}", f"--data_dir={data_dir}"]
    return [sys.executable, "-m", "scripts.train", *flags]


def survive(folder, kills, epochs, rng, data_dir, signals=(signal.SIGKILL,), say=print):
    """What differs between a run of ``epochs`` killed ``kills`` times and one left alone."""
    settings = [f"epochs={epochs}"]
    alone, killed = folder / "alone", folder / "killed"
    start, *epochs, end = _run(command(alone, data_dir, settings))[0]
    setup, steps = epochs[0] - start, end - epochs[1]
    first = epochs[1] - epochs[0]  # an epoch, and the compilation before it
    done = 0
    while not (killed / "last.keras").exists():
        before = done < kills and rng.random() < 0.2  # the first epoch
        delay = rng.uniform(0, setup) if before else rng.uniform(0.5, 1) * first
        delay += 0 if before else rng.uniform(0, 2) * steps / kills
        kill = (signals[done % len(signals)], before, delay) if done < kills else None
        output = _run(command(killed, data_dir, settings), kill)[1]
        done += kill is not None
        went = [line for line in output if line.startswith(("Goes on", "Epoch"))]
        went = f"{went[0]} ... {went[-1]}" if went else "before the first epoch"
        say(f"kill {done} of {kills}: {went}", flush=True)
    return list(differences(alone, killed))


def _run(command, kill=None):
    """When a command began, began each epoch and ended, and the lines it printed. It is sent the
    signal ``kill[0]``, ``kill[2]`` seconds after its start (``kill[1]``) or its first epoch."""
    number, before, delay = kill or (None, False, 1e6)
    times, output = [time.monotonic()], []
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen(command, **pipes) as process:
        timer = threading.Timer(delay, lambda: process.send_signal(number))
        timer.daemon = True
        if before:
            timer.start()
        for line in process.stdout:
            output.append(line.rstrip())
            if line.startswith("Epoch"):
                times.append(time.monotonic())
                if not before and len(times) == 2:
                    timer.start()
        timer.cancel()
    # While things are loaded SIGTERM just ends it; then it saves and says that it can go on.
    expected = {None: (0,), signal.SIGTERM: (0, 75, -signal.SIGTERM)}.get(number, (0, -9))
    if process.returncode not in expected:
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
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        rng = random.Random(given.seed)
        found = survive(folder, given.kills, given.epochs, rng, folder / "data")
    print("\n".join(found) or "Weights, best model, moving average and metrics are identical.")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
