"""What a run shows: its epochs, and a bar on a terminal or lines elsewhere."""

import os
import pty
import sys

import keras
import numpy as np
import pytest

from keras_deit.training.progress_display import ProgressDisplay
from keras_deit.utils import logs, progress


@pytest.fixture(scope="module")
def model():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


def fit(model, display):
    x = np.zeros((8, 3), "float32")
    model.fit(x, x[:, :1], batch_size=2, epochs=2, verbose=0, callbacks=[display])


def test_a_file_gets_lines_without_control_characters(model, capsys):
    fit(model, ProgressDisplay(epochs=2, steps=4))
    lines = capsys.readouterr().out.splitlines()
    last = "step 4 of 4, after 0:00"
    assert [line.split(" - ")[0] for line in lines] == ["Epoch 1/2", last, "Epoch 2/2", last]
    assert all(line.isprintable() for line in lines)
    assert "loss: " in lines[1]


def test_a_resumed_epoch_begins_at_its_step(model, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)
    fit(model, ProgressDisplay(epochs=2, steps=10, first_step=6))
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines[1:5]] == [f"step {i} of 10" for i in (7, 8, 9, 10)]
    assert "loss: " in lines[1]


def test_quiet_shows_no_lines(model, capsys):
    with logs.quiet():
        fit(model, ProgressDisplay(epochs=2, steps=4))
    assert not capsys.readouterr().out


def test_a_terminal_gets_keras_progress_bar(model, monkeypatch):
    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        fit(model, ProgressDisplay(epochs=2, steps=4))
        terminal.flush()
        shown = os.read(master, 100_000).decode()
    os.close(master)
    assert "Epoch 2/2" in shown
    assert "\r" in shown
    assert "4/4" in shown
