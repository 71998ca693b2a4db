"""Prepares a dataset: python -m scripts.prepare --dataset=cifar10 --data_dir=data"""

import pathlib

from absl import flags

from scripts import command

DATASET = flags.DEFINE_string(
    "dataset", None, "TFDS name, or one of this package's own datasets.", required=True
)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")


def main():
    from keras_deit.data.datasets import prepare

    builder = prepare(DATASET.value, DATA_DIR.value)
    for name, split in builder.info.splits.items():
        print(f"{DATASET.value} {name}: {split.num_examples:,} images")
    print(pathlib.Path(builder.data_dir))


if __name__ == "__main__":
    command.run(main)
