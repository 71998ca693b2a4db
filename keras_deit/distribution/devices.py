"""The kind of the devices that Keras computes on, and GPUs that are present and not used."""

import os
import pathlib

import keras

GPU_FILES = "dev/nvidia[0-9]*"
INSTALL = {
    "tensorflow": 'pip install "tensorflow[and-cuda]"',
    "jax": 'pip install "jax[cuda12]"',
}


def device_kind():
    """What kind of device Keras computes on: "CPU", "NVIDIA H100 80GB HBM3", "TPU v5 lite" ..."""
    if keras.backend.backend() == "jax":
        import jax

        kind = jax.local_devices()[0].device_kind
        return "CPU" if kind == "cpu" else kind

    import tensorflow as tf

    if isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy):
        return "TPU"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "CPU"
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")


def unused_gpu(root="/"):
    """A line that says how to use a GPU that is present and that Keras' backend does not use; None
    if there is none.

    Args:
        root: the folder whose ``dev`` has the devices' files.
    """
    present = sorted(pathlib.Path(root).glob(GPU_FILES))
    if not present or device_kind() != "CPU":
        return None

    backend = keras.backend.backend()
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        return "an NVIDIA GPU is present, and CUDA_VISIBLE_DEVICES hides it: unset that to use it"
    return (
        f"an NVIDIA GPU is present, and {backend} cannot use it, so training runs on the CPU:"
        f" {INSTALL[backend]}"
    )
