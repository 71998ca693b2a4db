"""How often models decide differently: python -m scripts.disagree --model=<a> --model=<b>

The table has the labels, and each head of each model (paper, Table 4).
"""

from absl import flags

from scripts import command

MODEL = flags.DEFINE_multi_string(
    "model", None, "A published name or a file; repeatable.", required=True
)
DATASET = flags.DEFINE_string("dataset", None, "TFDS name or folder:<path>.", required=True)
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SPLIT = flags.DEFINE_string("split", None, "Split; default: validation, or all of a folder.")
CROP = flags.DEFINE_float("crop", 0.875, "Center-crop ratio.", 0.05, 1)
IMAGE_SIZE = flags.DEFINE_integer(
    "image_size", None, "Pixels, of models that take any size. Default: a DeiT's own.", 1
)


def main():
    import keras_deit as kd
    from keras_deit.data import datasets, images
    from keras_deit.evaluation import disagreement
    from keras_deit.utils.validation import height_and_width

    split = SPLIT.value or datasets.default_split(DATASET.value)
    models = {name: kd.load(name) for name in dict.fromkeys(MODEL.value)}
    sizes = [model.image_size for model in models.values() if model.has_attention]
    default = IMAGE_SIZE.value or (sizes[0] if sizes else None)
    if default is None:
        raise kd.UserError("models that take images of any size: expected --image_size=<pixels>")

    of_models = {}
    for name, model in models.items():
        size = height_and_width(model.image_size if model.has_attention else default)
        batches = images(
            DATASET.value,
            split,
            DATA_DIR.value,
            size,
            CROP.value,
            preprocessing=model.preprocessing,
        )
        of_models[name] = disagreement.decisions(model, batches)
        print(f"{name}: {batches.info.images:,} images of {DATASET.value} {split}, {size}")

    classifiers = disagreement.by_head(of_models)
    print(f"\nPercent of the images, crop {CROP.value:g}:\n\n{disagreement.table(classifiers)}")
    sentence = disagreement.reading(models, classifiers)
    if sentence:
        print(f"\n{sentence}")


if __name__ == "__main__":
    command.run(main)
