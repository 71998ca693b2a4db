"""Trains a recipe: python -m scripts.train --recipe=digits_hard --workdir=runs/hard"""

from absl import flags

from scripts import command

RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "Recipe to train: a row of keras_deit/configs/digits.py or imagenet.py.",
    required=True,
)
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run's files.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")


def main():
    import keras_deit as kd
    from keras_deit.configs import recipes

    recipe = kd.override(recipes.find(RECIPE.value), SET.value)
    kd.train(recipe, WORKDIR.value, DATA_DIR.value)


if __name__ == "__main__":
    command.run(main)
