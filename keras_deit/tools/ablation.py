"""The paper's comparisons of distillation methods and of teachers, over seeds, on any recipes."""

import dataclasses
import multiprocessing
import os
import pathlib
import signal
import statistics
import threading
from concurrent.futures import FIRST_EXCEPTION, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

import keras
import numpy as np

from keras_deit import data
from keras_deit.configs.recipes import RECIPES
from keras_deit.data import datasets
from keras_deit.evaluation import disagreement, plots
from keras_deit.evaluation.scores import HEADS, evaluate
from keras_deit.training.run import train
from keras_deit.utils import tables
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_text
from keras_deit.utils.paths import expand_home
from keras_deit.utils.progress import progress_bar
from keras_deit.weights import load

SCORES = (*HEADS, "fused")
COLUMNS = ("method", "seed", *SCORES)
MAX_PROCESSES = 4
SECONDS_BETWEEN_LOOKS = 0.5


def digits_methods():
    """The paper's comparison of methods (its Table 3) on the digits: recipes by method name."""
    rows = {name: RECIPES[f"digits_{name}"] for name in ("teacher", "none", "soft", "hard")}
    return {
        name: dataclasses.replace(row, teacher=("teacher",)) if row.teacher else row
        for name, row in rows.items()
    }


def digits_teachers():
    """The paper's comparison of teachers (its Table 2) on the digits: recipes of teachers, then of
    what each teaches, by name."""
    convnet = RECIPES["digits_teacher"]
    teachers = {
        "convnet": convnet,
        "small_convnet": dataclasses.replace(convnet, variant="regnety_digits_small"),
        "deit": RECIPES["digits_none"],
    }

    student = RECIPES["digits_hard"]
    students = {f"by_{name}": dataclasses.replace(student, teacher=(name,)) for name in teachers}
    return {**teachers, **students, "by_all": dataclasses.replace(student, teacher=tuple(teachers))}


def digits_target_epochs():
    """The price of labeling few epochs, whose views are seen again and again: recipes by name."""
    hard = dataclasses.replace(RECIPES["digits_hard"], teacher=("teacher",))
    students = {
        f"targets_of_{epochs}": dataclasses.replace(hard, target_epochs=epochs)
        for epochs in (hard.epochs, 5, 2, 1)
    }
    return {"teacher": RECIPES["digits_teacher"], **students}


def run(methods, seeds, workdir, data_dir=None, split="test", processes=None):
    """Trains and scores every method with every seed, in separate processes.

    Finished runs are not repeated. Progress is that of all runs together.

    Args:
        methods: dict. Recipes by method name. A recipe's teacher is the name of another method,
            whose model of the same seed teaches it.
        seeds: iterable of int. Seeds of the initial weights, the order and the augmentation; the
            training images are the same with all of them.
        workdir: str or path. It holds a workdir for each run, ``<method>-<seed>``.
        data_dir: str or path. Where TFDS keeps its datasets. Default None, TFDS' own folder.
        split: str. The split that scores are taken on. Default "test".
        processes: int. Number of runs at a time. Default None: one with an accelerator, else one
            for each core and at most ``MAX_PROCESSES``. Models as small as the digits' leave a
            second core idle.

    Returns:
        A list of dicts with ``COLUMNS``, by seed and method: accuracies in [0, 1], None for a head
        that does not exist.

    Raises:
        UserError: as ``train``, for the first run that fails.
    """
    runs = {
        (seed, method): _seed_recipe(recipe, seed, workdir)
        for seed in seeds
        for method, recipe in methods.items()
    }

    # Here, as the processes would all prepare it.
    for recipe in methods.values():
        datasets.load(recipe.dataset, split, data_dir)

    cores = os.cpu_count()
    spawn = multiprocessing.get_context("spawn")  # TensorFlow does not survive a fork
    if not processes:
        # In a separate process, as JAX would keep an accelerator's memory in this one.
        with ProcessPoolExecutor(1, spawn) as pool:
            accelerators = pool.submit(_accelerators).result()
        processes = 1 if accelerators else min(cores, MAX_PROCESSES)

    threads = max(1, cores // processes)
    with ProcessPoolExecutor(processes, spawn, _start_process, (threads,)) as pool:
        scores = _train_all(runs, pool, workdir, data_dir, split)

    return [{"method": method, "seed": seed, **scores[seed, method]} for seed, method in runs]


def report(rows, workdir):
    """Writes ``results.csv`` (``COLUMNS``, empty for a head that does not exist), ``results.md``
    and ``learning_curves.png`` into ``workdir``.

    Args:
        rows: list of dicts, as ``run`` returns them.
        workdir: str or path. That of ``run``.
    """
    workdir = pathlib.Path(expand_home(workdir))
    tables.write_csv(workdir / "results.csv", COLUMNS, rows)
    atomic_write_text(workdir / "results.md", table(rows))

    workdirs = {}
    for row in rows:
        folder = run_folder(workdir, row["method"], row["seed"])
        workdirs.setdefault(row["method"], []).append(folder)
    plots.learning_curves(workdirs, workdir / "learning_curves.png")


def table(rows):
    """The scores in percent as a Markdown table: mean ± sample standard deviation over seeds. A
    line below it compares hard distillation with none.

    Args:
        rows: list of dicts, as ``run`` returns them.

    Returns:
        A str of lines.

    Example:
        >>> from keras_deit.tools.ablation import table
        >>> row = {"method": "soft", "seed": 0, "class": 0.5, "distillation": 0.7, "fused": 0.6}
        >>> print(table([row]), end="")
        | method | class head | distillation head | fused |
        | --- | ---: | ---: | ---: |
        | soft | 50.0 | 70.0 | 60.0 |
    """
    methods = list(dict.fromkeys(row["method"] for row in rows))
    header = ["method", *(f"{head} head" for head in HEADS), "fused"]
    lines = []
    for method in methods:
        scores = [_scores_of(rows, method, column) for column in SCORES]
        lines.append([method, *map(tables.mean_and_deviation, scores)])

    text = tables.markdown(header, lines) + "\n"
    if {"hard", "none"} <= set(methods):
        text += f"\n{_comparison(rows)}\n"
    return text


def disagreements(workdir, data_dir=None, split="test", methods=("teacher", "none", "hard")):
    """How often the models of the first seed decide differently, as text: a table and a sentence.

    It is also written to ``disagreement.md`` in ``workdir``.

    Args:
        workdir, data_dir, split: those of ``run``.
        methods: names of methods. Default those of the paper's Table 4.
    """
    models = {name: load(run_folder(workdir, name, 0) / "last.keras") for name in methods}
    recipe = RECIPES["digits_none"]
    decisions = {
        name: disagreement.decisions(
            model, data.evaluation(recipe, data_dir, split, preprocessing=model.preprocessing)
        )
        for name, model in models.items()
    }
    classifiers = disagreement.by_head(decisions)
    text = f"{disagreement.table(classifiers)}\n\n{disagreement.reading(models, classifiers)}\n"
    atomic_write_text(pathlib.Path(expand_home(workdir)) / "disagreement.md", text)
    return text


def draw_attention(workdir, method, data_dir=None, split="test"):
    """Draws what the model of a method and the first seed attends to, in a random image of each
    digit, as ``attention_maps.png`` in ``workdir``."""
    test = datasets.load("digits", split, data_dir)
    digits = [test[row] for row in test.subset_indices(0.0, np.random.default_rng(0))]
    images = np.stack([image for image, _ in sorted(digits, key=lambda pair: pair[1])])

    model = load(run_folder(workdir, method, 0) / "last.keras")
    plots.attention_maps(model, images, pathlib.Path(expand_home(workdir)) / "attention_maps.png")


def run_folder(workdir, method, seed):
    """The workdir of one run."""
    return pathlib.Path(expand_home(workdir)) / f"{method}-{seed}"


def _seed_recipe(recipe, seed, workdir):
    """The recipe of a run: with its seed, and the teachers of that seed."""
    teacher = tuple(str(run_folder(workdir, name, seed) / "last.keras") for name in recipe.teacher)
    return dataclasses.replace(recipe, seed=seed, teacher=teacher)


def _train_all(runs, pool, workdir, data_dir, split):
    """Trains the recipes by (seed, method), and returns their scores by the same keys."""
    total = sum(recipe.epochs for recipe in runs.values())
    finished = _finished_epochs(runs, workdir)
    bar = progress_bar(total, "epoch", done=finished)
    bar.update(finished)

    # The teachers first: the other runs load their models.
    scores = {}
    for has_teacher in (False, True):
        futures = {}
        for (seed, method), recipe in runs.items():
            if bool(recipe.teacher) == has_teacher:
                folder = run_folder(workdir, method, seed)
                futures[pool.submit(_train_one, recipe, folder, data_dir, split)] = seed, method

        while futures:
            done, _ = wait(futures, SECONDS_BETWEEN_LOOKS, return_when=FIRST_EXCEPTION)
            if (now_finished := _finished_epochs(runs, workdir)) > finished:
                finished = now_finished
                bar.update(finished)
            for future in done:
                scores[futures.pop(future)] = _result(future, pool)

    return scores


def _train_one(recipe, workdir, data_dir, split):
    """In a process of the pool: one run, and its top-1 by head."""
    model = train(recipe, workdir, data_dir, quiet=True)
    scores = evaluate(
        model, data.evaluation(recipe, data_dir, split, preprocessing=model.preprocessing)
    )
    return {head: of_head and of_head.top1 for head, of_head in scores.items()}


def _start_process(threads):
    """In a process of the pool: limits it to its cores, and ends it at Ctrl-C, which must not print
    a traceback from each, and with the process that started it."""
    import tensorflow as tf

    def end_with_parent():
        multiprocessing.parent_process().join()
        os._exit(1)

    signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=end_with_parent, daemon=True).start()
    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(threads)


def _accelerators():
    """In a separate process: the names of the devices that are not CPUs."""
    return [name for name in keras.distribution.list_devices() if not name.startswith("cpu")]


def _result(future, pool):
    """A run's scores. If it failed, the runs that have not begun never do."""
    try:
        return future.result()
    except BrokenProcessPool as error:
        raise UserError(
            "the process of a run was killed, perhaps for memory: run the same command again to"
            " resume"
        ) from error
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        raise


def _finished_epochs(runs, workdir):
    """The number of finished epochs of all runs, by the lines of their ``metrics.csv``."""
    total = 0
    for seed, method in runs:
        path = run_folder(workdir, method, seed) / "metrics.csv"
        if path.exists():  # it is replaced as a whole, never removed
            total += len(tables.read_csv(path))
    return total


def _scores_of(rows, method, column):
    """A method's scores, one for each seed; none if its models have no such head."""
    return [row[column] for row in rows if row["method"] == method and row[column] is not None]


def _comparison(rows):
    """A sentence that compares the fused scores of hard distillation and of none."""
    hard = _scores_of(rows, "hard", "fused")
    none = _scores_of(rows, "none", "fused")
    gain = 100 * (statistics.mean(hard) - statistics.mean(none))
    if len(hard) < 2:
        return f"Hard distillation against none: {gain:+.1f} points with one seed."

    spread = 100 * max(tables.deviation(hard), tables.deviation(none))
    verdict = "more" if gain > spread else "not more"
    return (
        f"Hard distillation against none: {gain:+.1f} points in the mean over {len(hard)} seeds,"
        f" {verdict} than the spread of {spread:.1f} (the larger standard deviation of the two)."
    )
