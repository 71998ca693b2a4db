"""Errors that a user can fix. Their text is one line: what was found, what was expected, what to
do. Commands print that line and exit with the error's ``code``."""


class UserError(ValueError):
    """A wrong name, value, path or file.

    Example:
        >>> import keras_deit as kd
        >>> try:
        ...     kd.build("deit_huge")
        ... except kd.UserError as error:
        ...     print(str(error)[:44], error.code)
        unknown variant 'deit_huge': expected one of 2
    """

    code = 2


class Unreadable(UserError):  # noqa: N818
    """One image or record of a dataset that cannot be read, while the others can."""


class Interrupted(UserError):  # noqa: N818
    """A run that a signal stopped after it was saved: the same command resumes it.

    Args:
        message: the line to print.
        signal: number of the signal. The exit code is 130 for SIGINT (Ctrl-C), else 75
            (``EX_TEMPFAIL`` in sysexits.h).
    """

    def __init__(self, message, signal):
        super().__init__(message, signal)
        self.code = 130 if signal == 2 else 75

    def __str__(self):
        return self.args[0]


class ProcessLost(UserError):  # noqa: N818
    """A run whose other processes are gone: the same command on all of them resumes it."""

    code = 75


def reason(error):
    """The first line of an error's text, or its type if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
