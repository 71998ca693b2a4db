"""PyTorch files: read if PyTorch is installed, and otherwise the error says what to do."""

import importlib.util

import pytest

import keras_deit as kd
from keras_deit.configs.variants import VARIANTS
from keras_deit.weights.torch_files import refusal
from tests.conftest import GOLDENS
from tests.parameters import DISTILLED, assert_heads, load

TORCH = importlib.util.find_spec("torch") is not None

# The texts of PyTorch's UnpicklingError, by version: for a training checkpoint, and for a file with
# a function to call.
REFUSALS = {
    "2.13": (
        "Weights only load failed. This file can still be loaded, to do so you have two options,"
        " \x1b[1mdo those steps only if you trust the source of the checkpoint\x1b[0m. \n\t(1) In"
        " PyTorch 2.6, we changed the default value of the `weights_only` argument in `torch.load`"
        " from `False` to `True`. [...]\n\tWeightsUnpickler error: Unsupported global: GLOBAL"
        " argparse.Namespace was not an allowed global by default. Please use"
        " `torch.serialization.add_safe_globals([argparse.Namespace])` [...]",
        "Weights only load failed. In PyTorch 2.6, we changed the default value of the"
        " `weights_only` argument in `torch.load` from `False` to `True`. [...]\n\n\nTrying to load"
        " unsupported GLOBAL posix.system whose module posix is blocked.\n\nCheck the documentation"
        " of torch.load to learn more about types accepted by default with weights_only [...]",
    ),
}


@pytest.mark.parametrize("name", ["deit_distilled.pth", "former.pth"])
def test_official_files(name, golden):
    if TORCH:
        assert_heads(load(GOLDENS / name), golden("deit_distilled"))
    else:
        with pytest.raises(kd.UserError, match="pip install torch, or load the same weights as"):
            load(GOLDENS / name)


def test_training_checkpoints_come_with_the_remedy():
    with pytest.raises(kd.UserError, match="add_safe_globals" if TORCH else "pip install torch"):
        load(GOLDENS / "training.pth")


@pytest.mark.parametrize("version", REFUSALS)
def test_training_checkpoints_are_told_from_harmful_files(version):
    checkpoint, harmful = (refusal("a.pth", message) for message in REFUSALS[version])
    assert "extract the weights, python -c" in checkpoint
    assert "contains pickled code, which is never run" in harmful
    assert "\n" not in checkpoint + harmful


def test_a_published_name_is_held_to_its_hash(tmp_path):
    path = tmp_path / VARIANTS[DISTILLED].published.file
    path.write_bytes((GOLDENS / "deit_distilled.pth").read_bytes())
    with pytest.raises(kd.UserError, match=r"not the published file.*not b40b3cf7"):
        kd.load(path)
