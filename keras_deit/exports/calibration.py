"""Some images of a data set, from all over it."""

import warnings

import numpy as np

from keras_deit.data import datasets
from keras_deit.data.transforms import evaluation_view
from keras_deit.utils.errors import Unreadable


def spread(dataset, split, count, data_dir=None, size=(224, 224), crop=0.875):
    """At most ``count`` images, evenly spaced in the data set's order, float32 (images, height,
    width, 3), normalised; the arguments of ``data.images``. What cannot be read is left out."""
    data = datasets.load(dataset, split, data_dir)
    places = np.linspace(0, len(data) - 1, min(count, len(data))).round().astype(int)
    views = []
    for place in places.tolist():
        try:
            views.append(evaluation_view(data[place][0], size, crop))
        except Unreadable as error:
            warnings.warn(f"{error}: left out", stacklevel=2)
    return np.stack(views)
