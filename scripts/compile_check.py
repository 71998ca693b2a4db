"""Memory of a step on a TPU, without one: python -m scripts.compile_check --topology=v5e:2x2

It compiles the JAX training step of DeiT with its teacher ahead of time: pip install jax libtpu
"""

# In this order: the environment has to be set before anything imports Keras.
from scripts import aot_environment, command

from absl import flags

from keras_deit.tools import aot

TOPOLOGY = flags.DEFINE_string(
    "topology", aot_environment.TOPOLOGY, "TPU topology, as libtpu names them."
)
VARIANT = flags.DEFINE_multi_enum(
    "variant", list(aot.STUDENTS), list(aot.STUDENTS), "Students to compile for; repeatable."
)
IMAGES = flags.DEFINE_integer("images", 128, "Images on each chip in a step.", 1)


def main():
    aot.report(VARIANT.value, IMAGES.value, TOPOLOGY.value)


if __name__ == "__main__":
    command.run(main)
