"""Files for other runtimes: what they give, what they tell, and what is refused."""

import json
import zipfile

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.exports import Report, exporting, graphs, runtimes

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
