"""The library's logger: where its messages go, and what silences them."""

import contextlib
import io
import logging

import pytest

from keras_deit.utils import logs


@pytest.fixture
def fresh_logger():
    """The library's logger as before its setup; afterwards as it was."""
    logger = logs.logger
    handlers, level, propagate = logger.handlers, logger.level, logger.propagate
    logger.handlers = []
    logger.propagate = True
    logger.setLevel(logging.NOTSET)

    yield logger

    logger.handlers = handlers
    logger.propagate = propagate
    logger.setLevel(level)


class Recorder(logging.Handler):
    """Keeps the messages that reach it."""

    def __init__(self):
        super().__init__()
        self.messages = []

    def emit(self, record):
        self.messages.append(record.getMessage())


def test_a_message_is_a_line_on_standard_output(capsys):
    logs.info("100 % of 3 images")
    output = capsys.readouterr()
    assert (output.out, output.err) == ("100 % of 3 images\n", "")


def test_messages_follow_standard_output_where_it_is_redirected():
    first, second = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(first):
        logs.info("one")
    with contextlib.redirect_stdout(second):
        logs.info("two")
    assert (first.getvalue(), second.getvalue()) == ("one\n", "two\n")


def test_quiet_silences_messages_and_progress_bars(capsys):
    assert logs.verbose() == 1
    with logs.quiet():
        assert logs.verbose() == 0
        logs.info("silent")
    assert logs.verbose() == 1
    logs.info("shown")
    assert capsys.readouterr().out == "shown\n"


def test_quiet_ends_with_an_error():
    with pytest.raises(ValueError, match="no data"), logs.quiet():
        raise ValueError("no data")
    assert logs.verbose() == 1


def test_quiet_false_changes_nothing_and_stays_quiet_within_quiet():
    with logs.quiet(False):
        assert logs.verbose() == 1
    with logs.quiet(True):
        with logs.quiet(False):
            assert logs.verbose() == 0
        assert logs.verbose() == 0


def test_an_application_sets_the_level(fresh_logger):
    fresh_logger.setLevel(logging.ERROR)
    logs.set_up()
    assert logs.verbose() == 0


def test_setup_leaves_the_root_logger_alone(fresh_logger, capsys):
    root, recorder = logging.getLogger(), Recorder()
    root.addHandler(recorder)
    try:
        before = (root.level, list(root.handlers), root.disabled)
        logs.set_up()
        logs.info("once")
        assert (root.level, list(root.handlers), root.disabled) == before
    finally:
        root.removeHandler(recorder)

    assert recorder.messages == []  # an application's root handler would print them again
    assert capsys.readouterr().out == "once\n"


def test_setup_twice_prints_once(fresh_logger, capsys):
    logs.set_up()
    logs.set_up()
    logs.info("once")
    assert capsys.readouterr().out == "once\n"


def test_an_applications_own_handler_is_the_only_one(fresh_logger, capsys):
    recorder = Recorder()
    fresh_logger.addHandler(recorder)
    logs.set_up()
    logs.info("for the application")
    assert recorder.messages == ["for the application"]
    assert capsys.readouterr().out == ""
