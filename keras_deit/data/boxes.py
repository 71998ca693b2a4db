"""Boxes of random area and aspect ratio, for random resized crops and random erasing."""

import math
from dataclasses import dataclass
from typing import Literal

TRIES = 10  # at a box that fits, as in torchvision and timm


@dataclass(frozen=True)
class BoxSampler:
    """A distribution of boxes: uniform area, log-uniform aspect ratio, uniform position.

    Args:
        area: (float, float). Range of the box's area, as a fraction of the image's.
        aspect: (float, float). Range of the aspect ratio.
        aspect_is: "width/height" or "height/width". Which quotient the aspect ratio is.
        smallest: int. Shortest side of a box that fits, in pixels.
        margin: int. The box's sides are at least so many pixels shorter than the image's.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.boxes import BoxSampler
        >>> sampler = BoxSampler((0.5, 0.5), (1, 1), "width/height", smallest=1, margin=0)
        >>> top, left, height, width = sampler.sample(10, 10, np.random.default_rng(0))
        >>> height, width
        (7, 7)
    """

    area: tuple[float, float]
    aspect: tuple[float, float]
    aspect_is: Literal["width/height", "height/width"]
    smallest: int
    margin: int

    def sample(self, height, width, rng):
        """Draws a box in an image of ``height`` x ``width`` pixels.

        Takes four numbers per try from ``rng``: area, aspect ratio, vertical and horizontal
        position.

        Returns:
            (top, left, height, width) in pixels, or None if no try fits.
        """
        most_rows = height - self.margin
        most_columns = width - self.margin

        for _ in range(TRIES):
            area, aspect, vertical, horizontal = rng.random(4).tolist()
            area = (self.area[0] + (self.area[1] - self.area[0]) * area) * height * width
            aspect = self.aspect[0] * (self.aspect[1] / self.aspect[0]) ** aspect

            longer, shorter = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
            if self.aspect_is == "width/height":
                rows, columns = shorter, longer
            else:
                rows, columns = longer, shorter

            if self.smallest <= rows <= most_rows and self.smallest <= columns <= most_columns:
                top = int(vertical * (height - rows + 1))
                left = int(horizontal * (width - columns + 1))
                return top, left, rows, columns

        return None
