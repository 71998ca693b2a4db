"""Draws what a model sees: python -m scripts.show_batch --recipe=digits_hard --output=batch.png"""

import pathlib

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip
from keras_deit.evaluation import plots

RECIPE = flags.DEFINE_enum("recipe", None, list(kd.RECIPES), "Whose batch.", required=True)
OUTPUT = flags.DEFINE_string("output", "batch.png", "The PNG to write.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")
EPOCH = flags.DEFINE_integer("epoch", 0, "Which epoch.", lower_bound=0)
STEP = flags.DEFINE_integer("step", 0, "Which batch of it.", lower_bound=0)
COUNT = flags.DEFINE_integer("count", 40, "How many images.", lower_bound=1)


def main():
    output = pathlib.Path(OUTPUT.value)
    if output.suffix != ".png":
        raise kd.UserError(f"{output}: expected a .png")
    recipe = kd.override(kd.RECIPES[RECIPE.value], SET.value)
    batches = kd.data.train(recipe, DATA_DIR.value, EPOCH.value, STEP.value)
    if STEP.value >= batches.steps:
        raise kd.UserError(f"step {STEP.value}: expected one from 0 to {batches.steps - 1}")
    images, labels = next(iter(batches))
    shown = min(COUNT.value, len(images))
    plots.contact_sheet(images[:shown], labels[:shown], batches.class_names, output)
    where = f"epoch {EPOCH.value}, step {STEP.value}"
    print(f"{output}: {shown} of a batch of {len(images)} images, {where}")


if __name__ == "__main__":
    command.run(main)
