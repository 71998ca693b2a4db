"""What an exported model is used by: servers and devices, which have neither Keras nor this."""

import base64
import http.server
import io
import json
import subprocess
import sys
import threading

import keras
import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data.decode import decode
from keras_deit.data.transforms import evaluation_view
from tests.conftest import ROOT


@pytest.fixture(scope="module")
def model():
    """A small one, not square, with weights large enough to tell images apart."""
    keras.utils.set_random_seed(3)
    names = ["a", "b", "ćma", "d", "e"]
    made = kd.DeiT((24, 16), 8, 24, 2, 3, num_classes=5, class_names=names)
    for variable in made.trainable_variables:
        variable.assign(variable + keras.random.normal(variable.shape, stddev=0.2))
    return made


@pytest.mark.slow
def test_a_saved_model_needs_no_keras_and_takes_floats_pixels_and_files(model, tmp_path):
    """In a process of its own, which must not import Keras."""
    rows = np.random.default_rng(0).integers(0, 256, (5, 6, 3), np.uint8)
    image = Image.fromarray(rows).resize((50, 61), Image.Resampling.BICUBIC)
    files = []
    for kind, options in (("png", {}), ("jpeg", {"quality": 90})):
        file = io.BytesIO()
        image.save(file, kind, **options)
        files.append(file.getvalue())
    kd.export(model, tmp_path / "model", crop=0.8)
    views = np.stack([evaluation_view(decode(file), model.image_size, 0.8) for file in files])
    for name, array in (("floats", views), ("pixels", np.asarray(image)[None])):
        np.save(tmp_path / name, array)
    for i, file in enumerate(files):
        (tmp_path / f"{i}.image").write_bytes(file)
    code = """
import sys, json, numpy as np
sys.modules["keras"] = sys.modules["keras_deit"] = None  # which TensorFlow would import by itself
import tensorflow as tf
loaded = tf.saved_model.load("model")
files = tf.constant([open(f"{i}.image", "rb").read() for i in range(2)])
calls = {"serving_default": {"images": tf.constant(np.load("floats.npy"))}}
calls |= {"pixels": {"pixels": tf.constant(np.load("pixels.npy"))}, "encoded": {"encoded": files}}
for name, inputs in calls.items():
    found = {name: value.numpy() for name, value in loaded.signatures[name](**inputs).items()}
    print(json.dumps([text.decode() for text in found.pop("class_names")[0]]))
    np.savez(name, **found)
open("metadata.json", "wb").write(loaded.metadata().numpy())
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert [json.loads(line) for line in done.stdout.splitlines()] == [list(model.class_names)] * 3
    given = {
        name: np.load(tmp_path / f"{name}.npz") for name in ("serving_default", "pixels", "encoded")
    }
    logits = {name: arrays["logits"] for name, arrays in given.items()}
    expected = np.array(model(views))
    np.testing.assert_allclose(logits["serving_default"], expected, rtol=1e-4, atol=1e-4)
    spread_of = np.abs(expected).std()
    assert np.abs(logits["encoded"] - expected).max() < 0.1 * spread_of  # roundings of pixels
    assert np.abs(logits["pixels"] - expected[:1]).max() < 0.1 * spread_of
    shares = given["serving_default"]["probabilities"]
    np.testing.assert_allclose(shares, np.array(keras.ops.softmax(expected)), rtol=1e-4)
    heads = model.logits(views)
    for name, head in zip(("class_head", "distillation_head"), heads, strict=True):
        found = given["serving_default"][name]
        np.testing.assert_allclose(found, np.array(head), rtol=1e-4, atol=1e-4)
    told = json.loads((tmp_path / "metadata.json").read_text())
    assert (told["heads"], told["image_size"], told["crop"]) == (
        "class, distillation",
        "24x16",
        "0.8",
    )


@pytest.mark.parametrize("shape", [(61, 50), (20, 300), (16, 24), (9, 7)])
@pytest.mark.parametrize(("size", "crop"), [((24, 16), 0.8), ((32, 32), 0.875), ((8, 8), 1.0)])
def test_preprocessing_in_the_graph_is_that_of_the_evaluation(shape, size, crop):
    """To a grey level of rounding, at any size."""
    from keras_deit.exports.preprocessing import from_pixels

    pixels = np.random.default_rng(2).integers(0, 256, (6, 7, 3), np.uint8)
    image = np.asarray(Image.fromarray(pixels).resize(shape[::-1], Image.Resampling.BICUBIC))
    found = from_pixels(image[None], size, crop)[0].numpy()
    levels = np.abs(found - evaluation_view(image, size, crop)) * 255 * 0.229
    assert levels.max() < 1.1
    assert levels.mean() < 0.1


@pytest.fixture(scope="module")
def exported(tmp_path_factory, model):
    """A folder with a model in each of the formats that examples take, a photograph, and what the
    model sees in it: the name and share of its best class."""
    from keras_deit.evaluation.prediction import predict

    folder = tmp_path_factory.mktemp("exported")
    kd.export(model, folder / "model", crop=0.8)
    kd.export(model, folder / "model.tflite", crop=0.8)
    pixels = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    path = folder / "photo.png"
    Image.fromarray(pixels).resize((70, 50), Image.Resampling.BICUBIC).save(path)
    ((_, _, shares),) = predict(model, [path], crop=0.8)
    return folder, f"{path}: {model.class_names[shares.argmax()]} {shares.max():.1%}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "name", "without"),
    [
        ("on_device", "model.tflite", ["tensorflow", "keras", "keras_deit", "absl"]),
        ("serving", "model", ["keras", "keras_deit"]),
    ],
)
def test_examples_do_without_us(exported, command, name, without):
    folder, expected = exported
    code = f"""
import sys, runpy
sys.modules.update(dict.fromkeys({without}))
sys.argv = ["", "--model={folder / name}", "{folder / "photo.png"}"]
runpy.run_module("scripts.{command}", run_name="__main__")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith(expected)


class Serving(http.server.BaseHTTPRequestHandler):
    """TensorFlow Serving's REST protocol, as its documentation has it, for one model."""

    model = None

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert self.path == "/v1/models/deit:predict"
        files = [base64.b64decode(row["b64"]) for row in asked["instances"]]
        found = self.model.signatures[asked["signature_name"]](encoded=files)
        assert {len(value) for value in found.values()} == {len(files)}  # or it refuses to answer
        rows = [
            {
                name: [x.decode() if isinstance(x, bytes) else float(x) for x in value.numpy()[i]]
                for name, value in found.items()
            }
            for i in range(len(files))
        ]
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps({"predictions": rows}).encode())

    def log_message(self, *_):
        pass


@pytest.mark.slow
def test_the_serving_example_speaks_the_rest_protocol(exported, monkeypatch, capsys):
    from scripts import serving

    import tensorflow as tf

    folder, expected = exported
    Serving.model = tf.saved_model.load(str(folder / "model"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Serving)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1/models/deit"
    monkeypatch.setattr(sys, "argv", ["", f"--model={url}", str(folder / "photo.png")])
    serving.main()
    server.shutdown()
    server.server_close()
    assert capsys.readouterr().out.startswith(expected)
