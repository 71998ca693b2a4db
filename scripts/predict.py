"""What images show: python -m scripts.predict --model=<name or file> photo.jpg folder/"""

import sys

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip
from keras_deit.data.folders import image_paths
from keras_deit.evaluation import plots
from keras_deit.evaluation.prediction import predict

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
VARIANT = flags.DEFINE_enum("variant", None, list(kd.VARIANTS), "What a file's weights are of.")
IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; else the model's own.", 1)
CROP = flags.DEFINE_float("crop", 0.875, "The share of an image's side that is seen.", 0.01, 1)
TOP = flags.DEFINE_integer("top", 3, "How many classes to print.", lower_bound=1)
OUTPUT = flags.DEFINE_string("output", None, "A PNG of the images with what they show.")
SHOWN = 64  # images in the picture


def main(*words):
    paths = image_paths(words)
    if OUTPUT.value and not OUTPUT.value.endswith(".png"):
        raise kd.UserError(f"--output={OUTPUT.value}: expected a .png")
    fields = {"image_size": IMAGE_SIZE.value} if IMAGE_SIZE.value else {}
    model = kd.load(MODEL.value, VARIANT.value, **fields)
    called, shown, failed = model.class_labels, [], 0
    for path, image, shares in predict(model, paths, IMAGE_SIZE.value, CROP.value):
        if image is None:
            print(f"{path}: {shares}", file=sys.stderr)
            failed += 1
            continue
        best = shares.argsort()[::-1][: TOP.value]
        print(f"{path}: {', '.join(f'{called[i]} {shares[i]:.1%}' for i in best)}", flush=True)
        shown += [(image, shares)] * (OUTPUT.value is not None and len(shown) < SHOWN)
    if shown:
        plots.contact_sheet(*zip(*shown, strict=True), called, OUTPUT.value)
        print(f"{len(shown)} images with what they show: {OUTPUT.value}")
    if failed:
        raise kd.UserError(f"{failed} of {len(paths)} images cannot be read")


if __name__ == "__main__":
    command.run(main, words=True)
