"""The kernel of bicubic interpolation."""

import numpy as np


def keys_cubic(distance, a):
    """The cubic convolution kernel of R. Keys (1981), of support [-2, 2].

    Args:
        distance: float array, in pixels.
        a: its parameter: -0.5 in Pillow's resize, -0.75 in OpenCV and PyTorch, -1 in Pillow's
            transform.

    Returns:
        A float array of the same shape.
    """
    x = np.abs(distance)
    inner = ((a + 2) * x - (a + 3)) * x * x + 1
    outer = a * (((x - 5) * x + 8) * x - 4)
    return np.where(x < 1, inner, np.where(x < 2, outer, 0))
