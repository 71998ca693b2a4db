"""Measures speed and memory on this machine: python -m scripts.benchmark --what=load"""

from scripts import command

from absl import flags

from keras_deit.tools import benchmarks, model_benchmark

BENCHMARKS = {
    "data": benchmarks.augmentation,
    "distillation": lambda: model_benchmark.distillation(
        VARIANT.value or model_benchmark.STUDENT, BATCH.value, ROUNDS.value, OUTPUT.value
    ),
    "export": benchmarks.exporting,
    "load": benchmarks.loading,
    "model": lambda: model_benchmark.model(
        VARIANT.value or model_benchmark.VARIANT,
        BATCH.value,
        ROUNDS.value,
        OUTPUT.value,
        tuple(ONLY.value),
    ),
}
WHAT = flags.DEFINE_enum("what", None, list(BENCHMARKS), "What to measure.", required=True)
VARIANT = flags.DEFINE_string(
    "variant",
    None,
    f"A published DeiT; model: {model_benchmark.VARIANT}, distillation: {model_benchmark.STUDENT}.",
)
BATCH = flags.DEFINE_integer("batch", 16, "model, distillation: images in a step.", 1)
ROUNDS = flags.DEFINE_integer(
    "rounds", model_benchmark.ROUNDS, "model, distillation: timed rounds.", 1
)
ONLY = flags.DEFINE_list("only", [], "model: parts of the names to measure, such as timm,auto.")
OUTPUT = flags.DEFINE_string(
    "output", None, "model, distillation: folder for Markdown, JSON and a bar chart."
)


def main():
    BENCHMARKS[WHAT.value]()


if __name__ == "__main__":
    command.run(main)
