"""Scores of each head, predictions for image files, and plots."""

from keras_deit.evaluation.scores import evaluate

__all__ = ["evaluate"]
