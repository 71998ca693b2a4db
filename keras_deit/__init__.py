"""DeiT in Keras 3: vision transformers that a convnet teaches through a distillation token.

The paper: Touvron et al., Training data-efficient image transformers & distillation through
attention, 2021, arXiv 2012.12877.
"""

from keras_deit import data
from keras_deit.configs import RECIPES, VARIANTS, Recipe, override
from keras_deit.distillation import Distillation, adapt
from keras_deit.evaluation import evaluate
from keras_deit.exports import export
from keras_deit.models import DeiT, RegNetY, build
from keras_deit.training import WarmupCosine, label, loss, optimizer, train
from keras_deit.utils.errors import UserError
from keras_deit.utils.version import VERSION
from keras_deit.weights import load, save_pretrained

__version__ = VERSION
__all__ = [
    "RECIPES",
    "VARIANTS",
    "DeiT",
    "Distillation",
    "Recipe",
    "RegNetY",
    "UserError",
    "WarmupCosine",
    "adapt",
    "build",
    "data",
    "evaluate",
    "export",
    "label",
    "load",
    "loss",
    "optimizer",
    "override",
    "save_pretrained",
    "train",
]
