"""Recipes and model variants as data: one frozen row each."""

from keras_deit.configs.recipe import Recipe, override
from keras_deit.configs.recipes import RECIPES
from keras_deit.configs.variants import VARIANTS

__all__ = ["RECIPES", "VARIANTS", "Recipe", "override"]
