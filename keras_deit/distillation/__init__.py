"""The distillation objective, its teachers, and the training step of each backend."""

from keras_deit.distillation.losses import Distillation

__all__ = ["Distillation"]
