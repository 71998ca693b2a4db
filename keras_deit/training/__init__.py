"""A recipe as a training run in a workdir."""

from keras_deit.training.optimization import WarmupCosine, loss, optimizer
from keras_deit.training.run import train

__all__ = ["WarmupCosine", "loss", "optimizer", "train"]
