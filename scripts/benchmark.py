"""Measures speed and memory on this machine: python -m scripts.benchmark --what=load"""

from scripts import command

from absl import flags

from keras_deit.tools import benchmarks

BENCHMARKS = {
    "data": benchmarks.augmentation,
    "export": benchmarks.exporting,
    "load": benchmarks.loading,
}
WHAT = flags.DEFINE_enum("what", None, list(BENCHMARKS), "What to measure.", required=True)


def main():
    BENCHMARKS[WHAT.value]()


if __name__ == "__main__":
    command.run(main)
