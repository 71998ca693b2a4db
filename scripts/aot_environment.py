"""The environment of ``scripts.compile_check``: importing this module sets it, before JAX and Keras
are imported. Variables that are set already stay as they are."""

import importlib.util
import os

TOPOLOGY = "v5e:2x2"  # the chips of the accelerator type below
SETTINGS = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",  # no TPU is used, so other processes may load libtpu too
    "JAX_PLATFORMS": "cpu",
    # libtpu would ask the cloud's metadata server for these, and wait for it.
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_WORKER_HOSTNAMES": "localhost",
}
if importlib.util.find_spec("jax"):
    SETTINGS["KERAS_BACKEND"] = "jax"

for name, value in SETTINGS.items():
    os.environ.setdefault(name, value)
