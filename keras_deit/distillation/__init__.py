"""The distillation objective, its teachers, and the training step of each backend."""

from keras_deit.distillation.objective import Distillation
from keras_deit.distillation.teacher import adapt

__all__ = ["Distillation", "adapt"]
