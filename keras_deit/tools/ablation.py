"""The paper's comparison of distillation methods (its Table 3), over seeds, on any recipes."""

import csv
import dataclasses
import io
import multiprocessing
import os
import pathlib
import signal
import statistics
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import keras

from keras_deit import data
from keras_deit.data import datasets
from keras_deit.evaluation import plots
from keras_deit.evaluation.scores import HEADS, evaluate
from keras_deit.training.run import train
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write

COLUMNS = ("method", "seed", *HEADS, "fused")


def run(methods, seeds, workdir, data_dir=None, split="test", processes=None):
    """Trains and scores every method at every seed, under one progress bar; a run that is finished
    already is not repeated.

    Args:
        methods: recipes by method name; "teacher" teaches those of its seed that have a teacher.
        seeds: of initial weights, order and augmentation; the training images stay the same.
        workdir: holds a workdir per run, ``<method>-<seed>``.
        data_dir: where TFDS keeps its data sets.
        split: what the scores are taken on.
        processes: how many runs at a time; None is one for each core, four at most, or one where
            there is a GPU. A model of this size leaves a second core idle.

    Returns:
        A dict of ``COLUMNS`` per run, by seed and method: accuracies as fractions, None where a
        head does not exist.

    Raises:
        UserError: as ``train`` does, for the first run that cannot go on.
    """
    runs = {}
    for seed in seeds:
        for name, recipe in methods.items():
            runs[seed, name] = _recipe(recipe, seed, workdir)
    for recipe in methods.values():  # here, before the processes would all prepare it
        datasets.load(recipe.dataset, split, data_dir)
    cores = os.cpu_count()
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    if not processes:
        with ProcessPoolExecutor(1, spawn) as pool:  # here, JAX would keep a GPU's memory
            processes = 1 if pool.submit(_accelerators).result() else min(cores, 4)
    bar = keras.utils.Progbar(sum(recipe.epochs for recipe in runs.values()), unit_name="epoch")
    with ProcessPoolExecutor(processes, spawn, _start, (max(1, cores // processes),)) as pool:
        scores, shown = {}, 0
        for taught in (False, True):  # the teachers' turn, then that of those they teach
            turn = {}
            for (seed, name), recipe in runs.items():
                if (recipe.teacher is not None) is taught:
                    where = folder(workdir, name, seed)
                    turn[pool.submit(_run, recipe, where, data_dir, split)] = seed, name
            while turn:
                done, _ = wait(turn, timeout=0.5, return_when=FIRST_EXCEPTION)
                finished = sum(_epochs(folder(workdir, name, seed)) for seed, name in runs)
                if finished > shown:
                    bar.update(shown := finished)
                for future in done:
                    scores[turn.pop(future)] = _result(future, pool)
    return [{"method": name, "seed": seed, **scores[seed, name]} for seed, name in runs]


def _accelerators():
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def _recipe(recipe, seed, workdir):
    teacher = str(folder(workdir, "teacher", seed) / "last.keras")
    taught = {} if recipe.teacher is None else {"teacher": teacher}
    return dataclasses.replace(recipe, seed=seed, **taught)


def _start(threads):
    """In each process: its share of the cores, and an end with the process that started it."""
    import tensorflow as tf

    def follow():
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=follow, daemon=True).start()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _run(recipe, workdir, data_dir, split):
    model = train(recipe, workdir, data_dir, quiet=True)
    scores = evaluate(model, data.evaluation(recipe, data_dir, split))
    return {head: of_head and of_head.top1 for head, of_head in scores.items()}


def _result(future, pool):
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError("a run was killed, perhaps for memory: start it again") from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _epochs(workdir):
    """Finished epochs of a run, from the outside."""
    try:
        return max(0, len((workdir / "metrics.csv").read_text().splitlines()) - 1)
    except FileNotFoundError:
        return 0


def folder(workdir, method, seed):
    """The workdir of one run."""
    return pathlib.Path(workdir) / f"{method}-{seed}"


def report(rows, workdir):
    """Writes ``results.csv`` (``COLUMNS``, empty where a head does not exist), ``results.md`` and
    ``learning_curves.png`` into ``workdir``."""
    workdir = pathlib.Path(workdir)
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(workdir / "results.csv", lambda path: path.write_text(text.getvalue()))
    atomic_write(workdir / "results.md", lambda path: path.write_text(table(rows)))
    curves = {}
    for row in rows:
        run = folder(workdir, row["method"], row["seed"])
        curves.setdefault(row["method"], []).append(run)
    plots.learning_curves(curves, workdir / "learning_curves.png")


def table(rows):
    """The rows as a Markdown table, mean ± sample standard deviation over seeds in percent, and a
    line that compares hard distillation with none, fused heads."""
    titles = ["method", *(f"{head} head" for head in HEADS), "fused"]
    lines = [titles, ["---"] + ["---:"] * (len(titles) - 1)]
    methods = list(dict.fromkeys(row["method"] for row in rows))
    for method in methods:
        scores = [_scores(rows, method, column) for column in COLUMNS[2:]]
        lines.append([method, *map(_percent, scores)])
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{text}\n\n{_verdict(rows)}\n" if {"hard", "none"} <= set(methods) else f"{text}\n"


def _scores(rows, method, column):
    return [row[column] for row in rows if row["method"] == method and row[column] is not None]


def _spread(scores):
    return statistics.stdev(scores) if len(scores) > 1 else 0.0


def _percent(scores):
    if not scores:
        return "-"
    return f"{100 * statistics.mean(scores):.1f} ± {100 * _spread(scores):.1f}"


def _verdict(rows):
    hard, none = (_scores(rows, method, "fused") for method in ("hard", "none"))
    gain = 100 * (statistics.mean(hard) - statistics.mean(none))
    spread = 100 * max(_spread(hard), _spread(none))
    verdict = "more" if gain > spread else "not more"
    return (
        f"Hard distillation against none: {gain:+.1f} points in the mean over {len(hard)} seeds,"
        f" {verdict} than the spread of {spread:.1f} (the larger standard deviation of the two)."
    )
