"""Exported models where they are used: in servers and devices, without Keras and keras_deit."""

import base64
import dataclasses
import http.server
import io
import json
import subprocess
import sys
import threading

import cv2
import keras
import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.data.decode import decode
from keras_deit.data.transforms import evaluation_view
from keras_deit.evaluation.prediction import predict
from keras_deit.exports import litert, saved_model
from keras_deit.exports.preprocessing import from_files, from_pixels
from scripts.on_device import preprocess
from tests.conftest import ROOT
from tests.exports.conftest import CLASS_NAMES, CROP

SIGNATURES = ("serving_default", "pixels", "encoded")
RUN_SIGNATURES = """
import json, runpy, sys
import numpy as np
sys.modules["keras"] = sys.modules["keras_deit"] = None  # TensorFlow would import Keras by itself
import tensorflow as tf

model, example, photo = sys.argv[1:]
loaded = tf.saved_model.load(model)
files = tf.constant([open(f"{i}.image", "rb").read() for i in range(2)])
inputs = {
    "serving_default": {"images": tf.constant(np.load("floats.npy"))},
    "pixels": {"pixels": tf.constant(np.load("pixels.npy"))},
    "encoded": {"encoded": files},
}
for name, tensors in inputs.items():
    outputs = loaded.signatures[name](**tensors)
    outputs = {output: value.numpy() for output, value in outputs.items()}
    outputs["class_names"] = np.char.decode(outputs["class_names"].astype(bytes), "utf-8")
    np.savez(name, **outputs)
open("metadata.json", "wb").write(loaded.metadata().numpy())

sys.argv = ["", f"--model={model}", photo]
runpy.run_path(example, run_name="__main__")
"""


@pytest.fixture(scope="module")
def photo(models, tmp_path_factory):
    """The path of a photograph, and the line that an example prints for it, up to the best class
    and its probability."""
    pixels = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(pixels).resize((70, 50), Image.Resampling.BICUBIC).save(path)
    ((_, _, probabilities),) = predict(models["distilled"], [path], crop=CROP)
    best = CLASS_NAMES[probabilities.argmax()]
    return path, f"{path}: {best} {probabilities.max():.1%}"


@pytest.fixture(scope="module")
def without_keras(models, exported, photo, tmp_path_factory):
    """A SavedModel used by a process that cannot import Keras: the images it got, as the model
    expects them; the outputs by signature; its metadata; what ``scripts.serving`` printed."""
    path, _ = exported("distilled", saved_model)
    folder = tmp_path_factory.mktemp("served")

    rows = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(rows).resize((50, 61), Image.Resampling.BICUBIC)
    files = []
    for kind, options in (("png", {}), ("jpeg", {"quality": 90})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())

    size = models["distilled"].image_size
    views = np.stack([evaluation_view(decode(file), size, CROP) for file in files])
    np.save(folder / "floats", views)
    np.save(folder / "pixels", np.asarray(image)[None])
    for i, file in enumerate(files):
        (folder / f"{i}.image").write_bytes(file)

    words = [path, ROOT / "scripts" / "serving.py", photo[0]]
    printed = run_python(RUN_SIGNATURES, *words, cwd=folder)
    outputs = {name: dict(np.load(folder / f"{name}.npz")) for name in SIGNATURES}
    return views, outputs, json.loads((folder / "metadata.json").read_text()), printed


def run_python(code, *words, cwd):
    """The standard output of a Python process."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.mark.slow
def test_saved_model_takes_floats_pixels_and_files(models, without_keras):
    views, outputs, metadata, _ = without_keras
    expected = np.array(models["distilled"](views))
    logits = {name: arrays["logits"] for name, arrays in outputs.items()}
    np.testing.assert_allclose(logits["serving_default"], expected, rtol=1e-4, atol=1e-4)
    # Pixels differ by a gray level of rounding.
    rounding = 0.1 * np.abs(expected).std()
    assert np.abs(logits["encoded"] - expected).max() < rounding
    assert np.abs(logits["pixels"] - expected[:1]).max() < rounding

    for arrays in outputs.values():
        assert arrays["class_names"].tolist() == [list(CLASS_NAMES)] * len(arrays["logits"])
    probabilities = np.array(keras.ops.softmax(expected))
    np.testing.assert_allclose(outputs["serving_default"]["probabilities"], probabilities, 1e-4)
    heads = models["distilled"].logits(views)
    for name, head in zip(("class_head", "distillation_head"), heads, strict=True):
        np.testing.assert_allclose(
            outputs["serving_default"][name], np.array(head), rtol=1e-4, atol=1e-4
        )
    assert metadata["heads"] == "class, distillation"
    assert (metadata["image_size"], metadata["crop"]) == ("24x16", "0.8")


@pytest.mark.parametrize("shape", [(61, 50), (20, 300), (16, 24), (9, 7)])
@pytest.mark.parametrize(("size", "crop"), [((24, 16), 0.8), ((32, 32), 0.875), ((8, 8), 1.0)])
def test_preprocessing_in_the_graph_equals_the_evaluation(shape, size, crop):
    """To a gray level of rounding, at any size."""
    pixels = np.random.default_rng(2).integers(0, 256, (6, 7, 3), np.uint8)
    image = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BICUBIC))
    view = from_pixels(image[None], size, crop)[0].numpy()
    levels = np.abs(view - evaluation_view(image, size, crop)) * 255 * 0.229
    assert levels.max() < 1.1
    assert levels.mean() < 0.1


def test_16_bit_files_are_the_same_in_the_graph_and_on_a_device(tmp_path):
    import tensorflow as tf

    grays = np.arange(0, 65536, 16, dtype=np.uint16).reshape(64, 64)
    colors = np.stack([grays, grays.T, grays[::-1]], axis=-1)
    metadata = {"image_size": "64x64", "crop": "1", "mean": "0, 0, 0", "std": "1, 1, 1"}
    metadata["upright"] = "false"
    unscaled = Preprocessing((0, 0, 0), (1, 1, 1))

    for i, pixels in enumerate((grays, colors)):
        path = tmp_path / f"{i}.png"
        cv2.imwrite(str(path), pixels)
        expected = decode(path.read_bytes()) / np.float32(255)
        assert len(np.unique(expected)) == 256
        (view,) = from_files(tf.constant([path.read_bytes()]), (64, 64), 1, unscaled)
        np.testing.assert_allclose(view, expected, atol=1e-6)
        np.testing.assert_allclose(preprocess(path, metadata)[0], expected, atol=1e-6)

    Image.fromarray(grays.astype(np.float32)).save(tmp_path / "floats.tiff")
    with pytest.raises(ValueError, match=r"floats\.tiff: pixels of unknown range"):
        preprocess(tmp_path / "floats.tiff", metadata)


def turned_files():
    """JPEGs and PNGs in all orientations, in both byte orders, and with other segments and corrupt
    EXIF."""
    pixels = np.random.default_rng(3).integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(pixels).resize((50, 31), Image.Resampling.BICUBIC)

    for orientation in range(10):
        for kind, endian, options in (("JPEG", "<", {"comment": b"first"}), ("PNG", ">", {})):
            tags = Image.Exif()
            tags.endian = endian
            tags[ExifTags.Base.Make] = "a camera"
            tags[ExifTags.Base.Orientation] = orientation
            file = io.BytesIO()
            image.save(file, kind, exif=tags, icc_profile=b"profile" * 20_000, **options)
            yield file.getvalue()

    for corrupt in (b"", b"II*\0\xff\xff\xff\xff", b"II*\0\10\0\0\0\xff\xff"):
        file = io.BytesIO()
        image.save(file, "JPEG", exif=b"Exif\0\0" + corrupt)
        yield file.getvalue()


@pytest.mark.filterwarnings("ignore:.*orrupt EXIF")
def test_files_are_upright_in_the_graph_and_on_a_device(tmp_path):
    import tensorflow as tf

    files = list(turned_files())
    assert len({decode(file, upright=True).tobytes() for file in files}) == 16
    metadata = {"image_size": "24x16", "crop": "1", "mean": "0, 0, 0", "std": "1, 1, 1"}
    unscaled = Preprocessing((0, 0, 0), (1, 1, 1))

    for upright in (False, True):
        preprocessing = dataclasses.replace(unscaled, upright=upright)
        views = tf.function(from_files, autograph=False)(
            tf.constant(files), (24, 16), 1.0, preprocessing
        )
        for file, view in zip(files, views, strict=True):
            expected = evaluation_view(decode(file, upright), (24, 16), 1, preprocessing)
            assert np.abs(view - expected).max() * 255 < 2.1

            path = tmp_path / "image"
            path.write_bytes(file)
            on_device = preprocess(path, {**metadata, "upright": str(upright).lower()})
            assert np.abs(on_device[0] - expected).max() * 255 < 1.1


@pytest.mark.slow
def test_serving_example_runs_without_keras(photo, without_keras):
    *_, printed = without_keras
    assert printed.startswith(photo[1])


@pytest.mark.slow
def test_device_example_runs_without_tensorflow(exported, photo):
    path, _ = exported("distilled", litert)
    code = """
import runpy, sys
sys.modules.update(dict.fromkeys(["tensorflow", "keras", "keras_deit", "absl"]))
sys.argv = ["", f"--model={sys.argv[1]}", sys.argv[2]]
runpy.run_module("scripts.on_device", run_name="__main__")
"""
    assert run_python(code, path, photo[0], cwd=ROOT).startswith(photo[1])


class Serving(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's documented REST protocol, for one model."""

    model = None

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/models/deit:predict"
        files = [base64.b64decode(row["b64"]) for row in body["instances"]]
        outputs = self.model.signatures[body["signature_name"]](encoded=files)
        # TensorFlow Serving refuses outputs without a row for each instance.
        assert {len(value) for value in outputs.values()} == {len(files)}

        predictions = [
            {name: [as_json(x) for x in value.numpy()[i]] for name, value in outputs.items()}
            for i in range(len(files))
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"predictions": predictions}).encode())

    def log_message(self, *_):
        pass


def as_json(value):
    return value.decode() if isinstance(value, bytes) else float(value)


@pytest.mark.slow
def test_serving_example_speaks_the_rest_protocol(exported, photo, monkeypatch, capsys):
    import tensorflow as tf

    from scripts import serving

    path, _ = exported("distilled", saved_model)
    Serving.model = tf.saved_model.load(str(path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1/models/deit"
    monkeypatch.setattr(sys, "argv", ["", f"--model={url}", str(photo[0])])
    try:
        serving.main()
    finally:
        server.shutdown()
        server.server_close()
    assert capsys.readouterr().out.startswith(photo[1])
