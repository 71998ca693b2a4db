"""A model onto a task: its recipe, its teacher, and the run of ``keras_deit.train`` that it is."""

import dataclasses
import pathlib

import keras
import numpy as np

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.distribution import processes, strategies
from keras_deit.models.factory import float32_copy
from keras_deit.utils.files import atomic_write, sha256
from transfer import folder_check
from transfer.tasks import TASKS, folder_task

# What a teacher that is fine-tuned for a student has from the student's recipe: the data alone.
SHARED = ("train_split", "validation_split", "train_fraction", "subset", "image_size", "eval_crop")
SHARED += ("max_damaged", "seed", "strategy", "precision")
EARLY = ("variant", "image_size", "strategy")  # fields that others depend on


def find(name):
    """The ``Task`` of a name, a row of ``TASKS`` or ``folder:<path>``. Raises UserError."""
    if name.startswith("folder:") and name != "folder:":
        return folder_task(name)
    if name not in TASKS:
        known = ", ".join(TASKS)
        raise kd.UserError(f"unknown task {name!r}: expected {known} or folder:<path>")
    return TASKS[name]


def recipe(task, model, overrides=()):
    """The ``Recipe`` by which a model is fine-tuned on a task.

    Heads are new; a distilled model's heads both learn the label (``distillation=label``; none
    trains their mean, as the published code does), unless there is a teacher.

    Args:
        task: a ``Task``.
        model: a published name or a file; or a row of ``VARIANTS`` that has no published weights,
            which is trained from random ones.
        overrides: texts "field=value" of the ``Recipe``.

    Raises:
        UserError: no such model, or a wrong override.
    """
    base = kd.Recipe("", model if model in kd.VARIANTS else None, start=str(model))
    early = [text for text in overrides if text.partition("=")[0] in EARLY]
    asked = kd.override(base, early)
    shape = _shape(model, asked)
    size = asked.image_size
    if not any(text.startswith("image_size=") for text in early):
        size = _side(model, shape.get("image_size", size))
    fields = {"variant": asked.variant, "start": _start(model), "new_heads": True}
    fields |= {"dataset": task.dataset, "classes": task.classes}
    fields |= {"train_split": task.train, "validation_split": task.evaluation}
    fields |= {"image_size": size, "note": _note(task, model)}
    fields["distillation"] = "label" if shape.get("distilled") else "none"
    fields |= task.settings(shape.get("width"), size)
    return kd.override(dataclasses.replace(base, **fields), overrides)


def _shape(model, asked):
    """The fields of a model's row, or of what its file holds."""
    if model in kd.VARIANTS:
        return dataclasses.asdict(kd.VARIANTS[model])
    _begin(asked)
    found = kd.load(model, asked.variant)
    if not isinstance(found, (kd.DeiT, kd.RegNetY)):
        raise kd.UserError(f"{model} holds a {type(found).__name__}: expected a DeiT or RegNetY")
    return found.fields


def _start(model):
    """What a run begins with: a published name, a file, or nothing."""
    if model in kd.VARIANTS:
        return model if kd.VARIANTS[model].published else None
    return str(pathlib.Path(model).resolve())


def _side(model, size):
    """The pixels of both sides of a model's images."""
    sides = set(size if isinstance(size, (list, tuple)) else [size])
    if len(sides) > 1:
        raise kd.UserError(
            f"{model} is of {size[0]}x{size[1]} pixels: expected --set=image_size=, of both sides"
        )
    return sides.pop()


def _note(task, model):
    score = task.score(model)
    parts = [task.title + (f", published {100 * score:.1f} (Table 7)" if score else "")]
    parts += [f"the authors': {', '.join(task.said)}"] * bool(task.said)
    parts += [f"ours: {', '.join(task.ours)}"] * bool(task.ours)
    return "; ".join([*parts, "the rest as for ImageNet (Table 9)"]) + "."


def finetune(model, task, workdir, overrides=(), data_dir=None, quiet=False):
    """Fine-tunes a model on a task, with new heads and at any resolution, in ``workdir``: a run of
    ``keras_deit.train`` in every respect, that goes on where it ended and prepares its data.

    A ``teacher`` among the overrides that is a published name is fine-tuned on the task first, in
    ``workdir/teacher``.

    Args:
        model: a ``DeiT`` or ``RegNetY``, which is left as it is, or as for ``recipe``.
        task: a ``Task``, or its name.
        workdir: a folder for this run alone.
        overrides: texts "field=value" of the ``Recipe``: "image_size=384", "trainable=heads",
            "train_fraction=0.1", "teacher=regnety_160", "distillation=hard" ...
        data_dir: where TFDS keeps its data sets.
        quiet: whether to print nothing.

    Returns:
        The new model, with the task's class names.

    Raises:
        UserError: as ``train`` does, and for another number of classes than the task's.
    """
    task = find(task) if isinstance(task, str) else task
    workdir = pathlib.Path(workdir)
    if isinstance(model, keras.Model):
        model = _kept(model, workdir / "start.keras")
    row = recipe(task, model, overrides)
    same_file(row.start, workdir)
    finished = (workdir / "last.keras").exists()
    if not finished:
        prepare(row, workdir, data_dir, quiet)
    if row.teacher in kd.VARIANTS:
        if not finished:
            _teach(task, row, workdir / "teacher", data_dir, quiet)
        row = dataclasses.replace(row, teacher=str(workdir / "teacher" / "last.keras"))
    return kd.train(row, workdir, data_dir, quiet)


def prepare(row, workdir, data_dir=None, quiet=False):
    """Prepares a recipe's data where that is not done, and looks at a person's own images, whose
    classes and unreadable files it prints."""
    _begin(row)
    with processes.lost_process_is_reported(workdir), processes.first_process_first():
        if row.dataset.startswith("folder:"):
            if not processes.index():
                folder_check.examine(row, quiet)
        elif not datasets.ready(row.dataset, data_dir):
            if not quiet:
                print(f"Downloading and preparing {row.dataset}", flush=True)
            datasets.prepare(row.dataset, data_dir)


def _begin(row):
    """Meets the other processes and makes the devices, which comes before all else that TensorFlow
    does."""
    strategy = Strategy(row.strategy)
    strategies.scope(row)


def _teach(task, row, workdir, data_dir, quiet):
    """Fine-tunes the row's teacher on the task."""
    shared = {name: getattr(row, name) for name in SHARED}
    teacher = dataclasses.replace(recipe(task, row.teacher), **shared)
    kd.train(teacher, workdir, data_dir, quiet)


def same_file(start, workdir):
    """Raises UserError where a run in a workdir began with a file that was another then."""
    if start is None or not pathlib.Path(start).is_file():
        return
    path = pathlib.Path(workdir) / "start.sha256"
    found = sha256(start)
    if path.exists() and path.read_text() != found:
        raise kd.UserError(f"{start} is not what it was when {workdir} was begun: use another")
    if not processes.index():
        atomic_write(path, lambda partial: partial.write_text(found))


def _kept(model, path):
    """The file of a model that is in memory, which a run that goes on finds again."""
    if not isinstance(model, (kd.DeiT, kd.RegNetY)):
        raise kd.UserError(f"{type(model).__name__}: expected a DeiT or RegNetY to fine-tune")
    if not path.exists():
        if not processes.index():
            atomic_write(path, float32_copy(model).save)
    else:
        before = kd.load(path)
        same = type(before) is type(model) and before.fields == model.fields
        pairs = zip(before.get_weights(), model.get_weights(), strict=True) if same else ()
        if not same or not all(np.array_equal(*pair) for pair in pairs):
            raise kd.UserError(f"{path} holds another model: use another workdir")
    return str(path)
