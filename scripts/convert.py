"""Converts weights: python -m scripts.convert --model=<name or file> --output=model.keras"""

import pathlib

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip
from keras_deit.utils.files import atomic_write

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
OUTPUT = flags.DEFINE_string(
    "output",
    None,
    "model.keras, model.weights.h5 or model.safetensors; or a folder in the hub's layout.",
    required=True,
)
VARIANT = flags.DEFINE_enum("variant", None, list(kd.VARIANTS), "What a file's weights are of.")
IMAGE_SIZE = flags.DEFINE_list("image_size", None, "Pixels, or height,width: another resolution.")
CLASSES = flags.DEFINE_integer("num_classes", None, "Where the file's are not the variant's.")
TOKENS = flags.DEFINE_bool("change_tokens", False, "Distilled weights to plain ones or back.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Whether to replace an output that is there.")


def main():
    output = pathlib.Path(OUTPUT.value)
    if output.suffix and not output.name.endswith((".keras", ".weights.h5", ".safetensors")):
        raise kd.UserError(f"{output}: expected .keras, .weights.h5, .safetensors or a folder")
    if output.exists() and not OVERWRITE.value:
        raise kd.UserError(f"{output} exists: expected another name, or --overwrite")
    if output.is_dir() and output.suffix:
        raise kd.UserError(f"{output} is a folder: expected a file")
    fields = {"image_size": _size(), "num_classes": CLASSES.value}
    fields = {name: value for name, value in fields.items() if value is not None}
    model = kd.load(MODEL.value, VARIANT.value, change_tokens=TOKENS.value, **fields)
    if output.name.endswith(".weights.h5"):
        atomic_write(output, model.save_weights)
    elif output.suffix == ".keras":
        atomic_write(output, model.save)
    else:
        kd.save_pretrained(model, output)
    print(f"{MODEL.value}: {model.count_params():,} parameters -> {output}")


def _size():
    if IMAGE_SIZE.value is None:
        return None
    try:
        size = tuple(map(int, IMAGE_SIZE.value))
    except ValueError:
        raise kd.UserError(f"--image_size={','.join(IMAGE_SIZE.value)}: expected pixels") from None
    return size if len(size) > 1 else size[0]


if __name__ == "__main__":
    command.run(main)
