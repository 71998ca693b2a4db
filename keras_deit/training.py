"""One training run: the one place that joins recipe, data, model, teacher and optimizer to fit."""

import contextlib
import dataclasses
import pathlib

import keras

from keras_deit import data, processes, replicas, reports, strategies
from keras_deit.checkpoints import load
from keras_deit.data.batches import plain_failures
from keras_deit.distillation import Distillation
from keras_deit.errors import UserError
from keras_deit.evaluation import evaluate
from keras_deit.factory import build
from keras_deit.files import bare, write, write_json
from keras_deit.journal import Journal, Progress
from keras_deit.model import DeiT
from keras_deit.optimization import loss, optimizer
from keras_deit.plans import make_plan
from keras_deit.recipes import RECIPES
from keras_deit.variants import VARIANTS, DeiTVariant
from keras_deit.workdirs import opened

LARGE = 1_000_000  # parameters, from which on XLA is worth its compilation on a CPU too


def train(recipe, workdir, data_dir=None, quiet=False):
    """Trains ``recipe`` in ``workdir``, goes on with what was begun there, or gives back the model
    where that is done already.

    However a run ended, the same call goes on from its last checkpoint, and its weights, scores and
    report are those of a run that never ended.

    The folder then holds ``plan.json`` (the recipe, what came of it, versions), ``metrics.csv``
    (a row per epoch), ``tensorboard/``, ``checkpoints/``, ``best.keras`` (by validation accuracy),
    ``last.keras``, ``average.keras`` (where the recipe keeps one), ``report.md`` and
    ``curves.png``; and, where the teacher is a recipe, ``teacher/``, a workdir of its own.

    Args:
        recipe: a ``Recipe``.
        workdir: a folder; it is made, and belongs to this recipe and one process alone.
        data_dir: where TFDS keeps its data sets; None is TFDS' own default.
        quiet: whether to keep the plan, Keras' progress bar and the scores to itself.

    Returns:
        The trained model as ``last.keras`` holds it.

    Raises:
        UserError: whatever the recipe, its data, its teacher or the folder make impossible, and a
            loss that is no number any more.
        Interrupted: SIGTERM or Ctrl-C came; the run is saved.
    """
    strategies.join(recipe)
    with processes.noticed(workdir), opened(workdir, recipe) as workdir:
        last = workdir / "last.keras"
        if last.exists():
            _say(quiet, f"{workdir} is finished: {last}")
            return load(last)
        teacher = _teacher(recipe, workdir, data_dir, quiet)
        with strategies.scope(recipe):  # of teacher and student
            return _train(recipe, workdir, data_dir, teacher, quiet)


def _train(recipe, workdir, data_dir, teacher, quiet):
    process = processes.index(), processes.count()
    with processes.first_alone():  # it prepares what is not prepared
        training = data.train(recipe, data_dir, process=process)
        validation = data.evaluation(recipe, data_dir, process=process)
    _same_classes(training, validation, recipe)
    keras.utils.set_random_seed(recipe.seed)  # processes must draw the same
    with precision(recipe):
        with processes.first_alone():  # it downloads what is published
            teacher = teacher and load(teacher)
        keras.utils.set_random_seed(recipe.seed)
        model = _model(recipe, training)
    planned, recipe = recipe, _as_it_is(recipe, training)
    compile_for(model, recipe, teacher, training.steps)
    plan = make_plan(planned, recipe, model, training, validation)
    writes = not processes.index()
    if writes:
        write_json(workdir / "plan.json", plan)
    _say(quiet, "\n".join(f"{name:>15}  {value}" for name, value in plan["run"].items()))
    with Journal(recipe, workdir, validation, training.steps, planned) as journal:
        journal.attach(model)
        if journal.epoch or journal.step:
            _say(quiet, f"Goes on in epoch {journal.epoch + 1}, after step {journal.step}")
        while journal.epoch < recipe.epochs:
            epoch, step = journal.epoch, journal.step
            if epoch or step:
                training = data.train(planned, data_dir, epoch, step, process=process)
            progress = Progress(recipe.epochs, training.steps, step)
            with plain_failures(training):
                model.fit(
                    strategies.feed(training),
                    # An epoch that was begun elsewhere is shorter than those after it.
                    steps_per_epoch=training.steps - step,
                    epochs=epoch + 1 if step else recipe.epochs,
                    initial_epoch=epoch,
                    shuffle=False,  # the data comes in its own order; Keras would warn otherwise
                    verbose=0,
                    callbacks=[journal, progress] if writes and not quiet else [journal],
                )
        journal.finish()
        scores = {"last": evaluate(journal.predict, validation, each=journal.pause)}
        if recipe.ema:
            average = journal.average()
            if writes:
                write(workdir / "average.keras", average.save)
            scores["average"] = evaluate(journal.averaged, validation, each=journal.pause)
    damaged = int(processes.each(len(training.samples.damaged)).sum())
    plan["run"]["damaged"] = f"{damaged} images were left out"
    final = bare(model)
    if writes:
        reports.write(workdir, recipe, plan, journal.rows, scores, journal.elapsed())
        write(workdir / "last.keras", final.save)
    processes.wait()
    text = ", ".join(f"{head} {of.top1:.2%}" for head, of in scores["last"].items() if of)
    _say(quiet, f"{recipe.dataset} {recipe.validation_split}: {text}; {workdir / 'report.md'}")
    return final


def _as_it_is(recipe, training):
    """The recipe with the batch that there really is: no larger than the data."""
    if training.batch_size == recipe.batch_size:
        return recipe
    return dataclasses.replace(recipe, batch_size=training.batch_size, mix_group=0)


def _same_classes(training, validation, recipe):
    if training.class_names != validation.class_names:
        other = sorted(set(training.class_names) ^ set(validation.class_names))
        names = ", ".join(other[:10]) + ", ..." * (len(other) > 10)
        raise UserError(
            f"{recipe.dataset}: {recipe.train_split} has {training.num_classes} classes and"
            f" {recipe.validation_split} {validation.num_classes}; in one of them alone: {names}"
        )


def _say(quiet, text):
    if not quiet and not processes.index():
        print(text, flush=True)


@contextlib.contextmanager
def precision(recipe):
    """Within it, models are made for the recipe's precision."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(recipe.precision)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _teacher(recipe, workdir, data_dir, quiet):
    """The name or file of the recipe's teacher, trained now where it is a recipe itself."""
    if recipe.teacher is None:
        return None
    if recipe.teacher in RECIPES:
        train(RECIPES[recipe.teacher], workdir / "teacher", data_dir, quiet)
        return workdir / "teacher" / "last.keras"
    if recipe.teacher not in VARIANTS and not pathlib.Path(recipe.teacher).exists():
        known = ", ".join(name for name, row in RECIPES.items() if row.teacher is None)
        raise UserError(
            f"teacher {recipe.teacher!r}: expected a published model, a checkpoint file, or a"
            f" recipe: {known}"
        )
    return recipe.teacher


def _model(recipe, training):
    if recipe.variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise UserError(f"unknown variant {recipe.variant!r}: expected one of {known}")
    fields = {"num_classes": training.num_classes, "image_size": recipe.image_size}
    if isinstance(VARIANTS[recipe.variant], DeiTVariant):
        if recipe.mode == "training":
            fields |= {"drop_path": recipe.drop_path, "dropout": recipe.dropout}
    elif recipe.distillation != "none":
        raise UserError(f"{recipe.variant} has no distillation token: expected a distilled DeiT")
    elif recipe.accumulate > 1:
        raise UserError(f"{recipe.variant} cannot accumulate gradients: expected accumulate=1")
    if recipe.start is None:
        return build(recipe.variant, **fields)
    return load(recipe.start, recipe.variant, **fields)


def compile_for(model, recipe, teacher, steps):
    """Compiles ``model`` for the recipe, with ``teacher`` (a model, or None) and ``steps`` in an
    epoch; whatever a step needs has its variables then."""
    options = {}
    if teacher is not None:
        kind, alpha, tau = recipe.distillation, recipe.alpha, recipe.tau
        options["distillation"] = Distillation(
            teacher, kind, alpha, tau, recipe.reduction, recipe.token
        )
    if recipe.accumulate > 1:
        parts = recipe.accumulate * strategies.devices()
        if recipe.batch_size % parts:
            raise UserError(
                f"batch_size={recipe.batch_size} in {recipe.accumulate} parts on"
                f" {strategies.devices()} devices: expected a multiple of {parts}"
            )
        options["accumulate"] = recipe.accumulate
    model.compile(
        optimizer(recipe, steps),
        loss(recipe),
        # An object, not "accuracy": whatever makes variables in the first step traces it twice.
        weighted_metrics=[keras.metrics.CategoricalAccuracy("accuracy")],
        run_eagerly=recipe.run_eagerly,
        jit_compile=_jit(recipe, model),
        **options,
    )
    model.optimizer.build(model.trainable_variables)
    nothing = keras.ops.zeros((1, model.num_classes))  # has the metrics make their variables
    model.compute_metrics(None, nothing, nothing)
    model.reset_metrics()


def _jit(recipe, model):
    # Replicas of a RegNetY exchange statistics, which XLA cannot compile.
    alone = keras.backend.backend() == "jax" or replicas.count() == 1 or isinstance(model, DeiT)
    if recipe.jit_compile == "true" and not alone:
        raise UserError("jit_compile=true: expected auto for a RegNetY on several replicas")
    if recipe.jit_compile != "auto":
        return recipe.jit_compile == "true"
    if recipe.run_eagerly or not alone:
        return False
    return True if model.count_params() >= LARGE or keras.backend.backend() == "jax" else "auto"
