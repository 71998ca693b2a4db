"""Exports a model: python -m scripts.export --model=<name or file> --output=model.tflite"""

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip
from keras_deit.exports import QUANTIZATIONS, sample_images, table

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
VARIANT = flags.DEFINE_enum("variant", None, list(kd.VARIANTS), "What a file's weights are of.")
IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; else the model's own.", 1)
OUTPUT = flags.DEFINE_string(
    "output", None, "model.tflite, model.onnx, or a folder for a SavedModel.", required=True
)
QUANTIZE = flags.DEFINE_enum("quantize", "none", QUANTIZATIONS, "Of .tflite: see the README.")
BATCH = flags.DEFINE_integer("batch", None, "Images at a time; else any number.", 1)
CROP = flags.DEFINE_float("crop", 0.875, "The share of an image's side that is seen.", 0.05, 1)
ATTENTION = flags.DEFINE_bool("attention", False, "All blocks' attention as an output too.")
DATASET = flags.DEFINE_string("dataset", None, "TFDS name or folder:<path>, to compare on.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
SPLIT = flags.DEFINE_string("split", "validation", "Which part of it.")
IMAGES = flags.DEFINE_integer("images", 1000, "How many of its images, at most.", 1)
CALIBRATION = flags.DEFINE_string("calibration", "train", "Which part calibrates int8, by 256.")
AGREEMENT = flags.DEFINE_float("agreement", 0.99, "The least share of the same top-1.", 0, 1)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Whether to replace an output that is there.")


def main():
    fields = {"image_size": IMAGE_SIZE.value} if IMAGE_SIZE.value else {}
    model = kd.load(MODEL.value, VARIANT.value, **fields)
    size = getattr(model, "image_size", None) or (IMAGE_SIZE.value or 224,) * 2
    if QUANTIZE.value == "int8" and OUTPUT.value.endswith(".tflite") and not DATASET.value:
        raise kd.UserError("--quantize=int8: expected --dataset, whose images calibrate it")
    calibrated = QUANTIZE.value == "int8" and DATASET.value
    report = kd.export(
        model,
        OUTPUT.value,
        quantize=QUANTIZE.value,
        calibration=_images(CALIBRATION.value, 256, size) if calibrated else None,
        images=_images(SPLIT.value, IMAGES.value, size) if DATASET.value else None,
        agreement=AGREEMENT.value,
        image_size=size,
        crop=CROP.value,
        batch=BATCH.value or "any",
        attention=ATTENTION.value,
        overwrite=OVERWRITE.value,
    )
    print(table([report]))
    if report.higher_precision:
        print(f"kept in higher precision than int8: {report.higher_precision}")


def _images(split, count, size):
    return sample_images(DATASET.value, split, count, DATA_DIR.value, size, CROP.value)


if __name__ == "__main__":
    command.run(main)
