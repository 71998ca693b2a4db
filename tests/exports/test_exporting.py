"""``kd.export``: wrong arguments, and files that disagree with their model."""

import pathlib

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.exports import Report, exporting, formats, onnx_file, table
from keras_deit.exports.calibration import random_images
from keras_deit.exports.settings import ExportSettings
from keras_deit.exports.timing import median_milliseconds
from keras_deit.models.factory import float32_copy

REPORT = Report(
    path=pathlib.Path("model.tflite"),
    runtime="LiteRT",
    bytes=1_500_000,
    difference=0.01,
    agreement=0.5,
    images=4,
    higher_precision="",
    milliseconds=1.0,
    keras_milliseconds=2.0,
)


def test_disagreement_is_an_error_that_says_how_much():
    with pytest.raises(
        kd.UserError,
        match=r"differ by 1\.0e-02 of their standard deviation, and 0\.0001 is allowed; nothing",
    ):
        exporting._judge(REPORT, "none", 0.99)
    with pytest.raises(
        kd.UserError, match=r"50\.0% of 4 images have the same top-1, and 99\.0% is expected"
    ):
        exporting._judge(REPORT, "dynamic", 0.99)
    exporting._judge(REPORT, "float16", 0.99)
    exporting._judge(REPORT, "dynamic", 0.4)
    exporting._judge(REPORT, "dynamic", None)  # random images


@pytest.mark.slow
def test_file_that_disagrees_is_not_written(models, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "TOLERANCES", {"none": 0.0})
    with pytest.raises(kd.UserError, match="nothing was written"):
        kd.export(models["plain"], tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


IMAGES = np.zeros((2, 8, 8, 3), np.float32)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("model.pb", {}, r"expected .*\.tflite.* or no suffix"),
        ("existing.onnx", {}, "exists: expected another name, or overwrite"),
        ("folder", {"overwrite": True}, "is a folder, and no SavedModel"),
        ("file", {"overwrite": True}, "is a file: expected the name of a folder"),
        ("file/model.onnx", {}, "cannot write"),
        ("model.onnx", {"quantize": "int8"}, "quantize=int8: expected a .tflite file"),
        ("folder_", {"quantize": "dynamic"}, "quantize=dynamic: expected a .tflite file"),
        ("model.tflite", {"quantize": "int8"}, "expected calibration images"),
        ("model.tflite", {"calibration": IMAGES}, "expected calibration images with int8"),
        ("model.tflite", {"quantize": "int4"}, "expected none, float16, dynamic, int8"),
        ("model.onnx", {"batch": 0}, "expected a number above 0"),
        ("model.onnx", {"batch": None}, "expected a number above 0"),
        ("model.onnx", {"images": IMAGES}, r"expected \(count, 16, 24, 3\)"),
    ],
)
def test_wrong_arguments_are_one_line_and_write_nothing(models, tmp_path, name, options, message):
    (tmp_path / "existing.onnx").write_text("mine")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))

    with pytest.raises(kd.UserError, match=message) as error:
        kd.export(models["plain"], tmp_path / name, **options)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before
    assert (tmp_path / "existing.onnx").read_text() == "mine"


def test_unsupported_models_are_refused(tmp_path):
    regnet = kd.RegNetY(stem=8, depths=(1,), widths=(8,), group_width=8, num_classes=5)
    with pytest.raises(kd.UserError, match="expected a DeiT or RegNetY"):
        kd.export(keras.Sequential([keras.Input((3,))]), tmp_path / "model.onnx")
    with pytest.raises(kd.UserError, match="a RegNetY has no ONNX export"):
        kd.export(regnet, tmp_path / "model.onnx", image_size=8)
    with pytest.raises(kd.UserError, match="a RegNetY has no attention"):
        kd.export(regnet, tmp_path / "model.tflite", attention=True)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def mixed_globally():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_a_file_is_compared_with_a_float32_model(models, mixed_globally, tmp_path):
    """Whatever the global policy and the model's own are."""
    float32 = models["plain"]
    images = random_images(float32.image_size, 4, seed=1)
    expected = np.array(float32(images))

    mixed = kd.DeiT(**float32.fields)
    mixed.set_weights(float32.get_weights())
    assert np.abs(np.array(mixed(images)) - expected).max() > 1e-3 * expected.std()

    for name, model in {"float32": float32, "mixed": mixed}.items():
        path = tmp_path / f"{name}.onnx"
        report = kd.export(model, path, images=images)
        logits = formats.load(onnx_file, path)(images)
        assert np.abs(logits - expected).max() < 1e-4 * expected.std()
        assert 0 < report.difference < 1e-4


def test_a_bfloat16_function_does_not_agree_with_its_float32_model(models):
    float32 = models["plain"]
    mixed = kd.DeiT(**float32.fields, dtype="mixed_bfloat16")
    mixed.set_weights(float32.get_weights())
    images = random_images(float32.image_size, 4, seed=1)
    settings = ExportSettings(float32.image_size)

    for model in (float32, mixed):
        copy = float32_copy(model)
        reference = exporting._reference(model, copy)
        plan = exporting._Plan(
            REPORT.path, onnx_file, settings, copy, reference, images, agreement=None
        )
        difference, _ = exporting._compare(plan, lambda batch: np.array(mixed(batch)))
        assert difference > exporting.TOLERANCES["none"]

    with pytest.raises(kd.UserError, match="has layers of another dtype"):
        exporting._reference(mixed, mixed)


@pytest.mark.slow
def test_lora_is_merged_and_int8_is_refused(models, tmp_path):
    model = kd.DeiT(**models["plain"].fields)
    layer = model.blocks[0].mlp.fc1
    layer.enable_lora(2)
    layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape))
    images = random_images(model.image_size, 4, seed=1)
    assert kd.export(model, tmp_path / "model.onnx", images=images).difference < 1e-4
    logits = formats.load(onnx_file, tmp_path / "model.onnx")(images)
    np.testing.assert_allclose(logits, model(images), atol=1e-4)

    model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    with pytest.raises(kd.UserError, match="quantized to int8"):
        kd.export(model, tmp_path / "other.onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]


def test_table_has_a_row_for_each_report():
    assert table([REPORT, REPORT]).splitlines() == [
        "| file | runtime | MB | largest difference | same top-1 | ms | Keras, ms | ratio |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        *["| model.tflite | LiteRT | 1.5 | 1.0e-02 | 50.0% of 4 | 1.0 | 2.0 | 0.50 |"] * 2,
    ]


def test_functions_are_timed_in_turn():
    calls = []
    milliseconds = median_milliseconds(lambda: calls.append("a"), lambda: calls.append("b"))
    assert len(milliseconds) == 2
    assert min(milliseconds) >= 0
    assert calls[:4] == ["a", "b", "a", "b"]
    assert calls.count("a") == calls.count("b") == 16  # the first is not timed
