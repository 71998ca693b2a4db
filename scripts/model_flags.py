"""The flags of the commands that load a model, and what they name."""

from absl import flags

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
VARIANT = flags.DEFINE_string(
    "variant",
    None,
    "Variant (keras_deit/configs/variants.py) of the weights in --model, if the file has none.",
)
IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels. Default: the model's own.", 1)


def load(image_size=None):
    """The model of --model, at another resolution if one is given."""
    import keras_deit as kd

    fields = {"image_size": image_size} if image_size else {}
    return kd.load(MODEL.value, VARIANT.value, **fields)


def row():
    """The row of ``VARIANTS`` that --model or --variant names, or None."""
    import keras_deit as kd

    return kd.VARIANTS.get(MODEL.value) or kd.VARIANTS.get(VARIANT.value)
