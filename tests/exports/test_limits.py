"""Images that are too long, too large or of the wrong kind for exported models."""

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.data.transforms import evaluation_view
from keras_deit.exports import litert, saved_model
from keras_deit.exports.preprocessing import from_pixels
from scripts.on_device import preprocess
from tests.conftest import ROOT
from tests.exports.conftest import CROP

NAMES = ("photo.png", "a.webp", "corrupt.png", "bomb.png")


@pytest.mark.parametrize("shape", [(2, 30_000), (30_000, 2), (1, 5000)])
@pytest.mark.parametrize("size", [(32, 32), (40, 24)])
def test_stripes_are_cut_before_they_are_resized(shape, size, tmp_path):
    """In the graph and on a device as in the evaluation, and as the whole stripe would be."""
    rng = np.random.default_rng(2)
    image = np.tile(rng.integers(0, 256, (min(shape), 20, 3), np.uint8), (1, max(shape) // 20, 1))
    image = image if shape[0] < shape[1] else image.transpose(1, 0, 2)
    unscaled = Preprocessing((0, 0, 0), (1, 1, 1))
    expected = evaluation_view(image, size, 0.5, unscaled)

    start = [(side - min(side, 500)) // 2 for side in shape]  # a stretch with the same center
    middle = image[start[0] : start[0] + 500, start[1] : start[1] + 500]
    whole = evaluation_view(middle, size, 0.5, unscaled)
    assert np.abs(expected - whole).max() * 255 < 1.1

    view = from_pixels(image[None], size, 0.5, unscaled)[0]
    assert np.abs(view - expected).max() * 255 < 2.1

    Image.fromarray(image).save(tmp_path / "stripe.png")
    metadata = {"image_size": f"{size[0]}x{size[1]}", "crop": "0.5", "mean": "0, 0, 0"}
    metadata |= {"std": "1, 1, 1", "upright": "false"}
    assert np.abs(preprocess(tmp_path / "stripe.png", metadata)[0] - expected).max() * 255 < 1.1


@pytest.mark.slow
def test_examples_refuse_what_they_cannot_take_in_one_line(models, exported, tmp_path):
    """A file with a fixed batch, images in formats that TensorFlow cannot decode, corrupt ones."""
    batches = tmp_path / "batches.tflite"
    kd.export(models["distilled"], batches, crop=CROP, batch=2)
    photo, webp, corrupt, bomb = (tmp_path / name for name in NAMES)
    pixels = np.random.default_rng(4).integers(0, 256, (50, 70, 3), np.uint8)
    Image.fromarray(pixels).save(photo)
    Image.fromarray(pixels).save(webp)
    corrupt.write_bytes(photo.read_bytes()[:1000])
    Image.new("1", (10_000, 9_000)).save(bomb)

    device, server = (exported("distilled", kind)[0] for kind in (litert, saved_model))
    cases = (
        ("on_device", batches, photo, "batches of 2 images: expected 1: export the model"),
        (
            "on_device",
            device,
            corrupt,
            "corrupt.png: image file is truncated: expected a complete",
        ),
        ("on_device", photo, photo, "photo.png: expected a .tflite file of scripts.export"),
        ("on_device", device, bomb, "bomb.png: 10000 x 9000 pixels: expected .* at most 89478485"),
        ("serving", server, webp, "a.webp begins with b'RIFF.*: expected a JPEG or PNG.*: convert"),
        ("serving", server, corrupt, "cannot take these files: Invalid PNG data"),
        ("serving", server, bomb, r"cannot take these files: .*more pixels than\] \[89478485"),
    )
    for example, model, path, message in cases:
        command = [sys.executable, "-m", f"scripts.{example}", f"--model={model}", str(path)]
        run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert run.returncode == 2
        assert "Traceback" not in run.stderr
        (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
        assert re.match(f"error: .*{message}", line), line
