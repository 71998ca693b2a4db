"""Corrupt, hostile and mislabeled files end in an error of one line, and nothing in them runs."""

import json
import pickle
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_deit as kd
from keras_deit.weights import describe
from tests.conftest import GOLDENS
from tests.parameters import DISTILLED, TINY, assert_heads, load, parameters


def files(file, folder):
    """One file of each format."""
    model = load(file)
    model.save(folder / "a.keras")
    model.save_weights(folder / "a.weights.h5")
    return [file, folder / "a.keras", folder / "a.weights.h5", GOLDENS / "deit_distilled.pth"]


def test_truncated_files_are_one_line(file, tmp_path):
    cut = tmp_path / "cut"
    for path in files(file, tmp_path):
        content = path.read_bytes()
        for fraction in (0.0, 1e-3, 0.3, 0.9, 0.9999):
            cut.write_bytes(content[: int(fraction * len(content))])
            with pytest.raises(kd.UserError, match=str(cut)) as error:
                load(cut)
            assert "\n" not in str(error.value)


class Harm:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, "w")


def test_files_that_carry_code_run_nothing(tmp_path):
    harm = pickle.dumps({"model": Harm(str(tmp_path / "harm"))}, protocol=2)
    (tmp_path / "pickle").write_bytes(harm)
    with zipfile.ZipFile(tmp_path / "torch", "w") as archive:
        archive.writestr("archive/data.pkl", harm)
        archive.writestr("archive/version", "3\n")
        archive.writestr("archive/byteorder", "little")
    with zipfile.ZipFile(tmp_path / "other", "w") as archive:
        archive.writestr("code.py", "raise SystemExit")

    squared = keras.Sequential([keras.Input((2,)), keras.layers.Lambda(lambda x: x**2)])
    squared.save(tmp_path / "lambda.keras")
    (tmp_path / "text").write_text("import os")

    for name in ("pickle", "torch", "other", "lambda.keras", "text"):
        with pytest.raises(kd.UserError, match=name) as error:
            kd.load(tmp_path / name, DISTILLED)
        assert "\n" not in str(error.value)
    assert not (tmp_path / "harm").exists()


@pytest.mark.slow
@pytest.mark.parametrize("length", range(8, 257, 8))
def test_a_safetensors_header_of_any_length_is_recognized(length, golden, tmp_path):
    """The length comes first in the file, and its first byte may be that of another format."""
    state = {"head.bias": np.zeros(5, "float32")}
    for padding in range(600):
        save_file(state, tmp_path / "file", {"padding": "x" * padding})
        if (tmp_path / "file").read_bytes()[0] == length % 256:
            break
    with pytest.raises(kd.UserError, match="missing: blocks"):
        load(tmp_path / "file")


def metadata(fields, **changes):
    return {"keras_deit": json.dumps({**fields, **changes})}


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"inputs": 1, "outputs": 2},
        {"num_classes": 10**9},
        {"image_size": 200_000},
        {"image_size": "large"},
        {"patch_size": 0},
        {"mlp_ratio": "x"},
        {"depth": 3},
        {"class": "RegNetY"},
        {"class": "os.system"},
    ],
    ids=str,
)
def test_a_hostile_description_is_one_line_and_harms_nothing(changes, golden, tmp_path):
    truth, model = golden("deit_distilled"), kd.DeiT((24, 16), **TINY)
    fields = {"class": "DeiT", **model.fields}
    save_file(parameters(truth), tmp_path / "file", metadata(fields, **changes))
    for function in (kd.load, describe):
        with pytest.raises(kd.UserError, match=str(tmp_path)) as error:
            function(tmp_path / "file")
        assert "\n" not in str(error.value)

    save_file(parameters(truth), tmp_path / "file", metadata(fields))
    assert_heads(kd.load(tmp_path / "file"), truth)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("norm.bias", np.full(12, np.nan, "float32"), "norm.bias holds NaN"),
        ("norm.bias", np.zeros(12, "int8"), "norm.bias is of int8"),
        ("pos_embed", np.zeros((2, 8, 12), "float32"), "of another shape: pos_embed"),
        ("pos_embed", np.zeros(8, "float32"), "of another shape: pos_embed"),
        ("head.bias", np.zeros((), "float32"), "cannot be loaded"),
        ("x\n\x1b[31m", np.zeros(1, "float32"), r"unexpected: 'x\\n"),
        ("vit.embeddings.cls_token", np.zeros((1, 1, 12), "float32"), "two of its parameters"),
    ],
)
def test_odd_tensors_are_one_line(name, value, message, golden, tmp_path):
    save_file({**parameters(golden("deit_distilled")), name: value}, tmp_path / "file")
    with pytest.raises(kd.UserError, match=message) as error:
        load(tmp_path / "file")
    assert "\n" not in str(error.value)
