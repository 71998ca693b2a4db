"""LiteRT files of fewer bits: they decide as the model does."""

import pytest

import keras_deit as kd
from keras_deit.data import datasets
from keras_deit.exports import graphs, litert, spread, table
from tests.conftest import recipe


@pytest.mark.parametrize(
    ("kept", "products", "softmax"),
    [(litert.NOTHING, "int8", "int8"), (litert.PRODUCTS, "int8", "float32")],
)
def test_what_is_kept_stays_in_float32(kept, products, softmax, tmp_path):
    """By the types of what goes into the operations of the file."""
    from ai_edge_litert.interpreter import Interpreter

    model, images = graphs.plain(kd.build("deit_digits")), graphs.sample((8, 8), 4)
    path = tmp_path / "model.tflite"
    litert.write(model, path, (8, 8), 1.0, 1, quantize="int8", calibration=images, kept=kept)
    interpreter = Interpreter(str(path))
    kinds = {of["index"]: of["dtype"].__name__ for of in interpreter.get_tensor_details()}
    found = {}
    for operation in interpreter._get_ops_details():
        first = kinds[operation["inputs"][0]]
        found.setdefault(operation["op_name"], set()).add(first)
    assert (found["FULLY_CONNECTED"], found["SOFTMAX"]) == ({products}, {softmax})


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
