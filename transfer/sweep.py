"""Sweeps: several tasks, models and seeds, one run after another, and a table of the results."""

import dataclasses
import functools
import json
import pathlib
import re
import traceback
import zlib

import keras

import keras_deit as kd
from keras_deit.distribution import processes
from keras_deit.evaluation.scores import HEADS
from keras_deit.utils import logs, tables
from keras_deit.utils.errors import Interrupted, ProcessLost, reason
from keras_deit.utils.files import atomic_write_text, locked
from keras_deit.utils.paths import expand_home
from keras_deit.weights.sources import identity
from transfer import results
from transfer.finetuning import finetune_recipe, recipe
from transfer.labeling import with_targets
from transfer.probe import METHODS, probe_recipe
from transfer.tasks import TASKS, Task, find

COLUMNS = (
    *("task", "model", "method", "seed", "metric", "class", "distillation", "fused"),
    *("published", "error"),
)
SCORES = (*HEADS, "fused", "published")  # the columns that hold fractions
LOCK = ".results.lock"  # held while the files of results are read and written
FINE_TUNED = "fine-tuned"  # the method of a row that is not of a probe


@dataclasses.dataclass(frozen=True)
class Run:
    """One run of a sweep: a model on a task with a seed."""

    task_name: str
    task: Task
    model: str
    seed: int
    recipe: kd.Recipe
    workdir: pathlib.Path

    def row(self, **values):
        """A row of the results."""
        return {
            **dict.fromkeys(COLUMNS),
            "task": self.task_name,
            "model": self.model,
            "seed": self.seed,
            "metric": self.task.metric,
            "published": self.task.published_score(self.model),
            **values,
        }


def sweep(tasks, models, workdir, overrides=(), seeds=1, probing=False, data_dir=None, label=False):
    """Fine-tunes every model on every task with every seed, or probes its features.

    Finished runs in ``workdir`` are not repeated, and a failed run does not stop the others. Calls
    for other runs may use the same ``workdir`` at the same time. The
    seed is that of a run. It also chooses the training images if ``train_fraction`` is below 1 and
    the overrides have no ``subset``.

    ``workdir`` then holds a folder for each run, ``<task>/<model>/<seed>``, and the results of this
    call and of earlier ones: ``results.csv`` (``COLUMNS``; scores as fractions by the task's
    metric, empty if there is none), ``results.md`` and ``results.png``.

    Args:
        tasks: list of str. Rows of ``TASKS``, or ``folder:<path>``.
        models: list of str. Published names, or files.
        workdir: str or path. A folder.
        overrides: list of str. "field=value" of every ``Recipe``. Default none.
        seeds: int. Number of seeds, which count from the recipe's "seed" on: 0, unless the
            overrides have another. Default 1.
        probing: bool. Whether to score frozen features instead of fine-tuning. Default False.
        data_dir: str or path. Where TFDS keeps its datasets. Default None, TFDS' own folder.
        label: bool. Whether the teachers are fine-tuned on each task once, and label its images
            once for all seeds and students, which train from these targets (``keras_deit.label``).
            All seeds then see the same images in the same order: they differ in the initial
            weights. Default False.

    Returns:
        A list of dicts, the rows of ``results.csv``, those of earlier calls first.

    Raises:
        UserError: a name or override is wrong, before the first run; or, after the last, runs
            failed, with the reason of each.
    """
    workdir = pathlib.Path(expand_home(workdir))
    models = expand_home(list(models))
    runs = _plan(tasks, models, workdir, overrides, seeds, label)
    rows = _read_results(workdir)
    work = _probe if probing else functools.partial(_finetune, label=label)

    failures = []
    for number, run in enumerate(runs, 1):
        logs.info(f"\n[{number}/{len(runs)}] {run.task_name}, {run.model}, seed {run.seed}")
        new_rows = _new_rows(run, work, data_dir)

        error = new_rows[0]["error"]
        if error:
            logs.info(f"failed: {error}")
            failures.append(f"{run.task_name}, {run.model}: {error}")

        # Written after each run, so that an interrupted sweep has its results.
        rows = _add_to_results(workdir, run, new_rows)
        keras.backend.clear_session()

    logs.info(f"\n{results.markdown(rows)}\n{workdir}: results.csv, results.md, results.png")
    if failures:
        raise kd.UserError(f"{len(failures)} of {len(runs)} runs failed: {'; '.join(failures)}")
    return rows


def folder_name(name):
    """The folder of a task or model: its name; for a path, its last two components and a checksum
    of the absolute path."""
    if re.fullmatch(r"\w+", name):
        return name

    path = pathlib.Path(name.removeprefix("folder:")).resolve()
    end = "-".join(path.with_suffix("").parts[-2:]).strip("/-")
    words = re.sub(r"[^\w.-]+", "_", end)
    number = zlib.crc32(str(path).encode("utf-8", "surrogateescape"))
    return f"{words}-{number:08x}"


def _plan(tasks, models, workdir, overrides, seeds, label=False):
    """The runs, in order. Raises UserError if a name or override is wrong."""
    tasks_by_name = {}
    for name in tasks:
        task = find(name)
        tasks_by_name[name if name in TASKS else task.dataset] = task

    runs = []
    for task_name, task in tasks_by_name.items():
        for model in dict.fromkeys(map(identity, models)):
            task_recipe = recipe(task, model, overrides)
            for seed in range(task_recipe.seed, task_recipe.seed + seeds):
                # Each seed sees other training images, unless the user chose some.
                seeded = {"seed": seed}
                if label:
                    if not task_recipe.teacher:
                        raise kd.UserError(
                            "labeling without a teacher: expected --set=teacher=<name or file> and"
                            " --set=distillation=hard or soft"
                        )
                    seeded["data_seed"] = task_recipe.seed
                elif not any(setting.startswith("subset=") for setting in overrides):
                    seeded["subset"] = seed

                folder = workdir / folder_name(task_name) / folder_name(model) / str(seed)
                seed_recipe = dataclasses.replace(task_recipe, **seeded)
                runs.append(Run(task_name, task, model, seed, seed_recipe, folder))
    return runs


def _new_rows(run, work, data_dir):
    """The rows of a run: its scores, or its error."""
    try:
        return work(run, data_dir)
    except (Interrupted, ProcessLost):  # these end the sweep, to be resumed
        raise
    except Exception as error:  # of any type: the other runs go ahead
        return [run.row(error=_error_line(error, run.workdir))]


def _finetune(run, data_dir, label):
    run_recipe = run.recipe
    if label:
        run_recipe = with_targets(run.task, run_recipe, run.workdir.parents[1], data_dir)
    finetune_recipe(run.task, run_recipe, run.workdir, data_dir)

    scores = json.loads((run.workdir / "scores.json").read_text())["last"]
    by_head = {head: values and values[run.task.metric] for head, values in scores.items()}
    return [run.row(method=FINE_TUNED, **by_head)]


def _probe(run, data_dir):
    scores = probe_recipe(run.recipe, run.workdir, data_dir)
    return [run.row(method=name, fused=scores[name][run.task.metric]) for name in METHODS]


def _error_line(error, workdir):
    """An error in one line. One that is not a UserError leaves its traceback in the workdir."""
    if isinstance(error, kd.UserError):
        return reason(error)

    path = workdir / "error.txt"
    atomic_write_text(path, "".join(traceback.format_exception(error)))
    return f"{type(error).__name__}: {reason(error)} ({path})"


def _add_to_results(workdir, run, new_rows):
    """Puts the rows of a run in the files of results. Returns all rows.

    The files are read again: other sweeps may have added rows meanwhile, or be about to.
    """
    with locked(workdir / LOCK):
        rows = _replace_rows(_read_results(workdir), run, new_rows)
        if not processes.index():
            _write_results(rows, workdir)
    return rows


def _replace_rows(rows, run, new_rows):
    """The rows, with those of a run in place of its earlier ones. An earlier failure, which has no
    method, is replaced too."""

    def key(row):
        return row["task"], row["model"], row["seed"], row["method"]

    replaced = [key(row) for row in new_rows] + [key(run.row())]
    return [row for row in rows if key(row) not in replaced] + new_rows


def _read_results(workdir):
    """The rows of earlier calls."""
    path = workdir / "results.csv"
    if not path.exists():
        return []

    rows = tables.read_csv(path)
    if rows and tuple(rows[0]) != COLUMNS:
        raise kd.UserError(f"{path} was not written by keras_deit: choose another workdir")

    for row in rows:
        row["seed"] = int(row["seed"])
        for column in SCORES:
            row[column] = row[column] and float(row[column])
    return rows


def _write_results(rows, workdir):
    tables.write_csv(workdir / "results.csv", COLUMNS, rows)
    atomic_write_text(workdir / "results.md", results.markdown(rows))
    results.chart(rows, workdir / "results.png")
