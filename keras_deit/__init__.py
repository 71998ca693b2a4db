"""DeiT in Keras 3: vision transformers that a convnet teaches through a distillation token.

The paper: Touvron et al., Training data-efficient image transformers & distillation through
attention, 2021, arXiv 2012.12877.
"""

from keras_deit import data
from keras_deit.configs.recipe import Recipe, override
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import VARIANTS
from keras_deit.distillation.losses import Distillation
from keras_deit.evaluation.scores import evaluate
from keras_deit.exports import export
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import build
from keras_deit.models.regnet import RegNetY, adapt
from keras_deit.training.optimization import WarmupCosine, loss, optimizer
from keras_deit.training.run import train
from keras_deit.utils.errors import UserError
from keras_deit.weights import load, save_pretrained

__version__ = "0.1.0"
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
    "load",
    "loss",
    "optimizer",
    "override",
    "save_pretrained",
    "train",
]
