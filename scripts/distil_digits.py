"""The distillation ablation of scripts/quickstart: a convnet teaches a DeiT on 90 digits.

python -m scripts.distil_digits --compare=teachers --output=runs/teachers compares what teaches
instead: two convnets, a DeiT, and the vote of all three. --compare=target_epochs compares how many
epochs a teacher labels.
"""

import pathlib

from absl import flags

from scripts import command, quiet

OUTPUT = flags.DEFINE_string(
    "output", "runs/quickstart", "Folder for tables, pictures, models and data."
)
SEEDS = flags.DEFINE_integer("seeds", 3, "Number of seeds to repeat each method with.", 1)
SET = flags.DEFINE_multi_string("set", [], "field=value: a field of all recipes; repeatable.")
COMPARE = flags.DEFINE_enum(
    "compare", "methods", ["methods", "teachers", "target_epochs"], "What to compare."
)


def main():
    import keras_deit as kd
    from keras_deit.data import datasets
    from keras_deit.tools import ablation

    output = pathlib.Path(OUTPUT.value)
    compared = {
        "methods": ablation.digits_methods,
        "teachers": ablation.digits_teachers,
        "target_epochs": ablation.digits_target_epochs,
    }
    methods = compared[COMPARE.value]()
    methods = {name: kd.override(row, SET.value) for name, row in methods.items()}
    rows = ablation.run(methods, range(SEEDS.value), output, output / "data")
    ablation.report(rows, output)

    ablation.draw_attention(output, list(methods)[-1], output / "data")

    test = datasets.load("digits", "test", output / "data")
    print(f"\nTop-1 in percent on the {len(test)} test images, mean ± standard deviation:\n")
    print(ablation.table(rows))
    if COMPARE.value == "methods":
        print("Percent of them on which the models of the first seed decide differently:\n")
        print(ablation.disagreements(output, output / "data"))
    print(f"{output}: results.csv, results.md, learning_curves.png, attention_maps.png;")
    print("in a folder for each run metrics.csv, plan.json, best.keras, last.keras")


if __name__ == "__main__":
    command.run(main)
elif __name__ == "__mp_main__":  # a process of the ablation, which imports the library next
    quiet.import_tensorflow()
