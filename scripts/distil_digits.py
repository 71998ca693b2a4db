"""The distillation ablation of scripts/quickstart: a convnet teaches a DeiT on 90 digits."""

import pathlib

from scripts import command

import numpy as np
from absl import flags

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.evaluation import plots
from keras_deit.tools import ablation

OUTPUT = flags.DEFINE_string(
    "output", "runs/quickstart", "Folder for tables, pictures, models and data."
)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds to repeat each method with.", 1)
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of all recipes; repeatable.")
METHODS = ("teacher", "none", "soft", "hard")


def main():
    output = pathlib.Path(OUTPUT.value)
    methods = {name: kd.override(kd.RECIPES[f"digits_{name}"], SET.value) for name in METHODS}
    rows = ablation.run(methods, range(SEEDS.value), output, output / "data")
    ablation.report(rows, output)

    # A random image of each digit, in the order of the digits.
    test = datasets.load("digits", "test", output / "data")
    digits = [test[row] for row in test.subset_indices(0.0, np.random.default_rng(0))]
    images = np.stack([image for image, _ in sorted(digits, key=lambda pair: pair[1])])
    model = kd.load(ablation.run_folder(output, "hard", 0) / "last.keras")
    plots.attention_maps(model, images, output / "attention_maps.png")

    print(f"\nTop-1 in percent on the {len(test)} test images, mean ± standard deviation:\n")
    print(ablation.table(rows))
    print(f"{output}: results.csv, results.md, learning_curves.png, attention_maps.png;")
    print("in a folder for each run metrics.csv, plan.json, best.keras, last.keras")


if __name__ == "__main__":
    command.run(main)
