"""Stores a teacher's targets: python -m scripts.label --recipe=digits_hard --output=runs/targets

python -m scripts.train --recipe=digits_hard --set=targets=runs/targets --workdir=runs/hard then
trains from them, and loads no teacher. The same command resumes what was interrupted, and shares
the work with other processes that run it at the same time.
"""

from absl import flags

from scripts import command

RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "Recipe whose views are seen: a row of keras_deit/configs/digits.py or imagenet.py that has a"
    " teacher.",
    required=True,
)
OUTPUT = flags.DEFINE_string("output", None, "Folder for the targets.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
TOP = flags.DEFINE_integer("top_k", 16, "Probabilities that soft targets keep.", 1)
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")


def main():
    import keras_deit as kd
    from keras_deit.configs import recipes

    recipe = kd.override(recipes.find(RECIPE.value), SET.value)
    kd.label(recipe, OUTPUT.value, DATA_DIR.value, TOP.value)


if __name__ == "__main__":
    command.run(main)
