"""Weights from outside and for others: ``load`` and ``save_pretrained``."""

from keras_deit.weights.loading import load
from keras_deit.weights.saving import save_pretrained

__all__ = ["load", "save_pretrained"]
