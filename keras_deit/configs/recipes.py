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

COMMAND = "python -m scripts.train --recipe={name} --data_dir=DATA --workdir=runs/{name}"

RECIPES = {
    name: replace(row, note=f"{row.note} Command: {COMMAND.format(name=name)}")
    for name, row in {**DIGITS, **IMAGENET}.items()
}
