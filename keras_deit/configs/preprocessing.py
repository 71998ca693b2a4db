"""``Preprocessing``: how a model wants its images, which its file remembers."""

import math
from dataclasses import dataclass

from keras_deit.utils.errors import UserError

# Of ImageNet's channels red, green and blue, for images in [0, 1].
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """How image files become a model's input, beside its size.

    Args:
        mean: tuple of 3 floats. Subtracted from red, green and blue in [0, 1]. Default: ImageNet's.
        std: tuple of 3 positive floats. Divides what is left. Default: ImageNet's.
        upright: bool. Whether an image is turned as its EXIF orientation says. Default False, as
            all published models were trained and scored.

    Raises:
        UserError: a value is out of its range.

    Example:
        >>> from keras_deit.configs.preprocessing import Preprocessing
        >>> Preprocessing().mean
        (0.485, 0.456, 0.406)
    """

    mean: tuple[float, float, float] = MEAN
    std: tuple[float, float, float] = STD
    upright: bool = False

    def __post_init__(self):
        # A file's JSON gives lists; tuples make equal values equal.
        object.__setattr__(self, "mean", _channels("mean", self.mean))
        object.__setattr__(self, "std", _channels("std", self.std))

        if min(self.std) <= 0:
            raise UserError(f"preprocessing std {self.std}: expected numbers above 0")
        if not isinstance(self.upright, bool):
            raise UserError(f"preprocessing upright {self.upright!r}: expected true or false")

    @property
    def fields(self):
        """Arguments that recreate it, a dict of JSON values."""
        return {"mean": list(self.mean), "std": list(self.std), "upright": self.upright}


def as_preprocessing(value):
    """A ``Preprocessing`` from any form in which a model's constructor takes one.

    Args:
        value: a ``Preprocessing``, a dict of its arguments, or None for ``IMAGENET``.

    Raises:
        UserError: anything else.
    """
    if value is None:
        return IMAGENET
    if isinstance(value, Preprocessing):
        return value

    arguments = IMAGENET.fields.keys()
    if not isinstance(value, dict) or not value.keys() <= arguments:
        raise UserError(
            f"preprocessing {value!r}: expected a Preprocessing or a dict of {', '.join(arguments)}"
        )
    return Preprocessing(**value)


def _channels(name, values):
    is_numbers = isinstance(values, (tuple, list)) and all(
        isinstance(value, (int, float)) and math.isfinite(value) for value in values
    )
    if not is_numbers or len(values) != 3:
        raise UserError(f"preprocessing {name} {values!r}: expected 3 numbers, of red, green, blue")
    return tuple(map(float, values))


IMAGENET = Preprocessing()  # of every published model
