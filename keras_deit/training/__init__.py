"""A recipe as a training run in a workdir."""

from keras_deit.training.from_recipe import loss, optimizer
from keras_deit.training.labeling import label
from keras_deit.training.optimizers import WarmupCosine
from keras_deit.training.run import train

__all__ = ["WarmupCosine", "label", "loss", "optimizer", "train"]
