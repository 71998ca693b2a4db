"""An example for a device: python -m scripts.on_device --model=model.tflite photo.jpg

It needs ai-edge-litert, numpy and Pillow, and neither TensorFlow nor Keras nor this package: take
it along with the model, which tells it all that it has to know.
"""

import argparse
import json
import sys
import zipfile

import numpy as np
from ai_edge_litert.interpreter import Interpreter
from PIL import Image


def view(path, told):
    """The image file as the model expects it, float32 (1, height, width, 3)."""
    image = Image.open(path).convert("RGB")
    height, width = map(int, told["image_size"].split("x"))
    least = [int(side / float(told["crop"])) for side in (width, height)]
    scale = min(side / wanted for side, wanted in zip(image.size, least, strict=True))
    half = 0.5 if height != width else 1e-6  # sizes are rounded as in the evaluation
    whole = [int(side / scale + half) for side in image.size]
    left, top = round((whole[0] - width) / 2), round((whole[1] - height) / 2)
    image = image.resize(whole, Image.Resampling.BICUBIC)
    image = image.crop((left, top, left + width, top + height))
    mean, std = (np.float32(told[name].split(", ")) for name in ("mean", "std"))
    return ((np.asarray(image, np.float32) / 255 - mean) / std)[None]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("images", nargs="+")
    asked = parser.parse_args()
    archive = zipfile.ZipFile(asked.model)
    told, names = json.loads(archive.read("metadata.json")), archive.read("labels.txt").decode()
    names = names.splitlines()
    interpreter = Interpreter(asked.model)
    interpreter.allocate_tensors()
    into, out = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    for path in asked.images:
        interpreter.set_tensor(into["index"], view(path, told))
        interpreter.invoke()
        logits = interpreter.get_tensor(out["index"])[0]
        shares = np.exp(logits - logits.max())
        shares /= shares.sum()
        best = np.argsort(-shares)[:3]
        print(f"{path}: {', '.join(f'{names[i]} {shares[i]:.1%}' for i in best)}")


if __name__ == "__main__":
    try:
        main()
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {error}")
