"""Trains a recipe: python -m scripts.train --recipe=digits_hard --workdir=runs/hard"""

from scripts import command

from absl import flags

import keras_deit as kd

RECIPE = flags.DEFINE_enum("recipe", None, list(kd.RECIPES), "Recipe to train.", required=True)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run's files.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")


def main():
    recipe = kd.override(kd.RECIPES[RECIPE.value], SET.value)
    kd.train(recipe, WORKDIR.value, DATA_DIR.value)


if __name__ == "__main__":
    command.run(main)
