"""What a run does beside its steps: validate, record, keep the best, save, stop, and go on."""

import csv
import dataclasses
import io
import math
import signal
import time

import keras
import numpy as np

from keras_deit.distribution import processes, replicas
from keras_deit.evaluation.inference import predictor
from keras_deit.evaluation.scores import evaluate
from keras_deit.models.factory import float32_copy
from keras_deit.training.workdir import Checkpoints, restore, same_recipe, state
from keras_deit.utils.errors import Interrupted, UserError
from keras_deit.utils.files import atomic_write

SHARE = 0.05  # of the time, that saving may take


class Journal(keras.callbacks.Callback):
    """Keeps the account of a run in its workdir.

    Attributes:
        rows: a dict for each finished epoch: its losses, scores, learning rate and speed.
        epoch, step: how far the training is.
        seconds: what it has taken, earlier processes included.
    """

    def __init__(self, recipe, workdir, validation, steps, planned, stop):
        super().__init__()
        self.planned = planned
        self.recipe, self.workdir, self.validation, self.steps = recipe, workdir, validation, steps
        self.checkpoints = Checkpoints(workdir / "checkpoints", recipe.keep)
        self.rows, self.pending = [], None  # the row of an epoch that is not validated yet
        self.epoch = self.step = 0
        self.best, self.seconds = -1.0, 0.0
        self.metrics = None  # of an epoch that was begun in another process
        self.started = self.saved = time.monotonic()
        self.cost, self.saved_epoch, self.stop = 0.0, None, stop
        self.writes = not processes.index()

    def attach(self, model):
        """Takes the model; gives it the newest checkpoint's state, where there is one."""
        self.set_model(model)
        self.predict, self.copy = predictor(model), float32_copy(model)
        self.averaged = predictor(self.copy)
        with processes.first_alone():  # it sets aside what is damaged
            found = self.checkpoints.latest()
        if found is None:
            return
        path, arrays, description = found
        same_recipe(self.workdir, description["recipe"], self.planned)
        restore(model, arrays, path)
        self.metrics = [replicas.counted(variable) for variable in model.metrics_variables]
        for name in ("rows", "pending", "epoch", "step", "best", "seconds"):
            setattr(self, name, description[name])
        self.saved_epoch = self.epoch
        self._write_rows()
        if self.pending is not None:
            self._close_epoch()

    # The callbacks, in the order they come.

    def on_epoch_begin(self, epoch, logs=None):
        self.first_step, self.clock = self.step, None
        if self.step:  # Keras has just reset them
            for variable, values in zip(self.model.metrics_variables, self.metrics, strict=True):
                replicas.set_counted(variable, values)

    def on_train_batch_end(self, batch, logs=None):
        self.step = self.first_step + batch + 1
        if not math.isfinite(logs["loss"]):
            self._not_finite(f"the loss is {logs['loss']}", self.epoch, self.step)
        if self.clock is None:
            self.clock, self.begun = time.monotonic(), self.step  # the first step compiles
        else:
            images = (self.step - self.begun) * self.recipe.batch_size
            logs["images/s"] = round(images / (time.monotonic() - self.clock))
        if self.step < self.steps:  # else the epoch's end is near
            self._save_or_stop()

    def on_epoch_end(self, epoch, logs=None):
        images = (self.step - self.begun) * self.recipe.batch_size
        self.pending = {
            "epoch": epoch,
            **logs,
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": images / max(time.monotonic() - self.clock, 1e-9),
        }
        self.epoch, self.step = epoch + 1, 0
        self._save_or_stop()
        self._close_epoch()
        logs.update(self.rows[-1])
        for name in ("epoch", "images_per_second"):
            del logs[name]

    def _close_epoch(self):
        """Validates, records and keeps what is best."""
        row = {**self.pending, **self._validate()}
        if not math.isfinite(row["val_loss"] or 0):
            self._not_finite(f"the validation loss is {row['val_loss']}", row["epoch"], self.steps)
        self.rows.append(row)
        self._write_rows()
        if self.writes:
            self._write_events(row)
        if row["val_accuracy"] > self.best and math.isfinite(row["loss"]):
            self.best = row["val_accuracy"]
            self.copy.set_weights(self.model.get_weights())
            if self.writes:
                atomic_write(self.workdir / "best.keras", self.copy.save)
        self.pending = None

    def _validate(self):
        row = {}
        for name, of in evaluate(self.predict, self.validation, before_batch=self.pause).items():
            if of is not None:
                prefix = "val_" if name == "fused" else f"val_{name}_"
                row[f"{prefix}accuracy"] = of.top1
                row |= {"val_top5": of.top5, "val_loss": of.loss} if name == "fused" else {}
        if self.model.optimizer.use_ema:
            self.average()
            scores = evaluate(self.averaged, self.validation, before_batch=self.pause)
            row["val_ema_accuracy"] = scores["fused"].top1
        return row

    def average(self):
        """A model with the moving average of the weights, which the next call changes."""
        self.copy.set_weights(self.model.get_weights())
        copies = zip(self.model.variables, self.copy.variables, strict=True)
        copies = [copy for variable, copy in copies if variable.trainable]
        for copy, average in zip(copies, self.model.optimizer.averages, strict=True):
            copy.assign(average)
        return self.copy

    # Files.

    def _save_or_stop(self):
        """Saves where it is time, or where a signal asked for the run's end, and then ends it: all
        processes at the same step."""
        due = time.monotonic() - self.saved >= max(
            60 * self.recipe.save_minutes, self.cost * (1 / SHARE - 1)
        )
        asked = processes.each(np.int32([self.stop.number, due]))
        number = asked[:, 0].max()
        if number or asked[0, 1]:
            self._save()
        if number:
            name = signal.Signals(number).name
            raise Interrupted(
                f"stopped by {name} in epoch {self.epoch + 1}, after step {self.step},"
                f" and saved in {self.workdir}: the same command goes on from there",
                number,
            )

    def _save(self):
        start = time.monotonic()
        if hasattr(self.model, "jax_state_sync"):  # JAX's fit has the state to itself
            self.model.jax_state_sync()
        arrays = state(self.model)
        if not all(np.isfinite(array).all() for array in arrays.values()):
            where = (self.epoch, self.step) if self.step else (self.epoch - 1, self.steps)
            self._not_finite("the weights or the optimizer's state are not finite", *where)
        names = ("rows", "pending", "epoch", "step", "best")
        description = {name: getattr(self, name) for name in names}
        description |= {"seconds": self.elapsed(), "recipe": dataclasses.asdict(self.planned)}
        if self.writes:
            self.checkpoints.save(self.epoch * self.steps + self.step, arrays, description)
        self.saved, self.saved_epoch = time.monotonic(), self.epoch
        self.cost = max(self.cost, self.saved - start)

    def elapsed(self):
        """Seconds of training so far, those of earlier processes included."""
        return self.seconds + time.monotonic() - self.started

    def _write_rows(self):
        if not self.rows or not self.writes:
            return
        text = io.StringIO()
        writer = csv.DictWriter(text, self.rows[0], lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.rows)
        atomic_write(self.workdir / "metrics.csv", lambda path: path.write_text(text.getvalue()))

    def _write_events(self, row):
        import tensorboard  # noqa: F401 - TensorFlow's summaries need it
        import tensorflow as tf

        try:
            writer = tf.summary.create_file_writer(str(self.workdir / "tensorboard"))
            with writer.as_default(step=row["epoch"]):
                for name, value in row.items():
                    if value is not None:
                        tf.summary.scalar(name, value)
            writer.close()
        except tf.errors.OpError as error:
            raise UserError(f"cannot write {self.workdir}/tensorboard: {error.message}") from error

    # Ends.

    def _not_finite(self, what, epoch, step):
        found = self.checkpoints.latest()
        last = f"the last good checkpoint is {found[0]}" if found else "there is no checkpoint yet"
        raise UserError(
            f"{what} after epoch {epoch + 1}, step {step}; {last}: in another workdir,"
            " try a lower lr, a longer warmup_epochs, clip_norm=1 or precision=float32;"
            f" show_batch --epoch={epoch} --step={step - 1} draws its batch"
        )

    def finish(self):
        """Saves the end of the training, where it came in this process."""
        if self.saved_epoch != self.epoch:
            self._save()

    def pause(self):
        """Between batches of an evaluation: ends the run, saved, where that was asked for."""
        self._save_or_stop()


class Progress(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, of all the run's epochs and from the step it goes on at."""

    def __init__(self, epochs, steps, first):
        super().__init__()
        self.total, self.first = {"epochs": epochs, "steps": steps}, first

    def set_params(self, params):
        super().set_params({**params, **self.total, "verbose": 1})

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch + self.first, logs)
