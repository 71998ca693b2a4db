"""What a run shows while it trains: a progress bar on a terminal, lines in a file or a pipe."""

import sys
import time

import keras

from keras_deit.utils.logs import info


def progress_display(epochs, steps, first_step=0):
    """The callback that shows the progress of ``fit``; its arguments are ``ProgressBar``'s."""
    kind = ProgressBar if sys.stdout.isatty() else ProgressLines
    return kind(epochs, steps, first_step)


class ProgressBar(keras.callbacks.ProgbarLogger):
    """Keras' progress bar, with the run's epochs and steps, from the step it resumes at.

    Args:
        epochs: int. Epochs of the run.
        steps: int. Steps of an epoch.
        first_step: int. Steps of the first epoch that an earlier process took. Default 0.
    """

    def __init__(self, epochs, steps, first_step=0):
        super().__init__()
        self.totals = {"epochs": epochs, "steps": steps}
        self.first_step = first_step

    def set_params(self, params):
        super().set_params({**params, **self.totals, "verbose": 1})

    def on_train_batch_end(self, batch, logs=None):
        super().on_train_batch_end(batch + self.first_step, logs)


class ProgressLines(keras.callbacks.Callback):
    """What ``ProgressBar`` shows, as lines for a file or a pipe: one at each end of an epoch, and
    within long epochs one a minute. Its arguments are those of ``ProgressBar``."""

    INTERVAL_SECONDS = 60

    def __init__(self, epochs, steps, first_step=0):
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.first_step = first_step
        self._last_line = time.monotonic()

    def on_epoch_begin(self, epoch, logs=None):
        self._print(f"Epoch {epoch + 1}/{self.epochs}")

    def on_train_batch_end(self, batch, logs=None):
        if time.monotonic() - self._last_line >= self.INTERVAL_SECONDS:
            step = self.first_step + batch + 1
            self._print(f"{step}/{self.steps} - {_numbers(logs)}")

    def on_epoch_end(self, epoch, logs=None):
        self._print(f"{self.steps}/{self.steps} - {_numbers(logs)}")

    def _print(self, line):
        info(line)
        self._last_line = time.monotonic()


def _numbers(logs):
    return " - ".join(f"{name}: {value:.4g}" for name, value in logs.items() if value is not None)
