"""Example for a device: python -m scripts.on_device --model=model.tflite photo.jpg

It needs only ai-edge-litert, numpy and Pillow, not TensorFlow, Keras or this package.
"""

import argparse
import json
import sys
import warnings
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image, ImageOps


def read(path, upright):
    """An image file as 8-bit RGB, turned as its EXIF orientation says if ``upright``."""
    try:
        return decode(path, upright)
    except Exception as error:  # Pillow's decoders raise errors of many types
        wanted = f"a complete image of 8 or 16 bits, at most {Image.MAX_IMAGE_PIXELS} pixels"
        raise ValueError(f"{path}: {error}: expected {wanted}") from error


def decode(path, upright):
    with Image.open(path) as image:
        if image.format == "EPS":
            raise ValueError("a program, which is not executed")
        if image.width * image.height > Image.MAX_IMAGE_PIXELS:  # Pillow only warns
            raise ValueError(f"{image.width} x {image.height} pixels")
        image.load()
        if upright:
            ImageOps.exif_transpose(image, in_place=True)

    is_16_bit = image.mode.startswith("I;16") or (image.mode, image.format) == ("I", "PPM")
    if is_16_bit:  # of grays, as Pillow takes the high byte of colors itself
        bits = getattr(image, "tag_v2", {}).get(258, (16,))[0]  # 12 in some TIFFs
        image = Image.fromarray((np.asarray(image) >> bits - 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("pixels of unknown range")
    return image.convert("RGB")


def preprocess(path, metadata):
    """An image file as the model's input, float32 (1, height, width, 3), as in evaluation."""
    height, width = map(int, metadata["image_size"].split("x"))
    mean, std = (np.float32(metadata[name].split(", ")) for name in ("mean", "std"))
    image = read(path, metadata["upright"] == "true")

    # The smallest size of the same aspect ratio whose center crop covers the input.
    least = [int(side / float(metadata["crop"])) for side in (width, height)]
    scale = min(side / wanted for side, wanted in zip(image.size, least, strict=True))
    half = 0.5 if height != width else 1e-6  # the evaluation rounds square sizes down
    resized = [int(side / scale + half) for side in image.size]
    left, top = round((resized[0] - width) / 2), round((resized[1] - height) / 2)
    view = left, top, left + width, top + height
    if resized[0] * resized[1] <= 1 << 22:
        image = image.resize(resized, Image.Resampling.BICUBIC).crop(view)
    else:  # of a long stripe only the view is made, or else it would take gigabytes
        sides = zip(view, image.size * 2, resized * 2, strict=True)
        box = [edge * side / target for edge, side, target in sides]
        image = image.resize((width, height), Image.Resampling.BICUBIC, box)
    return ((np.asarray(image, np.float32) / 255 - mean) / std)[None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True, help="a .tflite file")
    parser.add_argument("images", nargs="+", help="image files")
    arguments = parser.parse_args()
    sys.stdout.reconfigure(errors="backslashreplace")  # for names of files that are not UTF-8
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # an error here
    try:
        with zipfile.ZipFile(arguments.model) as archive:
            metadata = json.loads(archive.read("metadata.json"))
            class_names = archive.read("labels.txt").decode().splitlines()
    except (KeyError, zipfile.BadZipFile) as error:
        raise ValueError(f"{arguments.model}: expected a .tflite file of scripts.export") from error

    interpreter = Interpreter(arguments.model)
    interpreter.allocate_tensors()
    model_input = interpreter.get_input_details()[0]
    if (batch := model_input["shape"][0]) != 1:
        wanted = "expected 1: export the model without --batch"
        raise ValueError(f"{arguments.model} takes batches of {batch} images: {wanted}")
    for path in arguments.images:
        interpreter.set_tensor(model_input["index"], preprocess(path, metadata))
        interpreter.invoke()
        logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
        probabilities = np.exp(logits - np.logaddexp.reduce(logits))
        best = np.argsort(-probabilities)[:3]
        print(f"{path}: {', '.join(f'{class_names[i]} {probabilities[i]:.1%}' for i in best)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError) as error:
        raise SystemExit(print(f"error: {error}", file=sys.stderr) or 2) from error
