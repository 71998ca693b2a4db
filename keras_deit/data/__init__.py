"""Input pipelines: ``train`` and ``evaluation`` batches of a recipe, ``images`` of any dataset, and
batches ``padded`` to one size."""

from keras_deit.data.padding import padded
from keras_deit.data.pipeline import evaluation, images, train

__all__ = ["evaluation", "images", "padded", "train"]
