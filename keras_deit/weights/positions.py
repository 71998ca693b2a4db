"""Position embeddings at another resolution."""

import numpy as np

from keras_deit.utils.interpolation import keys_cubic

A = -0.75  # of the cubic kernel, as in PyTorch


def resample(grid, rows, columns):
    """Bicubic resampling of a grid of position embeddings, as the official code does at 384
    (``main.py``): PyTorch's ``interpolate(mode="bicubic", align_corners=False)``, a cubic
    convolution with a = -0.75 over repeated edges, without antialiasing.

    Args:
        grid: float array (height, width, channels).
        rows: int. The new height.
        columns: int. The new width.

    Returns:
        A float32 array (rows, columns, channels).

    Example:
        >>> import numpy as np
        >>> from keras_deit.weights.positions import resample
        >>> resample(np.ones((14, 14, 12), "float32"), 24, 24).shape
        (24, 24, 12)
    """
    height, width, _ = grid.shape
    grid = grid.astype(np.float64)
    tall = np.einsum("rh,hwc->rwc", _weights(height, rows), grid)
    return np.einsum("cw,rwd->rcd", _weights(width, columns), tall).astype(np.float32)


def _weights(old, new):
    """float64 (new, old): the weight of each old position in each new one."""
    centers = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(centers).astype(int)

    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        sources = np.clip(first + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), sources), keys_cubic(centers - first - tap, A))
    return weights
