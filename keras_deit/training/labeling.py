"""Labeling: a teacher's targets of every view that a recipe shows, computed once and stored."""

import contextlib
import hashlib
import pathlib
import time
from dataclasses import dataclass, replace

import numpy as np

from keras_deit import data
from keras_deit.configs.recipe import Recipe
from keras_deit.data import targets
from keras_deit.data.pipeline import user_errors
from keras_deit.data.samples import Samples
from keras_deit.data.stored_targets import check_views, describe_views, identify_teachers
from keras_deit.distribution import Strategy
from keras_deit.evaluation.inference import predictor
from keras_deit.training import from_recipe
from keras_deit.training.run import effective_recipe, train_teachers
from keras_deit.utils import logs
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import (
    PARTIAL,
    locked,
    sha256,
    try_locked,
)
from keras_deit.utils.paths import expand_home
from keras_deit.utils.progress import progress_bar
from keras_deit.utils.version import VERSION

TOP_K = 16
SAVE_SECONDS = 60.0  # between writes of an unfinished epoch: so much work a kill costs


def label(recipe, output, data_dir=None, top_k=TOP_K, quiet=False):
    """Stores a teacher's targets of every view that a recipe will show, for ``targets=<output>``.

    The recipe's teachers see exactly the batches of its training, mixing included. Hard targets
    are 2 bytes per view: the decision. Soft ones are the ``top_k`` largest log-probabilities, in
    float16, and what is left.

    However a call ended, the same call resumes it, and the files are those of an uninterrupted
    one. Several processes, on one machine or on several that see the folder, may label into the
    same ``output``: each takes an epoch that no other has. All devices of a process share its
    batches.

    ``output`` then holds ``targets.json`` and a file per epoch, see
    ``keras_deit/data/targets.py``; and, for teachers that are recipes, their workdirs.

    Args:
        recipe: a ``Recipe`` with teachers, whose ``distillation`` is "hard" or "soft". Soft targets
            serve hard distillation too. It labels ``target_epochs`` epochs, or all ``epochs``.
        output: str or path. A folder for the targets of this recipe.
        data_dir: str or path. Where TFDS keeps its datasets. Default None, TFDS' own folder.
        top_k: int. How many probabilities are kept of soft targets. Default 16.
        quiet: bool. Whether to print nothing. Default False.

    Returns:
        bool. Whether all epochs are there: others may be at work in other processes.

    Raises:
        UserError: the recipe has no teacher; the teacher cannot be loaded or trained; or the folder
            holds targets of other views or another teacher.

    Example:
        >>> import tempfile
        >>> import keras_deit as kd
        >>> folder = tempfile.mkdtemp()
        >>> short = ["epochs=1", "passes=1", "warmup_epochs=0"]
        >>> teacher = kd.build("regnety_digits", num_classes=10)
        >>> teacher.save(f"{folder}/teacher.keras")
        >>> recipe = kd.override(
        ...     kd.RECIPES["digits_hard"], [*short, f"teacher={folder}/teacher.keras"]
        ... )
        >>> kd.label(recipe, f"{folder}/targets", folder, quiet=True)
        True
        >>> recipe = kd.override(recipe, [f"targets={folder}/targets"])
        >>> student = kd.train(recipe, f"{folder}/run", folder, quiet=True)
    """
    with logs.quiet(quiet):
        if not recipe.teacher or recipe.distillation not in ("hard", "soft"):
            raise UserError(
                f"teacher={','.join(recipe.teacher) or 'none'} with"
                f" distillation={recipe.distillation}: expected a recipe with a teacher to label"
            )
        if not isinstance(top_k, int) or top_k < 1:
            raise UserError(f"top_k {top_k!r}: expected an integer of 1 or more")

        if not str(output):
            raise UserError("an empty output: expected the name of a folder")

        strategy = Strategy(recipe.strategy)
        folder = pathlib.Path(expand_home(output))
        recipe = replace(recipe, targets=None)
        from_recipe.check(recipe)

        # Other processes wait here, and find the teachers trained.
        with locked(folder / ".teachers.lock"):
            teachers = train_teachers(recipe, folder, data_dir)
            from_recipe.fetch(recipe)

        with strategy.scope():
            return _Labeling(recipe, folder, data_dir, top_k, teachers).run()


@dataclass(frozen=True)
class _Labeling:
    """What each step of labeling needs to know."""

    recipe: Recipe
    folder: pathlib.Path
    data_dir: str | None
    top_k: int
    teachers: list[str]

    @property
    def epochs(self):
        return self.recipe.target_epochs or self.recipe.epochs

    def run(self):
        """Labels the epochs that are missing and that no other process labels."""
        preprocessing = from_recipe.preprocessing(self.recipe)
        samples = Samples(self.recipe, self.data_dir, preprocessing)
        batches = self._batches(0, 0)
        effective = effective_recipe(self.recipe, batches.info)

        # The student too: it is compiled, which checks that its teachers fit it.
        model = from_recipe.build(
            effective, batches.class_names, batches.steps, teachers=self.teachers
        )
        self._begin(samples, model)
        self._print_plan(batches)

        predict = predictor(
            model,
            lambda images: [model.distillation.target(images, None)],
            variables=model.distillation.variables,
            jit_compile=bool(model.jit_compile),
        )

        done = self._finished()
        views = batches.steps * batches.info.batch_size
        progress = _Progress(self.epochs * views, len(done) * views)
        for epoch in range(self.epochs):
            with self._claim(epoch) as is_ours:
                if is_ours:
                    self._label_epoch(epoch, batches.info, predict, progress)

        missing = self.epochs - len(self._finished())
        if missing:
            logs.info(f"{missing} of {self.epochs} epochs are being labeled by other processes")
        else:
            files = [targets.epoch_file(self.folder, epoch) for epoch in range(self.epochs)]
            kilobytes = sum(file.stat().st_size for file in files) / self.epochs / 1e3
            logs.info(
                f"{self.folder}: targets of {self.epochs} epochs, {kilobytes:,.1f} kB each: train"
                f" with --set=targets={self.folder}"
            )
        return not missing

    def _begin(self, samples, model):
        """Writes the description, or checks the one that is there."""
        num_classes = samples.dataset.num_classes
        is_soft = self.recipe.distillation == "soft"
        entries = identify_teachers(self.recipe.teacher)
        digests = map(_weights_sha256, model.distillation.teachers)
        description = {
            "format": targets.FORMAT,
            "version": VERSION,
            "kind": self.recipe.distillation,
            "top_k": min(self.top_k, num_classes) if is_soft else None,
            "epochs": self.epochs,
            "precision": self.recipe.precision,
            "teachers": [
                {**entry, "weights": digest} for entry, digest in zip(entries, digests, strict=True)
            ],
            "views": describe_views(samples),
            "files": {},
        }

        with self._locked():
            stored = targets.read_description(self.folder)
            if stored is None:
                targets.write_description(self.folder, description)
                return

        check_views(self.folder, stored["views"], description["views"])
        for name in ("kind", "top_k", "epochs", "precision"):
            if stored[name] != description[name]:
                raise UserError(
                    f"{self.folder} holds targets of another recipe ({name} {stored[name]!r} ->"
                    f" {description[name]!r}): choose another folder"
                )
        # By their weights: a file may be another one of the same name.
        before, now = ([x["weights"] for x in d["teachers"]] for d in (stored, description))
        if before != now:
            raise UserError(
                f"{self.folder} holds targets of other teachers, or other weights of them: choose"
                " another folder"
            )
        self._drop_changed_files(stored["files"])

    def _drop_changed_files(self, files):
        """Removes finished epochs that were changed, which are then labeled again."""
        for epoch, digest in files.items():
            path = targets.epoch_file(self.folder, int(epoch))
            if path.is_file() and sha256(path) != digest:
                logs.info(f"{path} was changed after it was written: it is labeled again")
                path.unlink()

    def _print_plan(self, batches):
        kept = "its decision"
        if self.recipe.distillation == "soft":
            kept = f"its {min(self.top_k, batches.num_classes)} largest log-probabilities"
        views = batches.steps * batches.info.batch_size
        logs.info(
            f"Labeling {self.epochs} epochs of {views:,} views of {self.recipe.dataset} by"
            f" {' and '.join(self.recipe.teacher)}, of each {kept}, into {self.folder}"
        )

    def _batches(self, epoch, step):
        return data.train(
            self.recipe,
            self.data_dir,
            epoch,
            step,
            preprocessing=from_recipe.preprocessing(self.recipe),
        )

    def _label_epoch(self, epoch, info, predict, progress):
        """Labels an epoch, from where a process that was killed left it."""
        for partial in self.folder.glob(f"{PARTIAL}*-epoch-{epoch:04}.*"):
            partial.unlink(missing_ok=True)

        unfinished = self.folder / f"epoch-{epoch:04}.unfinished.safetensors"
        description = targets.read_description(self.folder)
        steps = targets.read_steps(unfinished, description)
        progress.resume(len(steps) * info.batch_size)

        last_save = time.monotonic()
        if len(steps) < info.steps:
            batches = self._batches(epoch, len(steps))
            with user_errors(batches):
                for images, _ in batches.take(info.steps - len(steps)):
                    (logits,) = predict(images.numpy())
                    steps.append(targets.encode(logits, self.recipe.distillation, self.top_k))
                    progress.add(info.batch_size)

                    if time.monotonic() - last_save > SAVE_SECONDS:
                        targets.write_steps(unfinished, steps, description)
                        last_save = time.monotonic()

        path = targets.epoch_file(self.folder, epoch)
        targets.write_steps(path, steps)
        with self._locked():
            description = targets.read_description(self.folder)
            files = {**description["files"], str(epoch): sha256(path)}
            files = dict(sorted(files.items(), key=lambda item: int(item[0])))
            targets.write_description(self.folder, {**description, "files": files})
        unfinished.unlink(missing_ok=True)

    def _finished(self):
        """The epochs that are labeled, as a set."""
        files = targets.read_description(self.folder)["files"]
        return {
            epoch
            for epoch in range(self.epochs)
            if str(epoch) in files and targets.epoch_file(self.folder, epoch).is_file()
        }

    @contextlib.contextmanager
    def _claim(self, epoch):
        """Whether an epoch is missing, and no other process labels it; none does within."""
        lock = self.folder / f".epoch-{epoch:04}.lock"
        if epoch in self._finished():
            lock.unlink(missing_ok=True)
            yield False
            return
        with try_locked(lock) as is_ours:
            # Another process may have finished it meanwhile.
            yield is_ours and epoch not in self._finished()

    def _locked(self):
        return locked(self.folder / ".targets.lock")


class _Progress:
    """The images that are labeled, and how many per second.

    Args:
        total: int.
        done: int. Those that were labeled earlier.
    """

    def __init__(self, total, done):
        self._bar = progress_bar(total, "image", done=done)
        self._done = self._before = done
        self._start = time.monotonic()
        self._bar.update(done)

    def resume(self, images):
        """Adds images that were labeled earlier."""
        self._before += images
        self._done += images

    def add(self, images):
        """Adds images that have just been labeled."""
        self._done += images
        rate = (self._done - self._before) / (time.monotonic() - self._start)
        self._bar.update(self._done, [("images/s", rate)])


def _weights_sha256(model):
    """The SHA-256 of a model's weights, in their order."""
    digest = hashlib.sha256()
    for variable in model.weights:
        digest.update(np.ascontiguousarray(variable, dtype=np.float32).tobytes())
    return digest.hexdigest()
