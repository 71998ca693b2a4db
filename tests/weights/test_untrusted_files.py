"""Files that are damaged, hostile or not what they say: one clear line, and nothing runs."""

import importlib.util
import json
import pickle
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_deit as kd
from keras_deit.configs.variants import VARIANTS
from tests.conftest import GOLDENS
from tests.parameters import DISTILLED, TINY, assert_heads, load, parameters

TORCH = importlib.util.find_spec("torch") is not None


def files(file, folder):
    """One file of each format."""
    load(file).save(folder / "a.keras")
    load(file).save_weights(folder / "a.weights.h5")
    return [file, folder / "a.keras", folder / "a.weights.h5", GOLDENS / "deit_distilled.pth"]


@pytest.mark.parametrize("share", [0.0, 1e-3, 0.3, 0.9, 0.9999])
def test_truncated_files_are_one_line(share, file, tmp_path):
    for path in files(file, tmp_path):
        content = path.read_bytes()
        (tmp_path / "cut").write_bytes(content[: int(share * len(content))])
        with pytest.raises(kd.UserError, match=str(tmp_path / "cut")) as error:
            load(tmp_path / "cut")
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


@pytest.mark.parametrize("name", ["deit_distilled.pth", "former.pth"])
def test_official_files(name, golden):
    """Read where PyTorch is, and otherwise it is said what to do."""
    if TORCH:
        assert_heads(load(GOLDENS / name), golden("deit_distilled"))
    else:
        with pytest.raises(kd.UserError, match="pip install torch, or load the same weights as"):
            load(GOLDENS / name)


def test_training_checkpoints_come_with_the_remedy():
    with pytest.raises(kd.UserError, match="add_safe_globals" if TORCH else "pip install torch"):
        load(GOLDENS / "training.pth")


def test_a_published_name_is_held_to_its_hash(tmp_path):
    path = tmp_path / VARIANTS[DISTILLED].published.file
    path.write_bytes((GOLDENS / "deit_distilled.pth").read_bytes())
    with pytest.raises(kd.UserError, match=r"not the published file.*not b40b3cf7"):
        kd.load(path)


@pytest.mark.parametrize("length", range(8, 257, 8))
def test_a_header_of_any_length_is_one_of_safetensors(length, golden, tmp_path):
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
    with pytest.raises(kd.UserError, match=str(tmp_path)) as error:
        kd.load(tmp_path / "file")
    assert "\n" not in str(error.value)
    save_file(parameters(truth), tmp_path / "file", metadata(fields))
    assert_heads(kd.load(tmp_path / "file"), truth)


def test_classes_stay_ours(tmp_path):
    """Keras would make a class one of functional models that is given inputs and outputs."""
    for kind in (kd.DeiT, kd.RegNetY):
        before = kind.__mro__
        with pytest.raises(TypeError, match="unexpected argument 'inputs'"):
            kind(8, (1,), (8,), 8, inputs=1, outputs=2)
        assert kind.__mro__ == before
        assert "Functional" not in [base.__name__ for base in before]


@pytest.mark.parametrize(
    ("name", "value", "says"),
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
def test_odd_tensors_are_one_line(name, value, says, golden, tmp_path):
    save_file({**parameters(golden("deit_distilled")), name: value}, tmp_path / "file")
    with pytest.raises(kd.UserError, match=says) as error:
        load(tmp_path / "file")
    assert "\n" not in str(error.value)
