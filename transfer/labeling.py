"""A teacher that labels the images of a task once, for all runs of a sweep."""

import dataclasses
import json
import zlib

import keras_deit as kd
from keras_deit.data.samples import VIEW_FIELDS
from keras_deit.training.from_recipe import preprocessing
from transfer.finetuning import FIELDS_OF_STUDENT, prepare, with_finetuned_teachers

# The fields that stored targets depend on, beside the teachers and the normalization.
FIELDS_OF_TARGETS = (
    *("dataset", *VIEW_FIELDS, "batch_size", "mix_group", "upright", "data_seed"),
    *("epochs", "target_epochs", "distillation"),
)


def with_targets(task, task_recipe, folder, data_dir=None):
    """Has the teachers of a recipe label its views, once for all runs that show the same views.

    Published teachers are fine-tuned on the task first, once for all runs with the same data.

    Args:
        task: a ``Task``.
        task_recipe: a ``Recipe`` with teachers that ``recipe`` made, whose views do not depend on
            its seed: it has a ``data_seed``.
        folder: ``pathlib.Path``. Where the runs keep teachers and targets, a folder for each
            kind of views.
        data_dir: as for ``finetune``.

    Returns:
        The ``Recipe`` that trains from the targets.

    Raises:
        UserError: as ``keras_deit.label``.
    """
    prepare(task_recipe, folder, data_dir)
    base = dataclasses.replace(task_recipe, seed=task_recipe.data_seed)
    teachers = folder / "teachers" / _key([getattr(base, name) for name in FIELDS_OF_STUDENT])
    base = with_finetuned_teachers(task, base, teachers, data_dir)

    views = [getattr(base, name) for name in FIELDS_OF_TARGETS]
    targets = folder / "targets" / _key([*views, base.teacher, preprocessing(base)])
    kd.label(base, targets, data_dir)
    return dataclasses.replace(task_recipe, targets=str(targets), teacher=())


def _key(values):
    """A short name for values that JSON can hold, or ``repr`` tells apart."""
    return f"{zlib.crc32(json.dumps(values, default=repr).encode()):08x}"
