"""What a run does beside its steps: validate, record, keep the best model, save, stop, resume."""

import dataclasses
import math
import signal
import time
from dataclasses import dataclass, field

import keras
import numpy as np

from keras_deit.distribution import processes, replicas
from keras_deit.training.checkpoints import Checkpoints, model_state, restore
from keras_deit.training.data_identity import check_same_data
from keras_deit.training.records import write_events, write_metrics
from keras_deit.training.validation import Validator
from keras_deit.training.workdir import check_same_recipe
from keras_deit.utils.errors import Interrupted, UserError
from keras_deit.utils.files import atomic_write
from keras_deit.utils.jax_private import sync_variables

SAVING_FRACTION = 0.05  # of the time, that saving checkpoints may take


@dataclass
class Progress:
    """How far a run is: what a checkpoint holds beside the model's state.

    Attributes:
        epoch: finished epochs.
        step: finished steps of the next epoch.
        rows: a dict for each finished epoch, a row of ``metrics.csv``.
        pending: the row of an epoch that is trained and not validated yet, or None.
        best: the best validation accuracy so far.
        seconds: training time so far, that of earlier processes included.
    """

    epoch: int = 0
    step: int = 0
    rows: list = field(default_factory=list)
    pending: dict | None = None
    best: float = -1.0
    seconds: float = 0.0


class RunCallback(keras.callbacks.Callback):
    """Keeps a run's workdir: its records, its checkpoints, its best model.

    Args:
        model: the compiled model.
        recipe: the ``Recipe`` of the workdir.
        data: what its data is, as ``data_identity.describe`` gives it.
        workdir: ``pathlib.Path``.
        validation: batches of the validation split.
        info: ``BatchInfo`` of the training batches.
        stop: a ``StopRequest``.

    Attributes:
        progress: ``Progress``.
        validator: ``Validator``.
    """

    def __init__(self, model, recipe, data, workdir, validation, info, stop):
        super().__init__()
        self.set_model(model)
        self.recipe = recipe
        self.data = data
        self.workdir = workdir
        self.info = info
        self.stop = stop

        self.progress = Progress()
        self.validator = Validator(model, validation, before_batch=self.save_or_stop)
        self.throughput = Throughput(info.batch_size)
        self.writes = not processes.index()

        self._checkpoints = Checkpoints(workdir / "checkpoints", recipe.keep)
        self._resumed_metrics = None  # of an epoch that an earlier process began
        self._first_step = 0  # of the epoch in this process
        self._begin = time.monotonic()
        self._last_save = time.monotonic()
        self._saving_seconds = 0.0  # the longest so far
        self._saved_epoch = None

    def resume(self):
        """Restores the newest checkpoint, if there is one. An epoch that was trained and not
        validated is validated now, and its model kept if it is the best."""
        with processes.first_process_first():  # it renames corrupt files
            checkpoint = self._checkpoints.latest()
        if checkpoint is None:
            return

        path, arrays, description = checkpoint
        check_same_recipe(self.workdir, description.pop("recipe"), self.recipe)
        check_same_data(self.workdir, description.pop("data"), self.data)
        restore(self.model, arrays, path)
        self.progress = Progress(**description)
        self._saved_epoch = self.progress.epoch
        self._resumed_metrics = [
            replicas.metric_values(variable) for variable in self.model.metrics_variables
        ]

        if self.writes:
            write_metrics(self.progress.rows, self.workdir)
        if self.progress.pending is not None:
            self._finish_epoch()

    def elapsed(self):
        """Seconds of training so far, those of earlier processes included."""
        return self.progress.seconds + time.monotonic() - self._begin

    # Keras calls these, in this order.

    def on_epoch_begin(self, epoch, logs=None):
        self._first_step = self.progress.step
        self.throughput.start()

        # Keras has just reset the metrics of an epoch that an earlier process began.
        if self.progress.step:
            variables = self.model.metrics_variables
            for variable, values in zip(variables, self._resumed_metrics, strict=True):
                replicas.set_metric_values(variable, values)

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step = self._first_step + batch + 1
        if not math.isfinite(logs["loss"]):
            self._fail(f"the loss is {logs['loss']}", self.progress.epoch, self.progress.step)

        rate = self.throughput.rate(self.progress.step)
        if rate is not None:
            logs["images/s"] = round(rate)

        # After the last step on_epoch_end does it.
        if self.progress.step < self.info.steps:
            self.save_or_stop()

    def on_epoch_end(self, epoch, logs=None):
        self.progress.pending = {
            "epoch": epoch,
            **logs,
            "learning_rate": float(self.model.optimizer.learning_rate),
            "images_per_second": self.throughput.rate(self.progress.step) or 0.0,
        }
        self.progress.epoch = epoch + 1
        self.progress.step = 0

        # Before the validation, which may take long.
        self.save_or_stop()
        self._finish_epoch()

        # The validation's columns, for the progress bar.
        logs.update(self.progress.rows[-1])
        logs["images/s"] = round(logs.pop("images_per_second"))
        del logs["epoch"]

    def _finish_epoch(self):
        """Validates, records, and keeps the best model."""
        row = {**self.progress.pending, **self.validator.row()}
        if not math.isfinite(row["val_loss"] or 0):
            self._fail(f"the validation loss is {row['val_loss']}", row["epoch"], self.info.steps)

        self.progress.rows.append(row)
        if self.writes:
            write_metrics(self.progress.rows, self.workdir)
            write_events(row, self.workdir)

        if row["val_accuracy"] > self.progress.best and math.isfinite(row["loss"]):
            self.progress.best = row["val_accuracy"]
            best = self.validator.current()
            if self.writes:
                atomic_write(self.workdir / "best.keras", best.save)
        self.progress.pending = None

    # Saving and stopping.

    def save_or_stop(self):
        """Saves if it is time, or if a signal asks the run to stop, and then stops it: all
        processes at the same step."""
        pause = max(
            60 * self.recipe.save_minutes,
            self._saving_seconds * (1 / SAVING_FRACTION - 1),
        )
        due = time.monotonic() - self._last_save >= pause

        # Any process may have got a signal; process 0's clock counts.
        requests = processes.gather(np.int32([self.stop.signal, due]))
        number = requests[:, 0].max()
        due = requests[0, 1]

        if number or due:
            self._save()
        if number:
            name = signal.Signals(number).name
            raise Interrupted(
                f"stopped by {name} in epoch {self.progress.epoch + 1}, after step"
                f" {self.progress.step}, and saved in {self.workdir}: run the same command again"
                " to resume",
                number,
            )

    def save_end(self):
        """Saves the end of the training, if it came in this process."""
        if self._saved_epoch != self.progress.epoch:
            self._save()

    def _save(self):
        start = time.monotonic()
        sync_variables(self.model)
        arrays = model_state(self.model)

        if not all(np.isfinite(array).all() for array in arrays.values()):
            # After the last step of an epoch the progress is at the next one's beginning.
            epoch, step = self.progress.epoch, self.progress.step
            if not step:
                epoch, step = epoch - 1, self.info.steps
            self._fail("the weights or the optimizer's state are not finite", epoch, step)

        description = dataclasses.asdict(self.progress) | {"seconds": self.elapsed()}
        description |= {"recipe": dataclasses.asdict(self.recipe), "data": self.data}
        if self.writes:
            total_steps = self.progress.epoch * self.info.steps + self.progress.step
            self._checkpoints.save(total_steps, arrays, description)

        self._last_save = time.monotonic()
        self._saved_epoch = self.progress.epoch
        self._saving_seconds = max(self._saving_seconds, self._last_save - start)

    def _fail(self, problem, epoch, step):
        """Raises the UserError of numbers that are not finite, after so many steps of an epoch."""
        checkpoint = self._checkpoints.latest()
        last = "there is no checkpoint yet"
        if checkpoint:
            last = f"the last good checkpoint is {checkpoint[0]}"
        raise UserError(
            f"{problem} after epoch {epoch + 1}, step {step}; {last}: in another workdir,"
            " try a lower lr, a longer warmup_epochs, clip_norm=1 or precision=float32;"
            f" show_batch --epoch={epoch} --step={step - 1} draws its batch"
        )


class Throughput:
    """Images per second of an epoch, without its first step, which compiles.

    Args:
        batch_size: int. Images in a step.
    """

    def __init__(self, batch_size):
        self.batch_size = batch_size
        self._begin = None
        self._first_step = 0

    def start(self):
        """Begins an epoch."""
        self._begin = None

    def rate(self, step):
        """Images per second after so many steps; None after the first one of the epoch."""
        if self._begin is None:
            self._begin = time.monotonic()
            self._first_step = step
            return None
        images = (step - self._first_step) * self.batch_size
        return images / max(time.monotonic() - self._begin, 1e-9)
