"""What went wrong, in words for the person who can put it right."""

import operator


class UserError(ValueError):
    """A wrong name, value, path or file. Its text says what was found, what was expected and what
    to do; commands print it as one line and end with ``code``."""

    code = 2


class Damaged(UserError):  # noqa: N818
    """An example of a data set that cannot be read, where the others can."""


class Interrupted(UserError):  # noqa: N818
    """A run that a signal ended, saved: the same command goes on with it. Its exit code is 75
    (``EX_TEMPFAIL`` of sysexits.h), of an interrupt from the keyboard 130."""

    def __init__(self, message, signal):
        super().__init__(message, signal)
        self.code = 130 if signal == 2 else 75

    def __str__(self):
        return self.args[0]


class Lost(UserError):  # noqa: N818
    """A run whose other processes are gone: the same command on all of them goes on with it."""

    code = 75


def whole(**values):
    """The named values as ints; raises UserError where one is no whole number, 1 or more."""
    for name, value in values.items():
        if _index(value) < 1:
            raise UserError(f"{name} {value!r}: expected a whole number, 1 or more")
    return map(operator.index, values.values())


def only_keras(kwargs):
    """``kwargs``, where they are Keras' own for any model; raises TypeError otherwise. (Given
    ``inputs``, Keras would turn the class into one of functional models, for good.)"""
    unknown = kwargs.keys() - {"name", "dtype", "trainable"}
    if unknown:
        raise TypeError(f"unexpected argument {min(unknown)!r}")
    return kwargs


def pair(image_size):
    """(height, width), two ints, of an image size: an int for both or such a pair, in pixels.
    Raises UserError for anything else."""
    sides = image_size if isinstance(image_size, (tuple, list)) else (image_size, image_size)
    sides = tuple(map(_index, sides))
    if len(sides) != 2 or min(sides) < 1:
        raise UserError(f"image_size {image_size!r}: expected an int or (height, width), in pixels")
    return sides


def reason(error):
    """The first line of what an error says, or else its type."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def names(class_names, num_classes):
    """``class_names`` as a tuple, or None. Raises UserError where that is not a name for each."""
    if class_names is None:
        return None
    if not isinstance(class_names, (tuple, list)) or len(class_names) != num_classes:
        raise UserError(f"class_names: expected a name for each of {num_classes} classes")
    return tuple(map(str, class_names))


def _index(value):
    try:
        return operator.index(value)
    except TypeError:
        return 0
