"""A recipe under another global dtype policy: its models are as the recipe says."""

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.models.policies import is_float32, layer_policy
from keras_deit.utils.keras_private import all_layers
from tests.conftest import recipe


@pytest.fixture
def mixed_globally():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@pytest.mark.usefixtures("mixed_globally")
@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_run_returns_and_saves_float32_models(precision, data_dir, tmp_path):
    row = recipe("digits_none", "ema=0.9", f"precision={precision}")
    images = np.random.default_rng(0).normal(size=(3, 8, 8, 3)).astype("float32")

    trained = kd.train(row, tmp_path / "run", data_dir, quiet=True)
    finished = kd.train(row, tmp_path / "run", data_dir, quiet=True)
    last = kd.load(tmp_path / "run" / "last.keras")
    best = keras.saving.load_model(tmp_path / "run" / "best.keras")
    average = kd.load(tmp_path / "run" / "average.keras")

    for model in (trained, finished, last, best, average):
        assert is_float32(model)
    for model in (finished, last):
        np.testing.assert_array_equal(model(images), trained(images))
    assert keras.config.dtype_policy().name == "mixed_bfloat16"


@pytest.mark.usefixtures("mixed_globally")
def test_a_recipes_precision_is_that_of_its_layers():
    from keras_deit.training import from_recipe

    for precision in ("float32", "mixed_bfloat16"):
        row = recipe("digits_none", f"precision={precision}")
        model = from_recipe.build(row, tuple("0123456789"), steps_per_epoch=2)
        assert {layer_policy(layer).name for layer in all_layers(model)} == {precision}
