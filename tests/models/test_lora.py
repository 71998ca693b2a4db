"""LoRA and int8, which Keras adds to a model's layers, in .keras files and in float32 copies."""

import copy

import keras
import numpy as np
import pytest

import keras_deit as kd
from keras_deit.models.factory import float32_copy
from keras_deit.models.lora import adapter_settings
from keras_deit.models.policies import quantized_layers
from tests.models.test_policies import FAMILIES, FAMILY, IMAGES


def adapt(model):
    """Adds adapters to a dense layer and a convolution, with values as after training."""
    layers = {
        "DeiT": lambda: [model.blocks[1].attn.qkv, model.patch_embed.proj],
        "RegNetY": lambda: [model.blocks[1].excite, model.stem],
    }[type(model).__name__]()
    layers[0].enable_lora(2, lora_alpha=3)
    layers[1].enable_lora(3)
    for layer in layers:
        layer.lora_kernel_b.assign(keras.random.normal(layer.lora_kernel_b.shape))
    return model


def quantize(model):
    # Keras warns of each layer that has nothing to quantize.
    model.quantize("int8", filters=lambda layer: isinstance(layer, keras.layers.Dense))
    return model


def changed(make, change):
    """A model, its logits, and the model and its logits after a change."""
    model = make()
    before = np.array(model(IMAGES))
    change(model)
    logits = np.array(model(IMAGES))
    assert np.abs(logits - before).max() > 0
    return model, logits


@pytest.mark.slow
@FAMILY
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_keras_file_keeps_lora(make, dtype, tmp_path):
    model, logits = changed(lambda: make(dtype=dtype), adapt)
    model.save(tmp_path / "model.keras")
    keras.saving.save_model(model, tmp_path / "other.keras")

    for again in (
        keras.saving.load_model(tmp_path / "model.keras"),
        kd.load(tmp_path / "other.keras"),
        copy.deepcopy(model),
    ):
        assert adapter_settings(again) == adapter_settings(model)
        assert len(adapter_settings(model)) == 2
        np.testing.assert_array_equal(again(IMAGES), logits)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(one, other)


def test_weights_are_merged_and_their_adapter_trains(tmp_path):
    model, logits = changed(FAMILIES["deit"], adapt)
    model.save_weights(tmp_path / "model.weights.h5")

    plain, adapted = FAMILIES["deit"](), adapt(FAMILIES["deit"]())
    for again in (plain, adapted):
        again.load_weights(tmp_path / "model.weights.h5")
        np.testing.assert_allclose(again(IMAGES), logits, atol=1e-5)

    adapted.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(True))
    adapted.fit(IMAGES, np.eye(5, dtype="float32")[:3], verbose=0)
    changes = [np.array(v).any() for v in adapted.trainable_variables if "kernel_b" in v.name]
    assert changes == [True, True]


def test_files_of_models_around_one_with_lora(tmp_path):
    model, logits = changed(FAMILIES["deit"], adapt)
    images = keras.Input((24, 16, 3))

    outer = keras.Model(images, model(images))
    outer.save(tmp_path / "outer.keras")
    np.testing.assert_array_equal(keras.saving.load_model(tmp_path / "outer.keras")(IMAGES), logits)
    keras.saving.save_weights(outer, tmp_path / "outer.weights.h5")
    plain = keras.Model(images, FAMILIES["deit"]()(images))
    plain.load_weights(tmp_path / "outer.weights.h5")
    np.testing.assert_allclose(plain(IMAGES), logits, atol=1e-5)

    # The config of the layers alone does not describe their adapters, so that these are merged.
    features = keras.Model(images, model.head_features(images))
    features.save(tmp_path / "features.keras")
    again = keras.saving.load_model(tmp_path / "features.keras")
    np.testing.assert_allclose(again(IMAGES), features(IMAGES), atol=1e-5)


@pytest.mark.slow
@FAMILY
def test_a_keras_file_keeps_int8(make, tmp_path):
    model, logits = changed(make, quantize)
    for name in ("once", "twice"):
        model.save(tmp_path / f"{name}.keras")
        model = kd.load(tmp_path / f"{name}.keras")
        assert len(quantized_layers(model)) == {"DeiT": 10, "RegNetY": 7}[type(model).__name__]
        np.testing.assert_array_equal(model(IMAGES), logits)


@pytest.mark.slow
def test_a_keras_file_keeps_int8_with_lora(tmp_path):
    model, logits = changed(lambda: quantize(FAMILIES["deit"]()), adapt)
    model.save(tmp_path / "model.keras")
    again = kd.load(tmp_path / "model.keras")
    assert adapter_settings(again) == adapter_settings(model)
    assert len(quantized_layers(again)) == 10
    np.testing.assert_array_equal(again(IMAGES), logits)


@pytest.mark.slow
def test_models_with_a_map_of_policies_are_quantized(tmp_path):
    chosen = keras.dtype_policies.DTypePolicyMap(
        "float32", {"model/blocks.0": keras.DTypePolicy("mixed_bfloat16")}
    )
    model, logits = changed(lambda: FAMILIES["deit"](dtype=chosen), quantize)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(kd.load(tmp_path / "model.keras")(IMAGES), logits)


@FAMILY
@pytest.mark.parametrize("dtype", ["float32", "mixed_bfloat16"])
def test_a_float32_copy_has_lora_merged(make, dtype):
    model = adapt(make(dtype=dtype))
    merged = float32_copy(model)
    assert not adapter_settings(merged)
    assert [v.shape for v in merged.weights] == [v.shape for v in make().weights]

    expected = model
    if dtype != "float32":
        expected = adapt(make(dtype="float32"))
        expected.set_weights(model.get_weights())
    np.testing.assert_allclose(merged(IMAGES), expected(IMAGES), atol=1e-5)


@FAMILY
def test_a_float32_copy_is_float32_under_any_policy(make):
    model = make(dtype="float32")
    policies = keras.dtype_policies.DTypePolicyMap(
        "mixed_bfloat16", {"model/head": keras.DTypePolicy("float32")}
    )
    mixed = make(dtype=policies)
    mixed.set_weights(model.get_weights())
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        for each in (model, mixed):
            np.testing.assert_array_equal(float32_copy(each)(IMAGES), model(IMAGES))
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.mark.slow
@FAMILY
def test_a_float32_copy_of_int8_is_refused(make):
    with pytest.raises(kd.UserError, match="is quantized to int8 and this needs float weights"):
        float32_copy(quantize(make()))
