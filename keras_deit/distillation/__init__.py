"""The distillation objective, its teachers, and the training step of each backend."""

from keras_deit.distillation.losses import Distillation
from keras_deit.distillation.teacher import adapt

__all__ = ["Distillation", "adapt"]
