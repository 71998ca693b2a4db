"""Some images of a data set, from all over it."""

import numpy as np

from keras_deit.data import datasets
from keras_deit.data.transforms import evaluation_view


def spread(dataset, split, count, data_dir=None, size=(224, 224), crop=0.875):
    """At most ``count`` images, evenly spaced in the data set's order, float32 (images, height,
    width, 3), normalised; the arguments of ``data.images``."""
    data = datasets.load(dataset, split, data_dir)
    places = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
    return np.stack([evaluation_view(data[i][0], size, crop) for i in places.tolist()])
