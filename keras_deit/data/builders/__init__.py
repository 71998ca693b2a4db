"""TFDS builders for datasets that TFDS lacks or can no longer download.

A new builder is a file beside this one and a row of ``BUILDERS``.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """Where a builder is, which is imported only when it is used.

    Attributes:
        module: str. The dotted name of its file.
        class_name: str.
        embedded: bool. Whether it needs no files from outside, and so is prepared on first use.
            Default False.
    """

    module: str
    class_name: str
    embedded: bool = False


# By the name of the dataset.
BUILDERS = {
    "digits": Row("keras_deit.data.builders.digits", "Digits", embedded=True),
    "cars196": Row("keras_deit.data.builders.cars196", "Cars196"),
    "i_naturalist2019": Row("keras_deit.data.builders.i_naturalist2019", "INaturalist2019"),
}
