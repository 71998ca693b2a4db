"""Weights from outside and for others: ``load`` and ``save_pretrained``."""

from keras_deit.checkpoints.load import load
from keras_deit.checkpoints.save import save_pretrained

__all__ = ["load", "save_pretrained"]
