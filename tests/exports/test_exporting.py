"""``kd.export``: wrong arguments, and files that disagree with their model."""

import pathlib

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.exports import Report, exporting, table
from keras_deit.exports.timing import median_milliseconds

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
