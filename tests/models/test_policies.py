"""Dtype policies reach every layer, and are saved and restored layer by layer."""

import keras
import numpy as np
import pytest
from keras.dtype_policies import DTypePolicy, DTypePolicyMap

import keras_deit as kd
from keras_deit.models.policies import layer_policy, paths
from keras_deit.utils.keras_private import all_layers

IMAGES = np.random.default_rng(0).normal(size=(3, 24, 16, 3)).astype("float32")

# With dropout, so that all layers that a model may have are there.
FAMILIES = {
    "deit": lambda **options: kd.DeiT(
        (24, 16), 8, 12, 2, 3, num_classes=5, dropout=0.1, name="model", **options
    ),
    "regnety": lambda **options: kd.RegNetY(
        8, (1, 2), (8, 16), 8, num_classes=5, name="model", **options
    ),
}
FAMILY = pytest.mark.parametrize("make", FAMILIES.values(), ids=FAMILIES)

# Some layers of each family, by the end of their names in it.
SOME = {
    "DeiT": ["patch_embed/.*", "blocks.1/attn.*", "blocks.0/mlp", "blocks.0/drop_path", "norm"],
    "RegNetY": ["stem.conv", "s1.b1/conv2.conv.*", "s2.b1/se.fc2", "s2.b2/conv3.bn", "head.fc"],
}


@pytest.fixture
def mixed_globally():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def policies(model):
    return {path: layer_policy(layer).name for path, layer in paths(model).items()}


def assert_reloads_equal(model, folder):
    """That a saved model has the same policies and outputs, which are those of its heads."""
    model.save(folder / "model.keras")
    keras.config.set_dtype_policy("float32")
    again = keras.saving.load_model(folder / "model.keras")

    assert policies(again) == policies(model)
    assert [v.dtype for v in again.variables] == [v.dtype for v in model.variables]
    for each in (model, again):
        logits = each(IMAGES)
        heads = each.logits(IMAGES)
        assert logits.dtype == "float32"
        np.testing.assert_array_equal(logits, sum(heads) / len(heads))
        np.testing.assert_array_equal(logits, model(IMAGES))


@pytest.mark.slow
@FAMILY
@pytest.mark.parametrize(
    "dtype",
    ["mixed_bfloat16", DTypePolicy("mixed_float16"), "bfloat16", "float32", "float64"],
    ids=str,
)
def test_a_dtype_reaches_every_layer_and_is_saved(make, dtype, mixed_globally, tmp_path):
    model = make(dtype=dtype)
    name = keras.dtype_policies.get(dtype).name
    assert {layer_policy(layer).name for layer in all_layers(model)} == {name}
    assert len(paths(model)) == len(all_layers(model)) - 1  # every layer is built, but the model
    assert_reloads_equal(model, tmp_path)


@FAMILY
def test_the_global_policy_is_saved(make, mixed_globally, tmp_path):
    model = make()
    assert set(policies(model).values()) == {"mixed_bfloat16"}
    assert_reloads_equal(model, tmp_path)


@pytest.mark.slow
@FAMILY
@pytest.mark.parametrize(("default", "other"), [("mixed_bfloat16", "float32"), (None, "bfloat16")])
def test_a_map_of_policies_is_saved(make, default, other, mixed_globally, tmp_path):
    some = SOME[type(make()).__name__]
    chosen = DTypePolicyMap(default, {f"model/{path}": DTypePolicy(other) for path in some})
    model = make(dtype=chosen)

    # A plain name chooses one layer, and a pattern those in it too.
    expected = {
        path: other
        if any(pattern == path for pattern in chosen) or chosen[path].name == other
        else "mixed_bfloat16"
        for path in paths(model)
    }
    assert policies(model) == expected
    assert set(expected.values()) == {"mixed_bfloat16", other}
    assert_reloads_equal(model, tmp_path)


@FAMILY
def test_a_layers_own_policy_is_saved(make, tmp_path):
    model = make(dtype="mixed_bfloat16")
    before = model(IMAGES)
    model.blocks[1].dtype_policy = "float32"
    model.head.dtype_policy = "float32"
    assert np.abs(np.array(model(IMAGES)) - before).max() > 0
    assert_reloads_equal(model, tmp_path)


@FAMILY
def test_models_do_not_share_a_map(make):
    chosen = DTypePolicyMap("mixed_bfloat16", {"model/head": DTypePolicy("float32")})
    one, other = make(dtype=chosen), make(dtype=chosen)
    one.blocks[0].dtype_policy = "float32"
    assert layer_policy(other.blocks[0]).name == "mixed_bfloat16"


@pytest.mark.slow
def test_a_model_with_a_map_trains():
    """Residual branches of another policy are cast. (Of a RegNetY TensorFlow 2.21 crashes on CPUs:
    in the gradient of a bfloat16 convolution.)"""
    some = {f"model/{path}": DTypePolicy("float32") for path in SOME["DeiT"]}
    model = FAMILIES["deit"](dtype=DTypePolicyMap("mixed_bfloat16", some))
    model.compile(keras.optimizers.SGD(0.1), keras.losses.CategoricalCrossentropy(True))
    before = model.get_weights()
    model.fit(IMAGES, np.eye(5, dtype="float32")[:3], epochs=1, verbose=0)
    changes = [np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True)]
    assert np.isfinite(changes).all()
    assert max(changes) > 0


@FAMILY
def test_a_clone_has_the_policies(make, mixed_globally):
    model = make(dtype="float32")
    model.head.dtype_policy = "mixed_bfloat16"
    assert policies(keras.models.clone_model(model)) == policies(model)
