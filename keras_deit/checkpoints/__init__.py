"""Weights from outside and for others: ``load`` and ``save_pretrained``."""

from keras_deit.checkpoints.loading import load
from keras_deit.checkpoints.saving import save_pretrained

__all__ = ["load", "save_pretrained"]
