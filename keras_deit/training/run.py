"""A training run: a recipe, its data, its teacher and its model, in a workdir."""

import dataclasses
import pathlib
from dataclasses import dataclass

from keras_deit import data
from keras_deit.configs.recipe import Recipe
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import VARIANTS
from keras_deit.data.pipeline import user_errors
from keras_deit.distribution import Strategy, processes
from keras_deit.distribution.strategies import check_batch
from keras_deit.training import from_recipe, report
from keras_deit.training.callbacks import RunCallback
from keras_deit.training.data_identity import check_classes, describe
from keras_deit.training.progress_display import ProgressDisplay
from keras_deit.training.signals import StopRequest
from keras_deit.training.workdir import check_data_of_plan, open_workdir
from keras_deit.utils import logs
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_json
from keras_deit.weights import load


def train(recipe, workdir, data_dir=None, quiet=False, callbacks=()):
    """Trains a recipe in a workdir, or resumes the run found there.

    However a run ended, the same call resumes it from its last checkpoint, and its weights, scores
    and report are those of an uninterrupted run. A finished run is not repeated: its model is
    returned.

    The workdir then holds ``plan.json`` (the recipe, its effective values, versions),
    ``metrics.csv`` (a row per epoch), ``tensorboard/``, ``checkpoints/``, ``best.keras`` (by
    validation accuracy), ``last.keras``, ``average.keras`` (if the recipe has a moving average of
    the weights), ``scores.json`` (by weights and head), ``report.md`` and ``curves.png``; and, if
    the teacher is a recipe, ``teacher/``, its workdir.

    Args:
        recipe: a ``Recipe``.
        workdir: path of a folder. It is created if it is missing, and belongs to this recipe
            and this run.
        data_dir: path of the folder where TFDS keeps its datasets. Default None, TFDS' own default.
        quiet: bool. Whether to print nothing. Default False.
        callbacks: list of ``keras.callbacks.Callback``, such as W&B's ``WandbMetricsLogger``. They
            are called after the run's own, so that an epoch's logs have its validation, and not for
            the teacher. A resumed epoch begins with the step after its last checkpoint.

    Returns:
        The trained model, as ``last.keras`` holds it.

    Raises:
        UserError: the recipe, its data, its teacher or the folder make the run impossible; or its
            loss is not finite.
        Interrupted: SIGTERM or Ctrl-C came, and the run is saved.
        ProcessLost: another of the processes ended.

    Example:
        >>> import tempfile
        >>> import keras_deit as kd
        >>> recipe = kd.override(kd.RECIPES["digits_none"], ["epochs=1", "passes=1"])
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model = kd.train(recipe, f"{folder}/run", data_dir=folder, quiet=True)
        >>> model.class_names
        ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """
    with logs.quiet(quiet):
        # First: it configures the devices, which TensorFlow and JAX allow only before they begin.
        strategy = Strategy(recipe.strategy)

        with (
            processes.lost_process_is_reported(workdir),
            open_workdir(workdir, recipe) as workdir,
        ):
            last = workdir / "last.keras"
            if last.exists():
                logs.info(f"{workdir} is finished: {last}")
                return load(last)
            return _Run(recipe, workdir, data_dir, strategy, tuple(callbacks)).train()


@dataclass(frozen=True)
class _Run:
    """A run in an open workdir: what each of its steps needs to know."""

    recipe: Recipe
    workdir: pathlib.Path
    data_dir: str | None
    strategy: Strategy
    callbacks: tuple

    def train(self):
        """The steps of a run, in the only order that works."""
        # 1. The teachers, separate runs if they are recipes, under the same strategy. They may
        # train for days, so what is wrong with the student's recipe is found before.
        from_recipe.check(self.recipe)
        teachers = train_teachers(self.recipe, self.workdir, self.data_dir)

        # 2. Downloads, by only one process; models are made by all of them together.
        with processes.first_process_first():
            from_recipe.fetch(self.recipe)

        with self.strategy.scope():
            # 3. The data, which tells the classes and the number of steps.
            with processes.first_process_first():  # it prepares what is not prepared
                training = self.training_batches()
                validation = self.validation_batches()
            check_classes(training, validation, self.recipe)

            # Checkpoints count in steps of the data that the run began with.
            data = describe(training.info, validation.info)
            check_data_of_plan(self.workdir, data)
            effective = effective_recipe(self.recipe, training.info)

            # 4. The model, compiled.
            check_batch(effective, self.strategy.device_count)
            model = from_recipe.build(
                effective, training.class_names, training.steps, teachers=teachers
            )

            # 5. The plan, printed before the first step.
            plan = report.make_plan(
                self.recipe, effective, data, model, training, validation, self.strategy
            )
            if not processes.index():
                atomic_write_json(self.workdir / "plan.json", plan)
            logs.info(report.plan_text(plan))

            # 6. Training, then the scores and the report.
            return self.fit(model, effective, plan, training, validation)

    def training_batches(self, epoch=0, step=0):
        """This process' batches from an epoch and a step on."""
        process = processes.index(), processes.count()
        return data.train(
            self.recipe,
            self.data_dir,
            epoch,
            step,
            process=process,
            preprocessing=from_recipe.preprocessing(self.recipe),
        )

    def validation_batches(self):
        """This process' batches of the validation split."""
        process = processes.index(), processes.count()
        return data.evaluation(
            self.recipe,
            self.data_dir,
            process=process,
            preprocessing=from_recipe.preprocessing(self.recipe),
        )

    def fit(self, model, effective, plan, training, validation):
        """Trains to the end, from the last checkpoint if there is one, and scores the final model,
        which is returned."""
        with StopRequest() as stop:
            callback = RunCallback(
                model, self.recipe, plan["data"], self.workdir, validation, training.info, stop
            )
            callback.resume()
            unreadable = self.fit_epochs(model, callback, training)
            callback.save_end()
            scores = self.final_scores(callback.validator, effective)
        return self.finish(effective, plan, callback, scores, unreadable, validation)

    def finish(self, effective, plan, callback, scores, unreadable, validation):
        """Writes the report, the scores and the final model, which is returned."""
        skipped = len(unreadable) + len(validation.info.unreadable)
        skipped = int(processes.gather(skipped).sum())
        plan["run"]["skipped"] = f"{skipped} unreadable images"

        final = callback.validator.current()
        if not processes.index():
            report.write(
                self.workdir,
                effective,
                plan,
                callback.progress.rows,
                scores,
                seconds=callback.elapsed(),
            )
            atomic_write_json(self.workdir / "scores.json", _as_dicts(scores))
            # Last: it marks the run as finished.
            atomic_write(self.workdir / "last.keras", final.save)
        processes.wait()

        accuracies = ", ".join(
            f"{head} {head_scores.top1:.2%}"
            for head, head_scores in scores["last"].items()
            if head_scores
        )
        split = f"{self.recipe.dataset} {self.recipe.validation_split}"
        logs.info(f"{split}: {accuracies}; {self.workdir / 'report.md'}")
        return final

    def fit_epochs(self, model, callback, training):
        """Runs the epochs that are left; returns the unreadable images, a dict of reasons."""
        progress = callback.progress
        unreadable = {}

        def fit(batches, first_step, last_epoch):
            display = ProgressDisplay(self.recipe.epochs, batches.steps, first_step)
            with user_errors(batches):
                model.fit(
                    self.strategy.feed(batches),
                    steps_per_epoch=batches.steps - first_step,
                    initial_epoch=progress.epoch,
                    epochs=last_epoch,
                    shuffle=False,  # the data comes in its own order; Keras would warn otherwise
                    verbose=0,
                    callbacks=[callback, display, *self.callbacks],
                )
            unreadable.update(batches.info.unreadable)

        if progress.epoch or progress.step:
            logs.info(f"Resuming at epoch {progress.epoch + 1}, step {progress.step}")
            training = self.training_batches(progress.epoch, progress.step)

        # The rest of an epoch is shorter than those after it: a separate fit.
        if progress.step:
            fit(training, progress.step, last_epoch=progress.epoch + 1)
            training = self.training_batches(progress.epoch)

        if progress.epoch < self.recipe.epochs:
            fit(training, 0, last_epoch=self.recipe.epochs)
        return unreadable

    def final_scores(self, validator, effective):
        """The scores of the last weights, and of their moving average, which is saved too."""
        scores = {"last": validator.scores()}
        if effective.ema:
            scores["average"] = validator.average_scores()
            if not processes.index():
                atomic_write(self.workdir / "average.keras", validator.copy.save)
        return scores


def train_teachers(recipe, folder, data_dir):
    """Trains those teachers of a recipe that are recipes themselves, or resumes their runs.

    Args:
        recipe: a ``Recipe``. With ``targets`` it needs no teacher.
        folder: ``pathlib.Path``. Where the teachers' workdirs are: ``teacher``; of several
            ``teacher-1``, ``teacher-2``, ...
        data_dir: as for ``train``.

    Returns:
        A list of the names and files of the teachers.

    Raises:
        UserError: one is neither a recipe, a published model nor a file; or cannot be trained.
    """
    names = () if recipe.targets else recipe.teacher
    # What is wrong with the last is found before the first trains.
    for name in names:
        if not (name in RECIPES or name in VARIANTS or pathlib.Path(name).exists()):
            possible = ", ".join(key for key, row in RECIPES.items() if not row.teacher)
            raise UserError(
                f"teacher {name!r}: expected a published model, a checkpoint file, or a recipe:"
                f" {possible}"
            )

    teachers = []
    for number, name in enumerate(names, 1):
        if name not in RECIPES:
            teachers.append(name)
            continue

        workdir = folder / (f"teacher-{number}" if len(names) > 1 else "teacher")
        teacher_recipe = dataclasses.replace(RECIPES[name], strategy=recipe.strategy)
        try:
            train(teacher_recipe, workdir, data_dir)
        except UserError as error:
            if error.code != UserError.code:  # a run that can be resumed
                raise
            raise UserError(
                f"teacher {name}: {error}; or train it separately and give its file,"
                " --set=teacher=<file>"
            ) from error
        teachers.append(str(workdir / "last.keras"))
    return teachers


def effective_recipe(recipe, info):
    """The recipe with the batch size that is used: no larger than the data.

    Args:
        recipe: the ``Recipe`` that was asked for.
        info: ``BatchInfo`` of its training batches.
    """
    if info.batch_size == recipe.batch_size:
        return recipe
    return dataclasses.replace(recipe, batch_size=info.batch_size, mix_group=0)


def _as_dicts(scores):
    return {
        weights: {
            head: head_scores and dataclasses.asdict(head_scores)
            for head, head_scores in heads.items()
        }
        for weights, heads in scores.items()
    }
