"""What a run shows: a bar on a terminal, lines elsewhere."""

import os
import pty
import sys

import keras
import numpy as np
import pytest

from keras_deit.training.progress_display import ProgressBar, ProgressLines, progress_display
from keras_deit.utils import logs


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(model, display):
    x = np.zeros((8, 3), "float32")
    model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0, callbacks=[display])


def test_a_file_gets_lines_without_control_characters(model, capsys):
    display = progress_display(epochs=2, steps=4)
    assert isinstance(display, ProgressLines)
    fit(model, display)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", "4/4", "Epoch 2/2", "4/4"]
    assert all(line.isprintable() for line in lines)
    assert "loss: " in lines[1]


def test_long_epochs_get_lines_in_between(model, capsys):
    display = ProgressLines(epochs=2, steps=10, first_step=6)
    display.INTERVAL_SECONDS = 0
    fit(model, display)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" - ")[0] for line in lines[1:5]] == ["7/10", "8/10", "9/10", "10/10"]


def test_quiet_shows_no_lines(model, capsys):
    with logs.quiet():
        fit(model, progress_display(epochs=2, steps=4))
    assert not capsys.readouterr().out


def test_a_terminal_gets_keras_progress_bar(monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        assert isinstance(progress_display(epochs=2, steps=4), ProgressBar)
    os.close(master)
