"""Draws a training batch: python -m scripts.show_batch --recipe=digits_hard --output=batch.png"""

import pathlib

from absl import flags

from scripts import command

RECIPE = flags.DEFINE_string(
    "recipe",
    None,
    "Recipe of the batch: a row of keras_deit/configs/digits.py or imagenet.py.",
    required=True,
)
OUTPUT = flags.DEFINE_string("output", "batch.png", "PNG to write.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of the recipe; repeatable.")
EPOCH = flags.DEFINE_integer("epoch", 0, "Epoch of the batch, from 0.", lower_bound=0)
STEP = flags.DEFINE_integer("step", 0, "Step of the batch in its epoch, from 0.", lower_bound=0)
COUNT = flags.DEFINE_integer("count", 40, "Images to draw, at most.", lower_bound=1)


def main():
    import keras_deit as kd
    from keras_deit.configs import recipes
    from keras_deit.evaluation import plots

    output = pathlib.Path(OUTPUT.value)
    if output.suffix != ".png":
        raise kd.UserError(f"{output}: expected a .png")

    recipe = kd.override(recipes.find(RECIPE.value), SET.value)
    batches = kd.data.train(recipe, DATA_DIR.value, EPOCH.value, STEP.value)
    if STEP.value >= batches.steps:
        raise kd.UserError(f"step {STEP.value}: expected one from 0 to {batches.steps - 1}")

    images, labels = next(iter(batches))
    drawn = min(COUNT.value, len(images))
    plots.contact_sheet(images[:drawn], labels[:drawn], batches.class_names, output)
    where = f"epoch {EPOCH.value}, step {STEP.value}"
    print(f"{output}: {drawn} of a batch of {len(images)} images, {where}")


if __name__ == "__main__":
    command.run(main)
