"""Input pipelines: ``train`` and ``evaluation`` batches of a recipe, ``images`` of any data set,
and batches ``padded`` to one size."""

from keras_deit.data.batches import evaluation, images, train
from keras_deit.data.padding import padded

__all__ = ["evaluation", "images", "padded", "train"]
