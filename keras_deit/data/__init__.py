"""Input pipelines: ``train`` and ``evaluation`` batches of a recipe."""

from keras_deit.data.batches import evaluation, train

__all__ = ["evaluation", "train"]
