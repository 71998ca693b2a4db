"""Random erasing of Z. Zhong et al. (arXiv 1708.04896), as mode "pixel" of timm's
``random_erasing.py`` applies it to a training image."""

import numpy as np

from keras_deit.data.boxes import BoxSampler

# timm accepts a box that is smaller than the image both ways, an empty one included.
BOXES = BoxSampler(
    area=(0.02, 1 / 3),
    aspect=(0.3, 1 / 0.3),
    aspect_is="height/width",
    smallest=0,
    margin=1,
)


def erase(image, probability, rng):
    """Fills a random box with standard normal noise, in place; or nothing, if no box fits.

    Takes from ``rng``: whether to erase, then the box, then its pixels.

    Args:
        image: float32 (height, width, 3), normalized.
        probability: float in [0, 1].
        rng: a numpy generator.

    Returns:
        ``image`` itself.

    Example:
        >>> import keras_deit as kd
        >>> import numpy as np
        >>> from keras_deit.data.erasing import erase
        >>> image = np.zeros((8, 8, 3), np.float32)
        >>> bool(erase(image, 1.0, np.random.default_rng(0)).any())
        True
    """
    if rng.random() >= probability:
        return image

    box = BOXES.sample(*image.shape[:2], rng)
    if box is None:
        return image

    top, left, height, width = box
    noise = rng.standard_normal((height, width, image.shape[2]), dtype=np.float32)
    image[top : top + height, left : left + width] = noise
    return image
