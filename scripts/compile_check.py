"""Memory of a step on a TPU, without one: python -m scripts.compile_check --topology=v5e:2x2

It compiles the JAX training step of DeiT with its teacher ahead of time: pip install jax libtpu
"""

from absl import flags

from scripts import aot_environment, command

STUDENTS = [f"deit_{size}_distilled_patch16_224" for size in ("tiny", "small", "base")]
TOPOLOGY = flags.DEFINE_string(
    "topology", aot_environment.TOPOLOGY, "TPU topology, as libtpu names them."
)
VARIANT = flags.DEFINE_multi_enum(
    "variant", STUDENTS, STUDENTS, "Students to compile for; repeatable."
)
IMAGES = flags.DEFINE_integer("images", 128, "Images on each chip in a step.", 1)


def main():
    from keras_deit.tools import aot

    aot.report(VARIANT.value, IMAGES.value, TOPOLOGY.value)


if __name__ == "__main__":
    command.run(main)
