"""Measures speed and memory on this machine: python -m scripts.benchmark --what=load"""

from absl import flags

from scripts import command  # before TensorFlow

from keras_deit.tools import benchmarks  # isort: skip

RUNS = {"data": benchmarks.pipeline, "export": benchmarks.exporting, "load": benchmarks.loading}
WHAT = flags.DEFINE_enum("what", None, list(RUNS), "What to measure.", required=True)


def main():
    RUNS[WHAT.value]()


if __name__ == "__main__":
    command.run(main)
