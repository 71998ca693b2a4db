"""Export settings, which every format's ``write`` takes."""

from dataclasses import dataclass

import numpy as np

QUANTIZATIONS = ("none", "float16", "dynamic", "int8")

# Precision levels of an int8 file, named by what it keeps in higher precision than calibrated int8.
# In a DeiT everything but the layers' matrix products is sensitive to int8, and in a small one so
# are the inputs of these products.
INT8_ONLY = "nothing"
INT8_PRODUCTS = "all but the layers' matrix products"
DYNAMIC_PRODUCTS = (
    "all but the layers' matrix products, whose activations are quantized dynamically"
)
INT8_LEVELS = (INT8_ONLY, INT8_PRODUCTS, DYNAMIC_PRODUCTS)


@dataclass(frozen=True, eq=False)
class ExportSettings:
    """Settings of one file.

    Attributes:
        image_size: (height, width) of its images, in pixels.
        crop: float. Center-crop ratio, for the metadata and for formats that preprocess images.
        batch: int. Images in a batch; None allows any number.
        attention: bool. Whether the attention of all blocks is an output too.
        quantize: str, one of ``QUANTIZATIONS``. "float16" stores weights in float16; "dynamic"
            stores int8 weights, per channel, and quantizes activations as they come; "int8"
            quantizes activations by ranges that ``calibration`` gives.
        calibration: float32 (count, height, width, 3), normalized images for "int8", else None.
        higher_precision: str, one of ``INT8_LEVELS`` for "int8", else "".
    """

    image_size: tuple[int, int]
    crop: float = 0.875
    batch: int | None = None
    attention: bool = False
    quantize: str = "none"
    calibration: np.ndarray | None = None
    higher_precision: str = ""
