"""Random erasing of Z. Zhong et al. (arXiv 1708.04896), as timm's ``random_erasing.py`` in its mode
"pixel" does it to a training image."""

import math

import numpy as np

AREA = (0.02, 1 / 3)  # of the image, uniform
ASPECT = (0.3, 1 / 0.3)  # height to width, log-uniform
TRIES = 10  # at a box smaller than the image both ways; else nothing is erased


def erase(image, probability, rng):
    """Puts standard normal noise into a random box of a float32 (height, width, 3), normalised
    image, in place, and gives it back.

    Takes from the generator whether, then the box, then its pixels.
    """
    if rng.random() >= probability:
        return image
    box = erasing_box(*image.shape[:2], rng)
    if box is None:
        return image
    top, left, height, width = box
    noise = rng.standard_normal((height, width, image.shape[2]), dtype=np.float32)
    image[top : top + height, left : left + width] = noise
    return image


def erasing_box(height, width, rng):
    """(top, left, height, width) in pixels of a random box in an image, or None."""
    for _ in range(TRIES):
        area, aspect, down, right = rng.random(4).tolist()
        area = (AREA[0] + (AREA[1] - AREA[0]) * area) * height * width
        aspect = ASPECT[0] * (ASPECT[1] / ASPECT[0]) ** aspect
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows < height and columns < width:
            top, left = int(down * (height - rows + 1)), int(right * (width - columns + 1))
            return top, left, rows, columns
    return None
