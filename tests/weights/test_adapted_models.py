"""Weight files of models with LoRA, int8 or a dtype policy: float32 and merged, or refused."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file

import keras_deit as kd
from keras_deit.models.lora import adapter_settings
from keras_deit.weights import describe
from tests.models.test_lora import adapt, quantize
from tests.models.test_policies import FAMILIES, FAMILY, IMAGES


@FAMILY
def test_pretrained_weights_have_lora_merged(make, tmp_path):
    model = adapt(make())
    kd.save_pretrained(model, tmp_path / "model.safetensors")
    again = kd.load(tmp_path / "model.safetensors")
    assert not adapter_settings(again)
    np.testing.assert_allclose(again(IMAGES), model(IMAGES), atol=1e-5)


def test_a_keras_file_with_lora_is_described_and_loads_with_other_fields(tmp_path):
    model = adapt(FAMILIES["deit"]())
    model.save(tmp_path / "model.keras")
    assert describe(tmp_path / "model.keras").fields == model.fields
    merged = kd.load(tmp_path / "model.keras", drop_path=0.1)
    assert not adapter_settings(merged)
    np.testing.assert_allclose(merged(IMAGES), model(IMAGES), atol=1e-5)


@pytest.mark.slow
@FAMILY
def test_int8_weights_are_refused_before_anything_is_written(make, tmp_path):
    model = quantize(make())
    with pytest.raises(kd.UserError, match="quantized to int8") as error:
        kd.save_pretrained(model, tmp_path / "model.safetensors")
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())

    model.save(tmp_path / "model.keras")
    assert describe(tmp_path / "model.keras").fields == model.fields
    with pytest.raises(kd.UserError, match="quantized to int8"):
        kd.load(tmp_path / "model.keras", num_classes=7)


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "bfloat16", "float64"])
def test_pretrained_weights_are_float32(dtype, tmp_path):
    model = FAMILIES["deit"](dtype=dtype)
    kd.save_pretrained(model, tmp_path / "model.safetensors")
    tensors = load_file(tmp_path / "model.safetensors")
    assert {value.dtype.name for value in tensors.values()} == {"float32"}
    np.testing.assert_array_equal(
        tensors["head.weight"].T, keras.ops.cast(model.head.kernel, "float32")
    )
