"""Scores of each head, predictions for image files, and plots."""

from keras_deit.evaluation.inference import predictor
from keras_deit.evaluation.scores import Scores, evaluate

__all__ = ["Scores", "evaluate", "predictor"]
