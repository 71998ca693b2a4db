"""What a step needs of a TPU, without one: python -m scripts.compile_check --topology=v5e:2x2

The JAX training step of DeiT with its teacher, compiled ahead of time: pip install jax libtpu
"""

import importlib.util
import os

SETTINGS = {  # before JAX is imported; libtpu would ask a cloud for those of its host
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # it takes no TPU, that another process could not have too
    "JAX_PLATFORMS": "cpu",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
if importlib.util.find_spec("jax"):
    SETTINGS["KERAS_BACKEND"] = "jax"
for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)

from absl import flags  # noqa: E402

from scripts import command  # noqa: E402 - before TensorFlow

from keras_deit.tools import aot  # noqa: E402 # isort: skip

TOPOLOGY = flags.DEFINE_string("topology", "v5e:2x2", "Kind and arrangement of the chips.")
VARIANT = flags.DEFINE_multi_enum("variant", list(aot.TAUGHT), list(aot.TAUGHT), "Which students.")
IMAGES = flags.DEFINE_integer("images", 128, "Images a chip in a step.", 1)


def main():
    aot.report(VARIANT.value, IMAGES.value, TOPOLOGY.value)


if __name__ == "__main__":
    command.run(main)
