"""DeiT in Keras 3: vision transformers that a convnet teaches through a distillation token.

The paper: Touvron et al., Training data-efficient image transformers & distillation through
attention, 2021, arXiv 2012.12877.
"""

from keras_deit import data
from keras_deit.checkpoints import load, save_pretrained
from keras_deit.distillation import Distillation
from keras_deit.errors import UserError
from keras_deit.evaluation import evaluate
from keras_deit.exports import export
from keras_deit.factory import build
from keras_deit.model import DeiT
from keras_deit.optimization import WarmupCosine, loss, optimizer
from keras_deit.recipe import Recipe, override
from keras_deit.recipes import RECIPES
from keras_deit.teachers import RegNetY, adapt
from keras_deit.training import train
from keras_deit.variants import VARIANTS

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
