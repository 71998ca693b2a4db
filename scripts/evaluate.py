"""Scores a model: python -m scripts.evaluate --model=<name or file> --dataset=imagenet2012"""

from absl import flags

from scripts import command, model_flags

flags.adopt_module_key_flags(model_flags)  # for --help
DATASET = flags.DEFINE_string("dataset", None, "TFDS name or folder:<path>.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SPLIT = flags.DEFINE_string("split", None, "Split; default: validation, or all of a folder.")
CROP = flags.DEFINE_float("crop", 0.875, "Center-crop ratio.", 0.05, 1)
COLUMNS = {"imagenet2012": "imagenet", "imagenet2012_real": "real", "imagenet_v2": "v2"}


def main():
    import keras_deit as kd
    from keras_deit.configs.preprocessing import IMAGENET
    from keras_deit.data import datasets, images
    from keras_deit.evaluation.scores import table

    model = model_flags.load()
    size = _image_size(model)
    if getattr(model, "image_size", None) not in (None, size):
        model = model_flags.load(image_size=size)

    preprocessing = getattr(model, "preprocessing", IMAGENET)
    split = SPLIT.value or datasets.default_split(DATASET.value)
    batches = images(
        DATASET.value, split, DATA_DIR.value, size, CROP.value, preprocessing=preprocessing
    )
    scores = kd.evaluate(model, batches, verbose=1)
    shape = "x".join(map(str, size))
    print(f"{batches.info.images:,} images of {DATASET.value} {split}, {shape}, crop {CROP.value}")
    print(table(scores))
    _print_published()


def _image_size(model):
    """(height, width) of the images: the flag, or else what the model or its row says."""
    import keras_deit as kd

    own = getattr(model, "image_size", None) or getattr(model_flags.row(), "image_size", None)
    size = model_flags.IMAGE_SIZE.value or own
    if not size:
        name = model_flags.MODEL.value
        raise kd.UserError(f"{name} takes images of any size: expected --image_size=<pixels>")
    return size if isinstance(size, tuple) else (size, size)


def _print_published():
    row = model_flags.row()
    column = COLUMNS.get(DATASET.value.split("/")[0].split(":")[0])
    if row and row.published and column:
        scores = getattr(row.published, column)
        for score in scores if isinstance(scores, tuple) else [scores]:
            print(f"published: fused {score.top1}% / {score.top5}% at crop {score.crop:g}")


if __name__ == "__main__":
    command.run(main)
