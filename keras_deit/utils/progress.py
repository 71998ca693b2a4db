"""Progress of a long job: Keras' bar on a terminal, a few plain lines in a file or a pipe."""

import sys
import time

import keras

from keras_deit.utils import logs

# If standard output is not a terminal: the most lines of a job, and the least time between two.
LINES = 10
SECONDS_BETWEEN_LINES = 5


def progress_bar(total, unit="step", done=0, verbose=1):
    """Shows how much of a job is finished.

    Args:
        total: int. Units of the whole job; None if that is unknown.
        unit: str. What a unit is called. Default "step".
        done: int. Units that were finished earlier, which say nothing about the speed. Default 0.
        verbose: int. 0 shows nothing, as ``logs.verbose()`` of 0 does. Default 1.

    Returns:
        An object with two methods. ``update(count, values=None, finalize=None)`` sets the number of
        finished units; ``values`` are (name, number) pairs to show beside it, and
        ``finalize=False`` says that those of the last unit are not final yet. ``add(count)`` adds
        finished units.

    Example:
        >>> from keras_deit.utils.progress import progress_bar
        >>> bar = progress_bar(200, "image")
        >>> bar.add(100)  # too soon for a line
        >>> bar.update(200, [("loss", 0.5)])
        image 200 of 200, after 0:00 - loss: 0.5
    """
    verbose = int(bool(verbose and logs.verbose()))
    if verbose and not _redraws():
        return _Lines(total, unit, done)

    # No stateless metrics: values are shown as they are, not averaged over updates.
    return keras.utils.Progbar(total, unit_name=unit, verbose=verbose, stateless_metrics=())


def _redraws():
    """Whether standard output can draw a line again: on a terminal, and in a notebook."""
    return sys.stdout.isatty() or "ipykernel" in sys.modules


class _Lines:
    """Prints a line for each tenth of a job, in short jobs only the last, and none if the total is
    unknown."""

    def __init__(self, total, unit, done):
        self.total = total
        self.unit = unit
        self.done = done

        self.done_before = done
        self.start = time.monotonic()
        self.printed = self._lines_due()
        self.last_line = self.start

    def add(self, count):
        self.update(self.done + count)

    def update(self, count, values=None, finalize=None):
        self.done = count
        if self._lines_due() == self.printed:
            return

        # The last line waits for the final values, the others for their time.
        if count >= self.total:
            waits = finalize is False
        else:
            waits = time.monotonic() - self.last_line < SECONDS_BETWEEN_LINES
        if waits:
            return

        self.printed = self._lines_due()
        self.last_line = time.monotonic()
        numbers = [f"{name}: {number:.4g}" for name, number in values or () if number is not None]
        logs.info(" - ".join([f"{self.unit} {count} of {self.total}, {self._clock()}", *numbers]))

    def _lines_due(self):
        return LINES * min(self.done, self.total) // self.total if self.total else 0

    def _clock(self):
        elapsed = time.monotonic() - self.start
        if self.done >= self.total:
            return f"after {_duration(elapsed)}"

        # Only of this process' own units: a resumed job began with others.
        seconds_per_unit = elapsed / max(1, self.done - self.done_before)
        return f"{_duration(seconds_per_unit * (self.total - self.done))} left"


def _duration(seconds):
    """Seconds as "m:ss", or "h:mm:ss" from an hour on."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
