"""Several tasks, models and seeds, one run after the other, and what came of them in one file."""

import csv
import io
import json
import pathlib
import re
import traceback
import zlib

import keras

import keras_deit as kd
from keras_deit.distribution import processes
from keras_deit.evaluation.scores import HEADS
from keras_deit.utils.errors import Interrupted, ProcessLost, reason
from keras_deit.utils.files import atomic_write
from transfer import results
from transfer.finetuning import find, finetune, recipe
from transfer.probe import METHODS, probe
from transfer.tasks import TASKS

COLUMNS = ("task", "model", "method", "seed", "metric", "class", "distillation", "fused")
COLUMNS += ("published", "error")


def sweep(tasks, models, workdir, overrides=(), seeds=1, probing=False, data_dir=None):
    """Fine-tunes every model on every task with every seed, or probes its features. What is
    finished in ``workdir`` is not repeated, and a run that fails does not stop the others.

    A seed is that of a run, and chooses the images too where ``train_fraction`` takes but some, if
    the overrides have no ``subset``.

    ``workdir`` then holds a folder for each run, ``<task>/<model>/<seed>``; ``results.csv``
    (``COLUMNS``; scores as fractions, by the task's metric, empty where there is none),
    ``results.md`` and ``results.png``: of this call, and of those before it in ``workdir``.

    Args:
        tasks, models: names, as ``finetune`` takes them.
        workdir: a folder.
        overrides: texts "field=value" of every ``Recipe``.
        seeds: how many, from 0 on.
        probing: a linear classifier and nearest neighbours on frozen features, not fine-tuning.
        data_dir: where TFDS keeps its data sets.

    Returns:
        The rows of ``results.csv``, as dicts, those of earlier calls first.

    Raises:
        UserError: a wrong name or override, before anything is begun; and, at the end, that runs
            failed, and why.
    """
    workdir, failed = pathlib.Path(workdir), []
    tasks = [task if task in TASKS else find(task).dataset for task in tasks]
    recipes = {
        (task, model): recipe(find(task), model, overrides) for task in tasks for model in models
    }
    runs = [(task, model, seed) for task, model in recipes for seed in range(seeds)]
    work, rows = _probed if probing else _tuned, _earlier(workdir)
    for number, (task, model, seed) in enumerate(runs, 1):
        print(f"\n[{number}/{len(runs)}] {task}, {model}, seed {seed}", flush=True)
        where = workdir / slug(task) / slug(model) / str(seed)
        seeded = [*overrides, f"seed={seed}"]
        if not any(setting.startswith("subset=") for setting in overrides):
            seeded.append(f"subset={seed}")
        row = {"task": task, "model": model, "seed": seed, "metric": find(task).metric}
        row["published"] = find(task).score(model)
        try:
            found = work(find(task), model, where, seeded, data_dir)
        except (Interrupted, ProcessLost):
            raise
        except Exception as error:  # whatever it is, the others are not to suffer
            found = [{"error": _account(error, where)}]
            failed.append(f"{task}, {model}: {found[0]['error']}")
            print(f"failed: {found[0]['error']}", flush=True)
        found = [dict.fromkeys(COLUMNS) | row | one for one in found]
        replaced = [_key(one) for one in found] + [(task, model, seed, None)]
        rows = [old for old in rows if _key(old) not in replaced] + found
        if not processes.index():
            _report(rows, workdir)
        keras.backend.clear_session()
    print(
        f"\n{results.markdown(rows)}\n{workdir}: results.csv, results.md, results.png", flush=True
    )
    if failed:
        raise kd.UserError(f"{len(failed)} of {len(runs)} runs failed: {'; '.join(failed)}")
    return rows


def _key(row):
    return row["task"], row["model"], row["seed"], row["method"]


def _earlier(workdir):
    """The rows of ``results.csv`` of earlier calls."""
    if not (workdir / "results.csv").exists():
        return []
    with open(workdir / "results.csv", newline="") as lines:
        rows = [{name: text or None for name, text in row.items()} for row in csv.DictReader(lines)]
    if rows and tuple(rows[0]) != COLUMNS:
        raise kd.UserError(f"{workdir}/results.csv is none of ours: use another workdir")
    for row in rows:
        row["seed"] = int(row["seed"])
        for name in (*HEADS, "fused", "published"):
            row[name] = row[name] and float(row[name])
    return rows


def _tuned(task, model, where, overrides, data_dir):
    finetune(model, task, where, overrides, data_dir)
    scores = json.loads((where / "scores.json").read_text())["last"]
    found = {head: of and of[task.metric] for head, of in scores.items()}
    return [{"method": "fine-tuned", **found}]


def _probed(task, model, where, overrides, data_dir):
    scores = probe(model, task, where, overrides, data_dir)
    return [{"method": name, "fused": scores[name][task.metric]} for name in METHODS]


def _account(error, where):
    """One line; what is no UserError leaves its whole account in the run's folder."""
    text = reason(error)
    if isinstance(error, kd.UserError):
        return text
    account = where / "error.txt"
    atomic_write(account, lambda path: path.write_text(traceback.format_exc()))
    return f"{type(error).__name__}: {text} ({account})"


def slug(name):
    """A folder's name for a task or model: the name, or a path's end and a number for all of it."""
    if re.fullmatch(r"\w+", name):
        return name
    path = pathlib.Path(name.removeprefix("folder:")).resolve()
    words = re.sub(r"[^\w.-]+", "_", "-".join(path.with_suffix("").parts[-2:]).strip("/-"))
    return f"{words}-{zlib.crc32(str(path).encode('utf-8', 'surrogateescape')):08x}"


def _report(rows, workdir):
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    atomic_write(workdir / "results.csv", lambda path: path.write_text(text.getvalue()))
    atomic_write(workdir / "results.md", lambda path: path.write_text(results.markdown(rows)))
    results.chart(rows, workdir / "results.png")
