"""Measures speed and memory on this machine: python -m scripts.benchmark --what=load"""

from absl import flags

from scripts import command

WHAT = flags.DEFINE_enum(
    "what",
    None,
    ["data", "distillation", "export", "load", "model"],
    "What to measure.",
    required=True,
)
VARIANT = flags.DEFINE_string(
    "variant",
    None,
    "A published DeiT. Default: deit_small_distilled_patch16_224 of model,"
    " deit_tiny_distilled_patch16_224 of distillation.",
)
BATCH = flags.DEFINE_integer("batch", 16, "model, distillation: images in a step.", 1)
ROUNDS = flags.DEFINE_integer("rounds", 5, "model, distillation: timed rounds.", 1)
ONLY = flags.DEFINE_list("only", [], "model: parts of the names to measure, such as timm,auto.")
OUTPUT = flags.DEFINE_string(
    "output", None, "model, distillation: folder for Markdown, JSON and a bar chart."
)


def main():
    from keras_deit.tools import benchmarks, model_benchmark

    settings = BATCH.value, ROUNDS.value, OUTPUT.value
    measurements = {
        "data": benchmarks.augmentation,
        "distillation": lambda: model_benchmark.distillation(
            VARIANT.value or model_benchmark.STUDENT, *settings
        ),
        "export": benchmarks.exporting,
        "load": benchmarks.loading,
        "model": lambda: model_benchmark.model(
            VARIANT.value or model_benchmark.VARIANT, *settings, tuple(ONLY.value)
        ),
    }
    measurements[WHAT.value]()


if __name__ == "__main__":
    command.run(main)
