"""DeiT, RegNetY, and ``build``, which makes either from a row of ``VARIANTS``."""

from keras_deit.models.base import ImageClassifier
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import build
from keras_deit.models.regnet import RegNetY

__all__ = ["DeiT", "ImageClassifier", "RegNetY", "build"]
