"""Trains a recipe: python -m scripts.train --recipe=digits_hard --workdir=runs/hard"""

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip

RECIPE = flags.DEFINE_enum("recipe", None, list(kd.RECIPES), "What to train.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder for all the run writes.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")


def main():
    recipe = kd.override(kd.RECIPES[RECIPE.value], SET.value)
    kd.train(recipe, WORKDIR.value, DATA_DIR.value)


if __name__ == "__main__":
    command.run(main)
