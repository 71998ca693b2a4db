"""Progress: plain lines in a file or a pipe, a bar on a terminal, nothing if it is quiet."""

import io
import re

import pytest

from keras_deit.utils import logs, progress
from keras_deit.utils.progress import _duration, progress_bar


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def no_waiting(monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_LINES", 0)


@pytest.mark.usefixtures("no_waiting")
def test_a_file_gets_a_plain_line_for_each_tenth(capsys):
    bar = progress_bar(240, "epoch")
    for _ in range(240):
        bar.add(1)

    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"epoch {count} of 240, 0:00 left" for count in range(24, 240, 24)] + [
        "epoch 240 of 240, after 0:00"
    ]


def test_a_short_job_has_one_line(capsys):
    bar = progress_bar(240, "epoch")
    for _ in range(240):
        bar.add(1)
    assert capsys.readouterr().out == "epoch 240 of 240, after 0:00\n"


@pytest.mark.usefixtures("no_waiting")
def test_units_that_were_finished_earlier_are_not_printed_again(capsys):
    bar = progress_bar(10, "epoch", done=5)
    bar.update(5)
    assert capsys.readouterr().out == ""
    bar.update(8)
    bar.update(8)
    assert capsys.readouterr().out == "epoch 8 of 10, 0:00 left\n"


def test_numbers_are_shown_beside_it_and_the_last_line_waits_for_the_final_ones(capsys):
    bar = progress_bar(3, done=2)
    bar.update(3, [("loss", 0.25)], finalize=False)
    bar.update(3, [("loss", 0.25), ("val_loss", 1 / 3), ("val_per_class", None)], finalize=True)
    assert capsys.readouterr().out == "step 3 of 3, after 0:00 - loss: 0.25 - val_loss: 0.3333\n"


def test_an_unknown_or_empty_total_prints_no_lines(capsys):
    for total in (None, 0):
        progress_bar(total).add(3)
    assert capsys.readouterr().out == ""


def test_a_terminal_gets_keras_bar(monkeypatch):
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    progress_bar(2, "image").update(2)
    assert "\r" in terminal.getvalue()
    assert re.search(r"2/2.*/image", terminal.getvalue())


def test_a_terminal_shows_numbers_as_they_are(monkeypatch):
    monkeypatch.setattr("sys.stdout", terminal := Terminal())
    bar = progress_bar(2)
    bar.update(1, [("loss", 1.0)])
    bar.update(2, [("loss", 2.0)], finalize=False)
    bar.update(2, [("loss", 2.0)])
    assert "loss: 2.0000" in terminal.getvalue().splitlines()[-1]
    assert "1.5" not in terminal.getvalue()  # the mean


@pytest.mark.parametrize("output", [io.StringIO, Terminal])
def test_nothing_is_printed_if_it_is_quiet(monkeypatch, output):
    monkeypatch.setattr("sys.stdout", written := output())
    with logs.quiet():
        progress_bar(1).update(1)
    progress_bar(1, verbose=0).update(1)
    assert written.getvalue() == ""


def test_durations_are_minutes_and_hours():
    assert [_duration(seconds) for seconds in (0.4, 59.6, 176, 3600, 36061)] == [
        *("0:00", "1:00", "2:56"),
        *("1:00:00", "10:01:01"),
    ]
