"""Converts weights: python -m scripts.convert --model=<name or file> --output=model.keras"""

import pathlib

from absl import flags

from scripts import command

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
OUTPUT = flags.DEFINE_string(
    "output", None, ".keras, .weights.h5 or .safetensors, or Hugging Face's folder.", required=True
)
VARIANT = flags.DEFINE_string(
    "variant",
    None,
    "Variant (keras_deit/configs/variants.py) of the weights in --model, if the file has none.",
)
SIZE = flags.DEFINE_list("image_size", None, "New resolution: pixels, or height,width in pixels.")
CLASSES = flags.DEFINE_integer("num_classes", None, "New heads for this number of classes.")
TOKENS = flags.DEFINE_bool("change_tokens", False, "Convert distilled to plain or back.")
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing output.")


@flags.validator("image_size", "expected pixels, such as 384 or 384,224")
def _has_pixels(words):
    return all(word.isdecimal() for word in words or ())


def main():
    import keras_deit as kd
    from keras_deit.utils.files import atomic_write, atomic_write_hdf5
    from keras_deit.weights.loading import has_distillation_token

    output = pathlib.Path(OUTPUT.value)
    if output.suffix and not output.name.endswith((".keras", ".weights.h5", ".safetensors")):
        raise kd.UserError(f"{output}: expected .keras, .weights.h5, .safetensors or a folder")
    if output.exists() and not OVERWRITE.value:
        raise kd.UserError(f"{output} exists: expected another name, or --overwrite")
    if output.is_dir() and output.suffix:
        raise kd.UserError(f"{output} is a folder: expected a file")

    fields = {"num_classes": CLASSES.value} if CLASSES.value else {}
    if SIZE.value:
        size = tuple(map(int, SIZE.value))
        fields["image_size"] = size if len(size) > 1 else size[0]
    if TOKENS.value:
        fields["distilled"] = not has_distillation_token(MODEL.value, VARIANT.value)
    model = kd.load(MODEL.value, VARIANT.value, change_tokens=TOKENS.value, **fields)

    if output.suffix == ".keras":
        atomic_write(output, model.save)
    elif output.suffix == ".h5":
        atomic_write_hdf5(output, model.save_weights)
    else:
        kd.save_pretrained(model, output)
    print(f"{MODEL.value}: {model.count_params():,} parameters -> {output}")


if __name__ == "__main__":
    command.run(main)
