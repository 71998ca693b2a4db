"""Fine-tuning: the recipe of a model on a task, its teacher, and its training run."""

import dataclasses
import pathlib

import keras
import numpy as np

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.distribution import Strategy, processes
from keras_deit.models.base import ImageClassifier
from keras_deit.models.factory import family_names, float32_copy
from keras_deit.utils import logs
from keras_deit.utils.files import atomic_write, atomic_write_text, sha256
from keras_deit.utils.paths import expand_home
from keras_deit.weights import describe
from transfer import folder_check
from transfer.tasks import find

# The fields that a teacher takes from its student's recipe when it is fine-tuned for it: those of
# the data, and of where it runs. All others are the task's own for the teacher.
FIELDS_OF_STUDENT = (
    *("train_split", "validation_split", "train_fraction", "subset", "image_size", "eval_crop"),
    *("max_damaged", "seed", "strategy", "precision"),
)

# A task's settings depend on these fields, so that overrides of them are applied first.
FIRST_OVERRIDES = ("variant", "image_size")

# Constructor fields that a recipe sets anew. They do not identify a file's variant.
FIELDS_OF_RECIPE = ("num_classes", "class_names", "preprocessing", "drop_path", "dropout")


def recipe(task, model, overrides=()):
    """The recipe by which a model is fine-tuned on a task.

    The model gets new heads. Both heads of a distilled model learn the label
    (``distillation=label``) unless there is a teacher; ``distillation=none`` trains their mean, as
    the published code does.

    Args:
        task: a ``Task``.
        model: str or path. A published name, a file, or a row of ``VARIANTS`` without published
            weights, which is trained from random ones.
        overrides: list of str. "field=value" of the ``Recipe``. Default none.

    Returns:
        A ``Recipe``.

    Raises:
        UserError: there is no such model, or an override is wrong.

    Example:
        >>> from transfer import TASKS, recipe
        >>> row = recipe(TASKS["cifar10"], "deit_base_patch16_384", ["epochs=10"])
        >>> row.epochs, row.batch_size, row.image_size
        (10, 512, 384)
    """
    model = expand_home(model)
    base = kd.Recipe("", model if model in kd.VARIANTS else None, start=str(model))

    first = [setting for setting in overrides if _field_of(setting) in FIRST_OVERRIDES]
    asked = kd.override(base, first)
    variant, shape = _variant_and_shape(model, asked.variant)

    # The resolution of the file's positions, unless another is asked for.
    image_size = asked.image_size
    if not any(_field_of(setting) == "image_size" for setting in first):
        image_size = _square_side(model, shape.get("image_size", image_size))

    fields = {
        "note": _note(task, model),
        "variant": variant,
        "start": _start(model),
        "new_heads": True,
        "dataset": task.dataset,
        "classes": task.classes,
        "train_split": task.train_split,
        "validation_split": task.evaluation_split,
        "image_size": image_size,
        "distillation": "label" if shape.get("distilled") else "none",
        **task.settings(shape.get("width"), image_size),
    }
    return kd.override(dataclasses.replace(base, **fields), overrides)


def finetune(model, task, workdir, overrides=(), data_dir=None, quiet=False):
    """Fine-tunes a model on a task, with new heads and at any resolution.

    It is a run of ``keras_deit.train`` in every respect: it resumes the run found in ``workdir``,
    and returns its model if that is finished. The dataset is prepared first if need be.

    A published name as ``teacher`` among the overrides is fine-tuned on the task first, in
    ``workdir/teachers``.

    Args:
        model: an ``ImageClassifier``, which stays as it is; or as for ``recipe``.
        task: a ``Task``, or its name.
        workdir: str or path. A folder for only this run.
        overrides: list of str. "field=value" of the ``Recipe``, such as "image_size=384",
            "trainable=heads", "train_fraction=0.1", "teacher=regnety_160" or "distillation=hard".
            Default none.
        data_dir: str or path. Where TFDS keeps its datasets. Default None, TFDS' own folder.
        quiet: bool. Whether to print nothing. Default False.

    Returns:
        A new ``ImageClassifier``, which has the task's class names.

    Raises:
        UserError: as ``keras_deit.train``, and if the dataset has another number of classes than
            the task.

    Example:
        >>> import tempfile
        >>> import keras_deit as kd
        >>> from transfer import finetune
        >>> folder = tempfile.mkdtemp()
        >>> short = ["epochs=1", "passes=1", "warmup_epochs=0", "run_eagerly=true"]
        >>> model = kd.DeiT(8, 4, width=12, depth=1, heads=2, num_classes=3)
        >>> tuned = finetune(model, "digits_5to9", f"{folder}/run", short, folder, quiet=True)
        >>> tuned.class_names
        ('5', '6', '7', '8', '9')
    """
    workdir = pathlib.Path(expand_home(workdir))
    task = find(task) if isinstance(task, str) else task

    with logs.quiet(quiet):
        if isinstance(model, keras.Model):
            model = _save_start(model, workdir / "start.keras")
        return finetune_recipe(task, recipe(task, model, overrides), workdir, data_dir)


def finetune_recipe(task, task_recipe, workdir, data_dir=None):
    """``finetune`` with a recipe that ``recipe`` made. Returns the new model."""
    Strategy(task_recipe.strategy)  # first: it meets the other processes and makes the devices
    check_start_file(task_recipe.start, workdir)

    finished = (workdir / "last.keras").exists()
    if not finished:
        prepare(task_recipe, workdir, data_dir)

    if not task_recipe.targets:
        folder = workdir / "teachers"
        task_recipe = with_finetuned_teachers(task, task_recipe, folder, data_dir, finished)
    return kd.train(task_recipe, workdir, data_dir)


def prepare(task_recipe, workdir, data_dir=None):
    """Prepares the dataset of a recipe unless it is prepared. A user's own images are checked, and
    their classes and unreadable files printed."""
    with processes.lost_process_is_reported(workdir), processes.first_process_first():
        if task_recipe.dataset.startswith("folder:"):
            if not processes.index():
                folder_check.examine(task_recipe)
        elif not datasets.ready(task_recipe.dataset, data_dir):
            logs.info(f"Downloading and preparing {task_recipe.dataset}")
            datasets.prepare(task_recipe.dataset, data_dir)


def check_start_file(start, workdir):
    """Raises UserError if a run in ``workdir`` began with another content of the file ``start``."""
    if start is None or not pathlib.Path(start).is_file():
        return

    path = pathlib.Path(workdir) / "start.sha256"
    digest = sha256(start)
    if path.exists() and path.read_text() != digest:
        raise kd.UserError(f"{start} has changed since the run in {workdir} began: choose another")

    if not processes.index():
        atomic_write_text(path, digest)


def _field_of(setting):
    return setting.partition("=")[0]


def _variant_and_shape(model, variant):
    """A model's variant and fields, without loading it: its row of ``VARIANTS``, or None, and its
    fields."""
    if model in kd.VARIANTS:
        return variant, dataclasses.asdict(kd.VARIANTS[model])

    description = describe(model, variant)
    return variant or _matching_variant(description), description.fields


def _matching_variant(description):
    """The first row of ``VARIANTS`` that describes the same model, but for the fields that a recipe
    sets; None if there is none.

    The image size has to match as well: it is the one that the file's position embedding is for.
    """

    def architecture(described):
        fields = described.fields.items()
        return described.kind, {key: value for key, value in fields if key not in FIELDS_OF_RECIPE}

    for variant in kd.VARIANTS:
        if architecture(describe(variant)) == architecture(description):
            return variant
    return None


def _start(model):
    """What a run starts from: a published name, a file's absolute path, or None."""
    if model in kd.VARIANTS:
        return model if kd.VARIANTS[model].published else None
    return str(pathlib.Path(model).resolve())


def _square_side(model, image_size):
    """The pixels of both sides of a model's images. Raises UserError if the sides differ."""
    if isinstance(image_size, int):
        return image_size

    height, width = image_size
    if height != width:
        raise kd.UserError(
            f"{model} takes images of {height}x{width} pixels: expected --set=image_size=<pixels>,"
            " of both sides"
        )
    return height


def _note(task, model):
    """The note of a recipe: the task, its published score, and where its settings come from."""
    score = task.published_score(model)
    parts = [task.title + (f", published {100 * score:.1f} (Table 7)" if score else "")]

    if task.published_settings:
        parts.append(f"published settings: {', '.join(task.published_settings)}")
    if task.our_settings:
        parts.append(f"our settings: {', '.join(task.our_settings)}")

    return "; ".join([*parts, "the rest as for ImageNet (Table 9)"]) + "."


def with_finetuned_teachers(task, student_recipe, folder, data_dir, finished=False):
    """The recipe with its published teachers fine-tuned on the task, each in a folder of its name.

    A teacher must know the task's classes, which a published one does not. A file is used as it
    is, and ``keras_deit.train`` trains a teacher that is a recipe.
    """
    shared = {name: getattr(student_recipe, name) for name in FIELDS_OF_STUDENT}
    teachers = []
    for name in student_recipe.teacher:
        if name not in kd.VARIANTS:
            teachers.append(name)
            continue
        workdir = folder / name
        if not finished:
            kd.train(dataclasses.replace(recipe(task, name), **shared), workdir, data_dir)
        teachers.append(str(workdir / "last.keras"))
    return dataclasses.replace(student_recipe, teacher=tuple(teachers))


def _save_start(model, path):
    """Saves a model that is in memory, so that a resumed run finds it. Returns the file's name.

    Raises:
        UserError: the file is there, and holds another model.
    """
    if not isinstance(model, ImageClassifier):
        raise kd.UserError(f"{type(model).__name__}: expected a {family_names()} to fine-tune")

    if not path.exists():
        if not processes.index():
            atomic_write(path, float32_copy(model).save)
    elif not _same_model(kd.load(path), model):
        raise kd.UserError(f"{path} holds another model: choose another workdir")

    return str(path)


def _same_model(model, other):
    if type(model) is not type(other) or model.fields != other.fields:
        return False

    pairs = zip(model.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(*pair) for pair in pairs)
