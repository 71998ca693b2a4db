"""What a run shows while it trains: its epochs, and a progress bar of each."""

import keras

from keras_deit.utils.logs import info
from keras_deit.utils.progress import progress_bar


class ProgressDisplay(keras.callbacks.Callback):
    """Shows each epoch of a run and the progress within it, with the metrics.

    ``keras.callbacks.ProgbarLogger`` counts the epochs and steps of one ``fit``; a run that was
    resumed takes several.

    Args:
        epochs: int. Epochs of the run.
        steps: int. Steps of an epoch.
        first_step: int. Steps of the first epoch that an earlier process took. Default 0.
    """

    def __init__(self, epochs, steps, first_step=0):
        super().__init__()
        self.epochs = epochs
        self.steps = steps
        self.first_step = first_step

    def on_epoch_begin(self, epoch, logs=None):
        info(f"Epoch {epoch + 1}/{self.epochs}")
        self._bar = progress_bar(self.steps, done=self.first_step)

    def on_train_batch_end(self, batch, logs=None):
        # Not final: the end of the epoch adds the scores of the validation.
        self._bar.update(self.first_step + batch + 1, list(logs.items()), finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        self._bar.update(self.steps, list(logs.items()), finalize=True)
