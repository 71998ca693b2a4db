"""Predicts what images show: python -m scripts.predict --model=<name or file> photo.jpg folder/"""

import sys

from absl import flags

from scripts import command, model_flags

flags.adopt_module_key_flags(model_flags)  # for --help
CROP = flags.DEFINE_float("crop", 0.875, "Center-crop ratio.", 0.05, 1)
TOP = flags.DEFINE_integer("top", 3, "Classes to print, the most probable ones.", 1)
OUTPUT = flags.DEFINE_string("output", None, "PNG to write: the images with their classes.")
MAX_DRAWN = 64  # images in the PNG


def main(*paths):
    import keras_deit as kd
    from keras_deit.data.image_files import image_paths
    from keras_deit.evaluation import plots
    from keras_deit.evaluation.prediction import predict

    if OUTPUT.value and not OUTPUT.value.endswith(".png"):
        raise kd.UserError(f"--output={OUTPUT.value}: expected a .png")
    files = image_paths(paths)
    model = model_flags.load(model_flags.IMAGE_SIZE.value)

    labels = model.class_labels
    drawn = []
    unreadable = 0
    for path, image, probabilities in predict(
        model, files, model_flags.IMAGE_SIZE.value, CROP.value
    ):
        if image is None:
            reason = probabilities
            print(f"{path}: {reason}", file=sys.stderr)
            unreadable += 1
            continue

        best = probabilities.argsort()[::-1][: TOP.value]
        texts = [f"{labels[label]} {probabilities[label]:.1%}" for label in best]
        print(f"{path}: {', '.join(texts)}", flush=True)
        if OUTPUT.value and len(drawn) < MAX_DRAWN:
            drawn.append((image, probabilities))

    if drawn:
        sheet = *zip(*drawn, strict=True), labels, OUTPUT.value
        plots.contact_sheet(*sheet, preprocessing=model.preprocessing)
        print(f"{len(drawn)} images with their classes: {OUTPUT.value}")
    if unreadable:
        raise kd.UserError(f"{unreadable} of {len(files)} images cannot be read")


if __name__ == "__main__":
    command.run(main, words=True)
