"""One training run: the one place that joins recipe, data, model, teacher and optimizer to fit."""

import dataclasses
import json
import math
import pathlib
import platform
from importlib import metadata

import keras

from keras_deit import data
from keras_deit.checkpoints import load
from keras_deit.data.batches import plain_failures
from keras_deit.distillation import Distillation
from keras_deit.errors import UserError
from keras_deit.evaluation import evaluate
from keras_deit.factory import build
from keras_deit.files import bare, write, write_json
from keras_deit.optimization import learning_rate, loss, optimizer
from keras_deit.recipes import RECIPES
from keras_deit.variants import VARIANTS, DeiTVariant

JIT = {"auto": "auto", "true": True, "false": False}


def train(recipe, workdir, data_dir=None, quiet=False):
    """Trains ``recipe`` in ``workdir``, or gives back the model where that is done already.

    The folder then holds ``plan.json`` (the recipe, what came of it, versions), ``metrics.csv``
    (a row per epoch), ``best.keras`` (by validation accuracy) and ``last.keras``; and, where the
    teacher is a recipe, ``teacher/``, a workdir of its own.

    Args:
        recipe: a ``Recipe``.
        workdir: a folder; it is made, and belongs to this recipe alone.
        data_dir: where TFDS keeps its data sets; None is TFDS' own default.
        quiet: whether to keep the plan, Keras' progress bar and the scores to itself.

    Returns:
        The trained model as ``last.keras`` holds it.

    Raises:
        UserError: whatever the recipe, its data, its teacher or the folder make impossible.
    """
    workdir = _open(workdir, recipe)
    if (workdir / "last.keras").exists():
        if not quiet:
            print(f"{workdir} is finished: {workdir / 'last.keras'}")
        return load(workdir / "last.keras")
    teacher = _teacher(recipe, workdir, data_dir, quiet)
    training, validation = data.train(recipe, data_dir), data.evaluation(recipe, data_dir)
    keras.utils.set_random_seed(recipe.seed)
    model = _model(recipe, training)
    _compile(model, recipe, teacher, training.steps)
    plan = _plan(recipe, model, training, validation)
    write_json(workdir / "plan.json", plan)
    if not quiet:
        print("\n".join(f"{name:>15}  {value}" for name, value in plan["run"].items()), flush=True)
    finite = _Finite()
    with plain_failures(training), plain_failures(validation):
        model.fit(
            training,
            validation_data=validation,
            epochs=recipe.epochs,
            shuffle=False,  # the data comes in its own order; Keras would warn that it leaves it so
            verbose=0 if quiet else 1,
            callbacks=[
                keras.callbacks.CSVLogger(workdir / "metrics.csv"),
                _Best(workdir / "best.keras"),
                finite,
            ],
        )
    if finite.where:
        raise UserError(
            f"the loss is {finite.where}: try a lower lr or a longer warm-up, in another workdir"
        )
    write(workdir / "last.keras", bare(model).save)
    if not quiet:
        _print_scores(evaluate(model, validation), f"{recipe.dataset} {recipe.validation_split}")
    return model


def _open(workdir, recipe):
    workdir = pathlib.Path(workdir)
    if workdir.exists() and not workdir.is_dir():
        raise UserError(f"workdir {workdir} is a file: expected a folder, which is made if need be")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / ".writable").touch()
        (workdir / ".writable").unlink()
        plan = workdir / "plan.json"
        before = json.loads(plan.read_text())["recipe"] if plan.exists() else None
    except OSError as error:
        raise UserError(f"workdir {workdir}: expected a folder to write in: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{plan} is not a plan of ours: use another workdir") from error
    now = json.loads(json.dumps(dataclasses.asdict(recipe)))
    if before is not None and before != now:
        names = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        changes = ", ".join(f"{name} {before.get(name)!r} -> {now.get(name)!r}" for name in names)
        raise UserError(f"workdir {workdir} belongs to another recipe ({changes}): use another")
    return workdir


def _teacher(recipe, workdir, data_dir, quiet):
    if recipe.teacher is None:
        return None
    if recipe.teacher in RECIPES:
        return train(RECIPES[recipe.teacher], workdir / "teacher", data_dir, quiet)
    if recipe.teacher not in VARIANTS and not pathlib.Path(recipe.teacher).exists():
        known = ", ".join(name for name, row in RECIPES.items() if row.teacher is None)
        raise UserError(
            f"teacher {recipe.teacher!r}: expected a published model, a checkpoint file, or a"
            f" recipe: {known}"
        )
    return load(recipe.teacher)


def _model(recipe, training):
    if recipe.variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise UserError(f"unknown variant {recipe.variant!r}: expected one of {known}")
    fields, size = {"num_classes": training.num_classes}, training.element_spec[0].shape[1:3]
    if isinstance(VARIANTS[recipe.variant], DeiTVariant):
        fields["drop_path"] = recipe.drop_path
        side = VARIANTS[recipe.variant].image_size
        if tuple(size) != (side, side):
            raise UserError(
                f"{recipe.variant} takes images of {side}x{side} pixels and those of"
                f" {recipe.dataset} are {size[0]}x{size[1]}: expected a variant of that size"
            )
    elif recipe.distillation != "none":
        raise UserError(f"{recipe.variant} has no distillation token: expected a distilled DeiT")
    return build(recipe.variant, **fields)


def _compile(model, recipe, teacher, steps):
    objective = {}
    if teacher is not None:
        kind, alpha, tau = recipe.distillation, recipe.alpha, recipe.tau
        objective["distillation"] = Distillation(teacher, kind, alpha, tau, recipe.reduction)
    model.compile(
        optimizer(recipe, steps),
        loss(recipe),
        # An object, not "accuracy": whatever makes variables in the first step traces it twice.
        metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        run_eagerly=recipe.run_eagerly,
        jit_compile=JIT[recipe.jit_compile],
        **objective,
    )
    model.optimizer.build(model.trainable_variables)


def _plan(recipe, model, training, validation):
    size = "x".join(map(str, training.element_spec[0].shape[1:3]))
    warmup = f"warm-up {recipe.warmup_epochs:g} epochs from {recipe.warmup_lr:g}"
    if recipe.warmup_epochs >= recipe.epochs:
        warmup += " (as long as the run: it ends below the peak)"
    teach = f"{recipe.distillation}, alpha {recipe.alpha:g}, tau {recipe.tau:g}, {recipe.teacher}"
    run = {
        "model": f"{recipe.variant}, {model.count_params():,} parameters, {size} pixels",
        "data": f"{recipe.dataset}: {training.images:,} training and {validation.images:,}"
        f" validation images, {training.num_classes} classes",
        "batch": f"{training.batch_size} on 1 device",
        "steps": f"{training.steps} x {recipe.epochs} epochs ({recipe.passes} passes each)",
        "learning rate": f"{recipe.lr:g} at 512 images, {learning_rate(recipe):g} at"
        f" {recipe.batch_size}; {warmup}, cosine to {recipe.min_lr:g}",
        "weight decay": f"{recipe.weight_decay:g}, none on {', '.join(recipe.no_decay)}",
        "teacher": "none" if recipe.teacher is None else teach,
        "precision": keras.config.dtype_policy().name,
        "XLA": "on" if model.jit_compile else "off",
    }
    versions = {name: metadata.version(name) for name in ("keras", "tensorflow", "numpy")}
    versions["python"] = platform.python_version()
    return {"recipe": dataclasses.asdict(recipe), "run": run, "versions": versions}


def _print_scores(scores, where):
    text = ", ".join(f"{head} {of.top1:.2%}" for head, of in scores.items() if of is not None)
    print(f"{where}: {text}")


class _Best(keras.callbacks.Callback):
    """Keeps the model of the epoch with the highest validation accuracy."""

    def __init__(self, path):
        super().__init__()
        self.path, self.best, self.copy = path, -1.0, None

    def on_epoch_end(self, epoch, logs=None):
        if logs["val_accuracy"] > self.best and math.isfinite(logs["loss"]):
            self.best = logs["val_accuracy"]
            self.copy = self.copy or bare(self.model)
            self.copy.set_weights(self.model.get_weights())
            write(self.path, self.copy.save)


class _Finite(keras.callbacks.Callback):
    """Stops a run whose loss is no number any more; ``where`` then says where that was."""

    where = None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_end(self, batch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.where = f"{logs['loss']} in epoch {self.epoch + 1}, step {batch + 1}"
            self.model.stop_training = True
