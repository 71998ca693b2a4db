"""Files for other runtimes: what they give, what they tell, and what is refused."""

import base64
import http.server
import io
import json
import subprocess
import sys
import threading
import zipfile

import keras
import numpy as np
import pytest
from PIL import Image

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.data.decode import decode
from keras_deit.data.transforms import evaluation_view
from keras_deit.exports import Report, exporting, graphs, runtimes, spread, table
from tests.conftest import ROOT, recipe

SUFFIXES = ("", ".tflite", ".onnx")


@pytest.fixture(scope="module")
def models():
    """Small ones with weights large enough to tell operations apart: not square, plain, distilled,
    trained in bfloat16."""
    keras.utils.set_random_seed(3)
    small = {"patch_size": 8, "width": 24, "depth": 2, "heads": 3, "num_classes": 5}
    made = {
        "distilled": kd.DeiT((24, 16), **small, class_names=["a", "b", "ćma", "d", "e"]),
        "plain": kd.DeiT((16, 24), **small, distilled=False),
        "bfloat16": kd.DeiT((24, 16), **small, dtype="mixed_bfloat16"),
    }
    for model in made.values():
        for variable in model.trainable_variables:
            variable.assign(variable + keras.random.normal(variable.shape, stddev=0.2))
    return made


def pictures(model, count=4):
    return graphs.sample(model.image_size, count, seed=1)


def reference(model, images):
    return np.array(graphs.plain(model)(images))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilled", "plain", "bfloat16"])
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_is_the_models_function(models, name, suffix, tmp_path):
    model = models[name]
    path = tmp_path / f"model{suffix}"
    report = kd.export(model, path)
    assert report.difference < 1e-4
    assert report.agreement == 1
    assert report.bytes > 0
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]
    images = pictures(model)
    run, expected = runtimes.opened(path, suffix), reference(model, images)
    for count in (1, 4):  # any batch
        found = run(images[:count])
        assert np.abs(found - expected[:count]).max() < 1e-4 * expected.std()
    assert found.dtype == np.float32


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_batch_may_be_fixed_and_attention_given(models, suffix, tmp_path):
    model, path = models["distilled"], tmp_path / f"model{suffix}"
    images = pictures(model, 2)
    kd.export(model, path, batch=2, attention=True, images=images)
    expected = np.array(model.attention_maps(images))
    found = outputs(path, suffix, images)
    assert set(found) >= {"logits", "attention"}
    np.testing.assert_allclose(found["attention"], expected, atol=1e-5)
    np.testing.assert_allclose(found["logits"], np.array(model(images)), rtol=1e-4, atol=1e-4)
    report = kd.export(model, path, batch=2, images=pictures(model, 3), overwrite=True)
    assert report.images == 3


def outputs(path, suffix, images):
    """All that a file gives, by name or, of LiteRT, by rank."""
    if suffix == ".onnx":
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"images": images}), strict=True))
    if suffix == "":
        import tensorflow as tf

        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return {name: value.numpy() for name, value in serve(images=images).items()}
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(str(path))
    runner.allocate_tensors()
    runner.set_tensor(runner.get_input_details()[0]["index"], images)
    runner.invoke()
    found = [runner.get_tensor(of["index"]) for of in runner.get_output_details()]
    return {"logits" if array.ndim == 2 else "attention": array for array in found}


@pytest.mark.slow
def test_a_saved_model_needs_no_keras_and_takes_floats_pixels_and_files(models, tmp_path):
    """In a process of its own, which must not import Keras."""
    model, photograph = models["distilled"], np.random.default_rng(0)
    rows = photograph.integers(0, 256, (5, 6, 3), np.uint8)
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


@pytest.mark.slow
def test_files_tell_what_they_are(models, tmp_path):
    import onnx

    model = models["distilled"]
    kd.export(model, tmp_path / "model.onnx", crop=0.9)
    kd.export(model, tmp_path / "model.tflite", crop=0.9)
    props = {p.key: p.value for p in onnx.load(tmp_path / "model.onnx").metadata_props}
    archive = zipfile.ZipFile(tmp_path / "model.tflite")
    told = json.loads(archive.read("metadata.json"))
    assert archive.read("labels.txt").decode().splitlines() == list(model.class_names)
    for found in (props, told):
        assert json.loads(found["class_names"]) == list(model.class_names)
        assert found["tokens"] == "class, distillation, patches"
        assert found["mean"].startswith("0.485")
        assert found["crop"] == "0.9"
    assert graphs.names(models["plain"]) == ["0", "1", "2", "3", "4"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory, data_dir):
    """A DeiT that knows the digits a little."""
    row = recipe("digits_none", "variant=deit_digits", "passes=8", "train_fraction=1")
    return kd.train(row, tmp_path_factory.mktemp("trained"), data_dir, quiet=True)


@pytest.mark.slow
def test_quantized_files_decide_as_the_model_does(trained, tmp_path, data_dir):
    """On every test image; each is smaller than the last, and further from the model."""
    images = spread("digits", "test", 1000, data_dir, (8, 8), 1.0)
    assert len(images) == len(datasets.load("digits", "test", data_dir))
    calibration = spread("digits", "train", 200, data_dir, (8, 8), 1.0)
    reports = [
        kd.export(
            trained,
            tmp_path / f"{quantize}.tflite",
            quantize=quantize,
            images=images,
            calibration=calibration if quantize == "int8" else None,
        )
        for quantize in ("none", "float16", "dynamic", "int8")
    ]
    plain, half, dynamic, whole = reports
    assert all(report.agreement >= 0.99 for report in reports)
    assert plain.difference < 1e-4 < half.difference < 1e-2 < dynamic.difference < 0.5
    assert half.bytes < 0.7 * plain.bytes
    assert max(dynamic.bytes, whole.bytes) < 0.5 * plain.bytes
    lines = table(reports).splitlines()
    assert lines[2].startswith("| none.tflite | LiteRT | 0.")
    assert len(lines) == 6


def test_what_disagrees_is_not_written(models, tmp_path, monkeypatch):
    report = Report(tmp_path, "LiteRT", 1, 0.01, 0.5, 4, "", 1.0, 1.0)
    for quantize, held, says in (
        ("none", True, "differ by 1.0e-02 of their spread, and 0.0001 is allowed; nothing"),
        ("dynamic", True, r"50.0% of 4 images have the same top-1, and 99.0% is expected"),
    ):
        with pytest.raises(kd.UserError, match=says):
            exporting._judge(report, quantize, 0.99, held)
    exporting._judge(report, "float16", 0.99, True)
    exporting._judge(report, "dynamic", 0.4, True)
    monkeypatch.setattr(exporting, "TOLERANCES", {"none": 0.0})
    with pytest.raises(kd.UserError, match="nothing was written"):
        kd.export(models["plain"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_wrong_arguments_are_one_line_and_leave_nothing(models, tmp_path):
    (tmp_path / "there.onnx").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    images = np.zeros((2, 8, 8, 3), np.float32)
    for name, options, says in (
        ("model.pb", {}, "expected .tflite, .onnx, or no suffix"),
        ("there.onnx", {}, "exists: expected another name, or overwrite"),
        ("folder", {"overwrite": True}, "is a folder, and of no SavedModel"),
        ("file", {"overwrite": True}, "is a file: expected the name of a folder"),
        ("file/model.onnx", {}, "cannot write"),
        ("model.onnx", {"quantize": "int8"}, "expected a .tflite file"),
        ("model.tflite", {"quantize": "int8"}, "expected calibration images"),
        ("model.tflite", {"quantize": "int4"}, "expected none, float16, dynamic, int8"),
        ("model.onnx", {"batch": 0}, "expected a number above 0"),
        ("model.onnx", {"images": images}, r"expected \(count, 16, 24, 3\)"),
    ):
        with pytest.raises(kd.UserError, match=says) as error:
            kd.export(models["plain"], tmp_path / name, **options)
        assert "\n" not in str(error.value)
    with pytest.raises(kd.UserError, match="expected a DeiT or RegNetY"):
        kd.export(keras.Sequential([keras.Input((3,))]), tmp_path / "model.onnx")
    with pytest.raises(kd.UserError, match="a RegNetY has no ONNX export"):
        kd.export(kd.build("regnety_digits"), tmp_path / "model.onnx", image_size=8)
    with pytest.raises(kd.UserError, match="a RegNetY has no attention"):
        kd.export(kd.build("regnety_digits"), tmp_path / "model.tflite", attention=True)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "there.onnx").read_text() == "mine"


@pytest.mark.slow
def test_what_is_there_is_replaced_if_asked(models, tmp_path):
    for suffix in ("", ".onnx"):
        path = tmp_path / f"model{suffix}"
        kd.export(models["plain"], path)
        kd.export(models["distilled"], path, overwrite=True)
        images = pictures(models["distilled"])
        np.testing.assert_allclose(
            runtimes.opened(path, suffix)(images),
            np.array(models["distilled"](images)),
            rtol=1e-3,
            atol=1e-4,
        )
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["model", "model.onnx"]


@pytest.mark.slow
def test_a_convnet_is_exported_too(tmp_path):
    model = kd.build("regnety_digits")
    for suffix in ("", ".tflite"):
        report = kd.export(model, tmp_path / f"model{suffix}", image_size=8)
        assert report.difference < 1e-4


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_damaged_file_is_said(suffix, tmp_path):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(b"TFL3 nothing")
    with pytest.raises(kd.UserError, match="its runtime does not load it"):
        runtimes.opened(path, suffix)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, models):
    """A folder with a model in each of the formats that examples take, a photograph, and what the
    model sees in it: the name and share of its best class."""
    from keras_deit.prediction import predict

    folder, model = tmp_path_factory.mktemp("exported"), models["distilled"]
    kd.export(model, folder / "model", crop=0.8)
    kd.export(model, folder / "model.tflite", crop=0.8)
    pixels = np.random.default_rng(4).integers(0, 256, (5, 7, 3), np.uint8)
    path = folder / "photo.png"
    Image.fromarray(pixels).resize((70, 50), Image.Resampling.BICUBIC).save(path)
    ((_, _, shares),) = predict(model, [path], crop=0.8)
    return folder, f"{path}: {model.class_names[shares.argmax()]} {shares.max():.1%}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "model", "without"),
    [
        ("on_device", "model.tflite", ["tensorflow", "keras", "keras_deit", "absl"]),
        ("serving", "model", ["keras", "keras_deit"]),
    ],
)
def test_examples_do_without_us(exported, command, model, without):
    folder, expected = exported
    code = f"""
import sys, runpy
sys.modules.update(dict.fromkeys({without}))
sys.argv = ["", "--model={folder / model}", "{folder / "photo.png"}"]
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
    import tensorflow as tf

    from scripts import serving

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
