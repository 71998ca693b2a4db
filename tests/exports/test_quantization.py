"""Quantized LiteRT files: which operations are int8, and whether they predict as the model does."""

import dataclasses

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.exports import litert, sample_images
from keras_deit.exports.calibration import random_images
from keras_deit.exports.settings import (
    DYNAMIC_PRODUCTS,
    INT8_LEVELS,
    INT8_ONLY,
    INT8_PRODUCTS,
    ExportSettings,
)


@pytest.mark.parametrize(
    ("level", "products", "softmax"),
    [
        (INT8_ONLY, "int8", "int8"),
        (INT8_PRODUCTS, "int8", "float32"),
        (DYNAMIC_PRODUCTS, "float32", "float32"),
    ],
)
def test_higher_precision_of_operations(level, products, softmax, tmp_path):
    """By the types of the operations' first inputs."""
    from ai_edge_litert.interpreter import Interpreter

    model = kd.build("deit_digits")
    path = tmp_path / "model.tflite"
    settings = ExportSettings(
        (8, 8),
        batch=1,
        quantize="int8",
        calibration=random_images((8, 8), 4),
        higher_precision=level,
    )
    litert.write(model, path, settings)

    interpreter = Interpreter(str(path))
    dtypes = {row["index"]: row["dtype"].__name__ for row in interpreter.get_tensor_details()}
    input_dtypes = {}
    for operation in litert.operations(interpreter):
        first = dtypes[operation["inputs"][0]]
        input_dtypes.setdefault(operation["op_name"], set()).add(first)
    assert input_dtypes["FULLY_CONNECTED"] == {products}
    assert input_dtypes["SOFTMAX"] == {softmax}


@pytest.fixture(scope="module")
def trained(data_dir):
    """A DeiT that knows the digits a little."""
    keras.utils.set_random_seed(0)
    data = datasets.load("digits", "train", data_dir)
    images = sample_images("digits", "train", len(data), data_dir, (8, 8), 1.0)
    labels = np.array([data[i][1] for i in range(len(data))])

    model = kd.build("deit_digits")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-3), loss, jit_compile=False)
    model.fit(images, labels, batch_size=64, epochs=8, verbose=0)
    return model


@pytest.mark.slow
def test_quantized_files_predict_as_the_model_does(trained, tmp_path, data_dir):
    """On every test image; each file is smaller than the last, and further from the model."""
    images = sample_images("digits", "test", 1000, data_dir, (8, 8), 1.0)
    assert len(images) == len(datasets.load("digits", "test", data_dir))
    calibration = sample_images("digits", "train", 100, data_dir, (8, 8), 1.0)

    reports = {
        quantize: kd.export(
            trained,
            tmp_path / f"{quantize}.tflite",
            quantize=quantize,
            images=images,
            calibration=calibration if quantize == "int8" else None,
        )
        for quantize in ("none", "float16", "dynamic", "int8")
    }
    assert all(report.agreement >= 0.99 for report in reports.values())
    difference = {quantize: report.difference for quantize, report in reports.items()}
    assert difference["none"] < 1e-4 < difference["float16"] < 1e-2 < difference["dynamic"] < 0.5
    size = {quantize: report.bytes for quantize, report in reports.items()}
    assert size["float16"] < 0.7 * size["none"]
    assert max(size["dynamic"], size["int8"]) < 0.5 * size["none"]
    assert reports["int8"].higher_precision in INT8_LEVELS


def test_sample_images_are_evenly_spaced(data_dir):
    data = datasets.load("digits", "test", data_dir)
    images = sample_images("digits", "test", 3, data_dir, (8, 8), 1.0)
    assert images.shape == (3, 8, 8, 3)
    everything = sample_images("digits", "test", len(data), data_dir, (8, 8), 1.0)
    np.testing.assert_array_equal(images, everything[[0, round((len(data) - 1) / 2), -1]])


def test_sample_images_skip_unreadable_ones(tmp_path, photographs):
    from PIL import Image

    folder = tmp_path / "test" / "flower"
    folder.mkdir(parents=True)
    Image.fromarray(photographs[1]).save(folder / "a.png")
    (folder / "b.png").write_bytes((folder / "a.png").read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"b\.png.*: skipped"):
        images = sample_images(f"folder:{tmp_path}", "test", 10, size=(16, 24))
    assert images.shape == (1, 16, 24, 3)
    (folder / "a.png").unlink()
    with (
        pytest.warns(UserWarning, match="skipped"),
        pytest.raises(kd.UserError, match="none of 1 images can be read"),
    ):
        sample_images(f"folder:{tmp_path}", "test", 10)


def test_settings_cannot_be_changed():
    with pytest.raises(dataclasses.FrozenInstanceError):
        ExportSettings((8, 8)).batch = 2
