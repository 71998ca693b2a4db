"""Scores a model: python -m scripts.evaluate --model=<name or file> --dataset=imagenet2012"""

from absl import flags

from scripts import command  # before TensorFlow

import keras_deit as kd  # isort: skip
from keras_deit.data import images
from keras_deit.evaluation.scores import table

MODEL = flags.DEFINE_string("model", None, "A published name or a file.", required=True)
VARIANT = flags.DEFINE_enum("variant", None, list(kd.VARIANTS), "What a file's weights are of.")
DATASET = flags.DEFINE_string("dataset", None, "TFDS name or folder:<path>.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Where TFDS keeps its data sets.")
SPLIT = flags.DEFINE_string("split", "validation", "Which part; imagenet_v2 has test alone.")
IMAGE_SIZE = flags.DEFINE_integer("image_size", None, "Pixels; else the model's own.", 1)
CROP = flags.DEFINE_float("crop", 0.875, "The share of an image's side that is seen.", 0.01, 1)
PUBLISHED = {"imagenet2012": "imagenet", "imagenet2012_real": "real", "imagenet_v2": "v2"}


def main():
    model = kd.load(MODEL.value, VARIANT.value)
    size = _size(model)
    if isinstance(model, kd.DeiT) and model.image_size != size:
        model = kd.load(MODEL.value, VARIANT.value, image_size=size)
    batches = images(DATASET.value, SPLIT.value, DATA_DIR.value, size, CROP.value)
    classes = getattr(model, "num_classes", None) or model.output_shape[-1]
    if batches.num_classes != classes:
        raise kd.UserError(f"the model has {classes} classes and the data {batches.num_classes}")
    scores = kd.evaluate(model, batches, verbose=1)
    shape = "x".join(map(str, size))
    count = f"{batches.info.images:,}"
    print(f"{count} images of {DATASET.value} {SPLIT.value}, {shape}, crop {CROP.value}")
    print(table(scores))
    _print_published()


def _size(model):
    """(height, width) of the images: what is asked for, or what the model or its row says."""
    row = kd.VARIANTS.get(VARIANT.value) or kd.VARIANTS.get(MODEL.value)
    said = IMAGE_SIZE.value or getattr(model, "image_size", None) or getattr(row, "image_size", 0)
    if not said:
        raise kd.UserError(
            f"{MODEL.value} takes images of any size: expected --image_size=<pixels>"
        )
    return said if isinstance(said, tuple) else (said, said)


def _print_published():
    row = kd.VARIANTS.get(MODEL.value) or kd.VARIANTS.get(VARIANT.value)
    column = PUBLISHED.get(DATASET.value.split("/")[0].split(":")[0])
    if row is None or row.published is None or column is None:
        return
    known = getattr(row.published, column)
    for score in known if isinstance(known, tuple) else (known,):
        print(f"published: fused {score.top1}% / {score.top5}% at crop {score.crop:g}")


if __name__ == "__main__":
    command.run(main)
