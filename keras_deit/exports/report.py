"""What an export reports: the size, the speed and the accuracy of its file."""

import pathlib
from dataclasses import dataclass

from keras_deit.utils import tables


@dataclass(frozen=True)
class Report:
    """The comparison of a written file with its model.

    Attributes:
        path: ``pathlib.Path`` of the file.
        runtime: str. The runtime that loaded the file.
        bytes: int. Size of the file, or of all files in the folder.
        difference: float. Largest absolute logit error, relative to the standard deviation of the
            model's logits.
        agreement: float. Fraction of images with the same top-1 class.
        images: int. Number of images compared.
        higher_precision: str. Which operations an int8 file keeps in higher precision, one of
            ``settings.INT8_LEVELS``; "" for other files.
        milliseconds: float. Median latency of one image, or of a fixed batch, in the runtime, on
            all cores.
        keras_milliseconds: float. Likewise in Keras' compiled function, called in turn.
    """

    path: pathlib.Path
    runtime: str
    bytes: int
    difference: float
    agreement: float
    images: int
    higher_precision: str
    milliseconds: float
    keras_milliseconds: float


def table(reports):
    """The reports as a Markdown table."""
    header = ["file", "runtime", "MB", "largest difference", "same top-1", "ms", "Keras, ms"]
    rows = [
        [
            report.path.name,
            report.runtime,
            f"{report.bytes / 1e6:.1f}",
            f"{report.difference:.1e}",
            f"{report.agreement:.1%} of {report.images}",
            f"{report.milliseconds:.1f}",
            f"{report.keras_milliseconds:.1f}",
            f"{report.milliseconds / report.keras_milliseconds:.2f}",
        ]
        for report in reports
    ]
    return tables.markdown([*header, "ratio"], rows, left=2)
