"""Position embeddings at another resolution."""

import numpy as np

from keras_deit.utils.interpolation import keys_cubic

A = -0.75  # of the cubic kernel, as in PyTorch


def resample(grid, rows, columns):
    """Bicubic resampling of a grid of position embeddings, as the official code does at 384 (
    ``main.py``): PyTorch's ``interpolate(mode="bicubic", align_corners=False)``, a cubic
    convolution with a = -0.75 over edges that repeat, without antialiasing.

    Args:
        grid: float32 (height, width, channels).
        rows, columns: the new height and width.

    Returns:
        float32 (rows, columns, channels).
    """
    tall = np.einsum("rh,hwc->rwc", _weights(grid.shape[0], rows), grid.astype(np.float64))
    return np.einsum("cw,rwd->rcd", _weights(grid.shape[1], columns), tall).astype(np.float32)


def _weights(old, new):
    """float64 (new, old): what each old place contributes to each new one."""
    places = (np.arange(new) + 0.5) * old / new - 0.5
    first = np.floor(places).astype(int)
    weights = np.zeros((new, old))
    for tap in range(-1, 3):
        sources = np.clip(first + tap, 0, old - 1)
        np.add.at(weights, (np.arange(new), sources), keys_cubic(places - first - tap, A))
    return weights
