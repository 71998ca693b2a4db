"""Weights from outside and for others: ``load``, ``describe`` and ``save_pretrained``."""

from keras_deit.weights.descriptions import Description, describe
from keras_deit.weights.loading import load
from keras_deit.weights.saving import save_pretrained

__all__ = ["Description", "describe", "load", "save_pretrained"]
