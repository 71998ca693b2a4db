"""One training run: the one place that joins recipe, data, model, teacher and optimizer to fit."""

import dataclasses
import pathlib

import keras

from keras_deit import data
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import VARIANTS
from keras_deit.data.pipeline import user_errors
from keras_deit.distribution import processes, strategies
from keras_deit.evaluation.scores import evaluate
from keras_deit.models.factory import float32_copy
from keras_deit.training import report
from keras_deit.training.callbacks import Journal, Progress
from keras_deit.training.from_recipe import compile_for, fetch, model_for, precision
from keras_deit.training.plans import make_plan
from keras_deit.training.signals import Stop
from keras_deit.training.workdir import opened
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_json
from keras_deit.weights import load


def train(recipe, workdir, data_dir=None, quiet=False):
    """Trains ``recipe`` in ``workdir``, goes on with what was begun there, or gives back the model
    where that is done already.

    However a run ended, the same call goes on from its last checkpoint, and its weights, scores and
    report are those of a run that never ended.

    The folder then holds ``plan.json`` (the recipe, what came of it, versions), ``metrics.csv``
    (a row per epoch), ``tensorboard/``, ``checkpoints/``, ``best.keras`` (by validation accuracy),
    ``last.keras``, ``average.keras`` (where the recipe keeps one), ``scores.json`` (theirs, by
    weights and head), ``report.md`` and ``curves.png``; and, where the teacher is a recipe,
    ``teacher/``, a workdir of its own.

    Args:
        recipe: a ``Recipe``.
        workdir: a folder; it is made, and belongs to this recipe and this process, or those that
            train together, alone.
        data_dir: where TFDS keeps its data sets; None is TFDS' own default.
        quiet: whether to keep the plan, Keras' progress bar and the scores to itself.

    Returns:
        The trained model as ``last.keras`` holds it.

    Raises:
        UserError: whatever the recipe, its data, its teacher or the folder make impossible, and a
            loss that is no number any more.
        Interrupted: SIGTERM or Ctrl-C came; the run is saved.
        ProcessLost: another of the processes ended.
    """
    strategies.join(recipe)
    scope = strategies.scope(recipe)  # of teacher and student; before TensorFlow does anything
    with processes.noticed(workdir), opened(workdir, recipe) as workdir:
        last = workdir / "last.keras"
        if last.exists():
            _say(quiet, f"{workdir} is finished: {last}")
            return load(last)
        teacher = _teacher(recipe, workdir, data_dir, quiet)
        with processes.first_alone():  # nothing but a download: models are made by all together
            fetch(recipe)
        with scope:
            return _train(recipe, workdir, data_dir, teacher, quiet)


def _train(recipe, workdir, data_dir, teacher, quiet):
    process = processes.index(), processes.count()
    with processes.first_alone():  # it prepares what is not prepared
        training = data.train(recipe, data_dir, process=process)
        validation = data.evaluation(recipe, data_dir, process=process)
    check_classes(training, validation, recipe)
    keras.utils.set_random_seed(recipe.seed)  # processes must draw the same
    with precision(recipe):
        teacher = teacher and load(teacher)
        keras.utils.set_random_seed(recipe.seed)
        model = model_for(recipe, training.class_names)
    planned, recipe = recipe, _as_it_is(recipe, training)
    compile_for(model, recipe, teacher, training.steps)
    plan = make_plan(planned, recipe, model, training, validation)
    writes = not processes.index()
    if writes:
        atomic_write_json(workdir / "plan.json", plan)
    _say(quiet, "\n".join(f"{name:>15}  {value}" for name, value in plan["run"].items()))
    with Stop() as stop:
        journal = Journal(recipe, workdir, validation, training.steps, planned, stop)
        journal.attach(model)
        if journal.epoch or journal.step:
            _say(quiet, f"Goes on in epoch {journal.epoch + 1}, after step {journal.step}")
        while journal.epoch < recipe.epochs:
            epoch, step = journal.epoch, journal.step
            if epoch or step:
                training = data.train(planned, data_dir, epoch, step, process=process)
            progress = Progress(recipe.epochs, training.steps, step)
            with user_errors(training):
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
                atomic_write(workdir / "average.keras", average.save)
            scores["average"] = evaluate(journal.averaged, validation, each=journal.pause)
    damaged = len(training.info.unreadable) + len(validation.info.unreadable)
    damaged = int(processes.each(damaged).sum())
    plan["run"]["damaged"] = f"{damaged} images were left out"
    final = float32_copy(model)
    if writes:
        report.write(workdir, recipe, plan, journal.rows, scores, journal.elapsed())
        atomic_write_json(workdir / "scores.json", _plain(scores))
        atomic_write(workdir / "last.keras", final.save)
    processes.wait()
    text = ", ".join(f"{head} {of.top1:.2%}" for head, of in scores["last"].items() if of)
    _say(quiet, f"{recipe.dataset} {recipe.validation_split}: {text}; {workdir / 'report.md'}")
    return final


def _as_it_is(recipe, training):
    """The recipe with the batch that there really is: no larger than the data."""
    if training.info.batch_size == recipe.batch_size:
        return recipe
    return dataclasses.replace(recipe, batch_size=training.info.batch_size, mix_group=0)


def _plain(scores):
    return {
        weights: {head: of and dataclasses.asdict(of) for head, of in heads.items()}
        for weights, heads in scores.items()
    }


def check_classes(training, validation, recipe):
    """Raises UserError where the parts of a recipe's data, batches or data sets, have not the same
    classes, or not as many as it says."""
    if recipe.classes and training.num_classes != recipe.classes:
        raise UserError(
            f"{recipe.dataset} has {training.num_classes} classes: expected {recipe.classes}; is it"
            " another data set, or another version of it?"
        )
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


def _teacher(recipe, workdir, data_dir, quiet):
    """The name or file of the recipe's teacher, trained now where it is a recipe itself."""
    if recipe.teacher is None:
        return None
    if recipe.teacher in RECIPES:
        row = dataclasses.replace(RECIPES[recipe.teacher], strategy=recipe.strategy)
        try:
            train(row, workdir / "teacher", data_dir, quiet)
        except UserError as error:
            if error.code != UserError.code:  # a run that can go on
                raise
            raise UserError(
                f"teacher {recipe.teacher}: {error}; or train it by itself and give its file,"
                " --set=teacher="
            ) from error
        return workdir / "teacher" / "last.keras"
    if recipe.teacher not in VARIANTS and not pathlib.Path(recipe.teacher).exists():
        known = ", ".join(name for name, row in RECIPES.items() if row.teacher is None)
        raise UserError(
            f"teacher {recipe.teacher!r}: expected a published model, a checkpoint file, or a"
            f" recipe: {known}"
        )
    return recipe.teacher
