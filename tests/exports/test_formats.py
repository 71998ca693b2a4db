"""Every format: its file computes the model's function and describes itself."""

import json
import shutil
import zipfile

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.exports import formats, litert, onnx_file, saved_model
from keras_deit.exports.calibration import random_images
from keras_deit.exports.metadata import file_metadata
from keras_deit.exports.settings import ExportSettings
from keras_deit.models.factory import float32_copy
from tests.exports.conftest import CLASS_NAMES, each_format


def test_formats_have_a_common_interface():
    for file_format in formats.FORMATS:
        assert set(file_format.OPTIONS) <= set(formats.OPTIONAL)
        assert callable(file_format.write)
        assert callable(file_format.load_function)
    names = [file_format.NAME for file_format in formats.FORMATS]
    suffixes = [file_format.SUFFIX for file_format in formats.FORMATS]
    assert {"LiteRT", "ONNX Runtime", "SavedModel"} <= set(names)
    assert len(set(suffixes)) == len(set(names)) == len(formats.FORMATS)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distilled", "plain", "bfloat16"])
@each_format
def test_file_computes_the_models_function(models, exported, name, file_format):
    path, report = exported(name, file_format)
    assert report.path == path
    assert report.runtime == file_format.NAME
    assert report.difference < 1e-4
    assert report.agreement == 1
    assert report.bytes > 0
    assert report.higher_precision == ""
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]

    images = random_images(models[name].image_size, 4, seed=1)
    expected = np.array(float32_copy(models[name])(images))
    run = formats.load(file_format, path)
    for count in (1, 4):  # any batch size
        logits = run(images[:count])
        assert np.abs(logits - expected[:count]).max() < 1e-4 * expected.std()
    assert logits.dtype == np.float32


@pytest.mark.slow
@each_format
def test_batch_can_be_fixed_attention_added_and_a_file_replaced(
    models, exported, file_format, tmp_path
):
    model = models["distilled"]
    images = random_images(model.image_size, 3, seed=1)
    existing, _ = exported("plain", file_format)
    path = tmp_path / existing.name
    copy = shutil.copytree if existing.is_dir() else shutil.copy
    copy(existing, path)

    report = kd.export(model, path, batch=2, attention=True, images=images, overwrite=True)
    assert report.images == 3  # the last batch is padded
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]

    outputs = all_outputs(path, file_format, images[:2])
    attention = np.array(model.attention_maps(images[:2]))
    assert set(outputs) >= {"logits", "attention"}
    np.testing.assert_allclose(outputs["attention"], attention, atol=1e-5)
    np.testing.assert_allclose(outputs["logits"], np.array(model(images[:2])), rtol=1e-4, atol=1e-4)


def all_outputs(path, file_format, images):
    """All outputs of a file, by name or, in LiteRT, by rank."""
    if file_format is onnx_file:
        import onnxruntime

        session = onnxruntime.InferenceSession(path)
        names = [output.name for output in session.get_outputs()]
        return dict(zip(names, session.run(names, {"images": images}), strict=True))

    if file_format is saved_model:
        import tensorflow as tf

        serve = tf.saved_model.load(str(path)).signatures["serving_default"]
        return {name: value.numpy() for name, value in serve(images=images).items()}

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], images)
    interpreter.invoke()
    outputs = [interpreter.get_tensor(out["index"]) for out in interpreter.get_output_details()]
    return {"logits" if array.ndim == 2 else "attention": array for array in outputs}


@pytest.mark.slow
def test_files_describe_themselves(exported):
    import onnx

    path, _ = exported("distilled", onnx_file)
    in_onnx = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    path, _ = exported("distilled", litert)
    archive = zipfile.ZipFile(path)
    in_litert = json.loads(archive.read("metadata.json"))
    assert archive.read("labels.txt").decode().splitlines() == list(CLASS_NAMES)
    assert in_litert.pop("quantization") == "none"
    assert in_litert == in_onnx


def test_metadata_are_those_of_the_model(models):
    metadata = file_metadata(models["distilled"], ExportSettings((24, 16), crop=0.9))
    assert json.loads(metadata["class_names"]) == list(CLASS_NAMES)
    assert json.loads(metadata["model"])["class"] == "DeiT"
    assert metadata["heads"] == "class, distillation"
    assert metadata["tokens"] == "class, distillation, patches"
    assert metadata["image_size"] == "24x16"
    assert metadata["mean"].startswith("0.485")
    assert metadata["crop"] == "0.9"
    assert all(isinstance(value, str) for value in metadata.values())

    half = Preprocessing((0.5, 0.5, 0.5), upright=True)
    fields = {**models["plain"].fields, "preprocessing": half}
    metadata = file_metadata(kd.DeiT(**fields), ExportSettings((16, 24)))
    assert (metadata["mean"], metadata["upright"]) == ("0.5, 0.5, 0.5", "true")
    assert "preprocessing" not in json.loads(metadata["model"])

    metadata = file_metadata(models["plain"], ExportSettings((16, 24)))
    assert json.loads(metadata["class_names"]) == [f"class {i}" for i in range(5)]
    assert (metadata["heads"], metadata["tokens"]) == ("class", "class, patches")


@pytest.mark.slow
@pytest.mark.parametrize("file_format", [saved_model, litert], ids=lambda row: row.NAME)
def test_convnet_is_exported(file_format, tmp_path):
    model = kd.RegNetY(stem=8, depths=(1, 1), widths=(8, 16), group_width=8, num_classes=5)
    report = kd.export(model, tmp_path / f"model{file_format.SUFFIX}", image_size=(8, 12))
    assert report.difference < 1e-4


@each_format
def test_unreadable_file_is_a_user_error(file_format, tmp_path):
    path = tmp_path / f"model{file_format.SUFFIX}"
    path.write_bytes(b"TFL3 nothing")
    with pytest.raises(kd.UserError, match="its runtime does not load it"):
        formats.load(file_format, path)


@pytest.mark.slow
@each_format
def test_names_that_are_not_unicode(file_format, tmp_path):
    names = ("a", "caf\udce9", "\ud800")  # of a folder in Latin-1, and of a JSON file
    model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=3, class_names=names)
    path = tmp_path / f"model{file_format.SUFFIX}"
    kd.export(model, path)
    metadata = file_metadata(model, ExportSettings((16, 16)))
    assert json.loads(metadata["class_names"]) == ["a", "caf\\udce9", "\\ud800"]

    bad = tmp_path / f"caf\udce9{file_format.SUFFIX}"
    with pytest.raises(kd.UserError, match=r"caf\\udce9.* is not valid UTF-8"):
        kd.export(model, bad)
    assert not bad.exists()
