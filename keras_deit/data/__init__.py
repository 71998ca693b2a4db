"""Input pipelines: ``train`` and ``evaluation`` batches of a recipe, ``images`` of any data set."""

from keras_deit.data.batches import evaluation, images, train

__all__ = ["evaluation", "images", "train"]
