"""Exports a model: python -m scripts.export --model=<name or file> --output=model.tflite"""

from absl import flags

from scripts import command, model_flags

flags.adopt_module_key_flags(model_flags)  # for --help
OUTPUT = flags.DEFINE_string(
    "output", None, "model.tflite, model.onnx, or a folder for a SavedModel.", required=True
)
QUANTIZE = flags.DEFINE_enum(
    "quantize", "none", ["none", "float16", "dynamic", "int8"], "Quantization, of .tflite only."
)
BATCH = flags.DEFINE_integer("batch", None, "Fixed batch size. Default: any.", 1)
CROP = flags.DEFINE_float("crop", 0.875, "Center-crop ratio.", 0.05, 1)
ATTENTION = flags.DEFINE_bool("attention", False, "Add the attention of all blocks as an output.")
DATASET = flags.DEFINE_string("dataset", None, "TFDS name or folder:<path>, to compare on.")
DATA_DIR = flags.DEFINE_string("data_dir", None, "Folder of TFDS' datasets.")
SPLIT = flags.DEFINE_string("split", "validation", "Split of --dataset to compare on.")
IMAGES = flags.DEFINE_integer("images", 1000, "Images to compare on, at most.", 1)
CALIBRATION = flags.DEFINE_string("calibration", "train", "Split whose 256 images calibrate int8.")
AGREEMENT = flags.DEFINE_float("agreement", 0.99, "Minimum top-1 agreement with the model.", 0, 1)
OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing output.")


def main():
    import keras_deit as kd
    from keras_deit.configs.preprocessing import IMAGENET
    from keras_deit.exports import sample_images, table

    int8 = QUANTIZE.value == "int8"
    if int8 and OUTPUT.value.endswith(".tflite") and not DATASET.value:
        raise kd.UserError("--quantize=int8: expected --dataset, whose images calibrate it")
    model = model_flags.load(model_flags.IMAGE_SIZE.value)
    size = getattr(model, "image_size", None) or (model_flags.IMAGE_SIZE.value or 224,) * 2

    def images(split, count):
        args = DATASET.value, split, count, DATA_DIR.value, size, CROP.value
        return sample_images(*args, preprocessing=getattr(model, "preprocessing", IMAGENET))

    report = kd.export(
        model,
        OUTPUT.value,
        quantize=QUANTIZE.value,
        calibration=images(CALIBRATION.value, 256) if int8 and DATASET.value else None,
        images=images(SPLIT.value, IMAGES.value) if DATASET.value else None,
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


if __name__ == "__main__":
    command.run(main)
