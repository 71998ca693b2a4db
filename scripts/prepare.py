"""Prepares a data set: python -m scripts.prepare --dataset=cifar10 --data_dir=data"""

import pathlib

from absl import flags

from scripts import command  # before TensorFlow

from keras_deit.data.datasets import prepare  # isort: skip

DATASET = flags.DEFINE_string("dataset", None, "A TFDS name or one of ours.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")


def main():
    builder = prepare(DATASET.value, DATA_DIR.value)
    for name, split in builder.info.splits.items():
        print(f"{DATASET.value} {name}: {split.num_examples:,} images")
    print(pathlib.Path(builder.data_dir))


if __name__ == "__main__":
    command.run(main)
