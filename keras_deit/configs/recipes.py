"""``RECIPES``: every ``Recipe`` by name, its note ending in the command that runs it.

``--set=field=value`` after such a command changes a field. A new recipe is a new row of one of the
tables joined here, the paper's and the digits', or of a table in a new file beside theirs.

Example:
    >>> import keras_deit as kd
    >>> print(kd.RECIPES["deit_tiny"].note)  # doctest: +NORMALIZE_WHITESPACE
    Without a teacher. Expected top-1: 72.2% (paper, Table 3). Command: python -m scripts.train
    --recipe=deit_tiny --data_dir=DATA --workdir=runs/deit_tiny
"""

from dataclasses import replace

from keras_deit.configs.digits import DIGITS
from keras_deit.configs.imagenet import IMAGENET
from keras_deit.utils.errors import UserError

COMMAND = "python -m scripts.train --recipe={name} --data_dir=DATA --workdir=runs/{name}"

RECIPES = {
    name: replace(row, note=f"{row.note} Command: {COMMAND.format(name=name)}")
    for name, row in {**DIGITS, **IMAGENET}.items()
}


def find(name):
    """The recipe of a name.

    Args:
        name: str. A row of ``RECIPES``.

    Raises:
        UserError: there is no such row; lists those that there are.

    Example:
        >>> from keras_deit.configs import recipes
        >>> recipes.find("deit_tiny").epochs
        300
    """
    if name not in RECIPES:
        raise UserError(f"unknown recipe {name!r}: expected one of {', '.join(RECIPES)}")
    return RECIPES[name]
