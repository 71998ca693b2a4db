"""The distillation ablation of scripts/quickstart: a convnet teaches a DeiT on 90 digits.

python -m scripts.distil_digits --compare=teachers --output=runs/teachers compares what teaches
instead: two convnets, a DeiT, and the vote of all three.
"""

import dataclasses
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
COMPARE = flags.DEFINE_enum("compare", "methods", ["methods", "teachers"], "What to compare.")


def main():
    output = pathlib.Path(OUTPUT.value)
    methods = of_teachers() if COMPARE.value == "teachers" else of_methods()
    methods = {name: kd.override(row, SET.value) for name, row in methods.items()}
    rows = ablation.run(methods, range(SEEDS.value), output, output / "data")
    ablation.report(rows, output)

    # A random image of each digit, in the order of the digits.
    test = datasets.load("digits", "test", output / "data")
    digits = [test[row] for row in test.subset_indices(0.0, np.random.default_rng(0))]
    images = np.stack([image for image, _ in sorted(digits, key=lambda pair: pair[1])])
    last = list(methods)[-1]
    model = kd.load(ablation.run_folder(output, last, 0) / "last.keras")
    plots.attention_maps(model, images, output / "attention_maps.png")

    print(f"\nTop-1 in percent on the {len(test)} test images, mean ± standard deviation:\n")
    print(ablation.table(rows))
    print(f"{output}: results.csv, results.md, learning_curves.png, attention_maps.png;")
    print("in a folder for each run metrics.csv, plan.json, best.keras, last.keras")


def of_methods():
    """The paper's comparison of methods (its Table 3): recipes by name."""
    rows = {name: kd.RECIPES[f"digits_{name}"] for name in ("teacher", "none", "soft", "hard")}
    return {
        name: dataclasses.replace(row, teacher=("teacher",)) if row.teacher else row
        for name, row in rows.items()
    }


def of_teachers():
    """The paper's comparison of teachers (its Table 2): teachers, then what each teaches."""
    teachers = {
        "convnet": kd.RECIPES["digits_teacher"],
        "small_convnet": dataclasses.replace(
            kd.RECIPES["digits_teacher"], variant="regnety_digits_small"
        ),
        "deit": kd.RECIPES["digits_none"],
    }
    student = kd.RECIPES["digits_hard"]
    students = {f"by_{name}": dataclasses.replace(student, teacher=(name,)) for name in teachers}
    return {**teachers, **students, "by_all": dataclasses.replace(student, teacher=tuple(teachers))}


if __name__ == "__main__":
    command.run(main)
