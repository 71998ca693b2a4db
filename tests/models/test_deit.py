"""DeiT computes timm's function, in every size, precision and mode of execution."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.models.dropout import DropPath
from keras_deit.models.factory import float32_copy
from tests.conftest import fill

TOLERANCE = 2e-6  # relative to the logits' range: float32 rounding


def build(distilled=True, **changes):
    fields = {"patch_size": 8, "width": 12, "depth": 2, "heads": 3, "num_classes": 5}
    return kd.DeiT((24, 16), **{**fields, **changes}, distilled=distilled)


@pytest.mark.slow
@pytest.mark.parametrize("distilled", [False, True])
def test_logits_match_timm(golden, distilled):
    truth = golden("deit_distilled" if distilled else "deit")
    model = fill(build(distilled), truth)

    logits = np.stack([np.array(head) for head in model.logits(truth["images"])])
    atol = TOLERANCE * 5 * np.ptp(truth["logits"])
    np.testing.assert_allclose(logits, truth["logits"], atol=atol, rtol=0)

    fused = model.predict(truth["images"], verbose=0)
    np.testing.assert_allclose(model(truth["images"]), truth["fused"], atol=atol, rtol=0)
    np.testing.assert_allclose(fused, truth["fused"], atol=atol)


def test_xla_gives_the_same_logits(golden):
    truth = golden("deit_distilled")
    compiled = tf.function(fill(build(), truth), jit_compile=True)
    atol = 1e-5 * np.ptp(truth["fused"])
    np.testing.assert_allclose(compiled(truth["images"]), truth["fused"], atol=atol, rtol=0)


OTHER_SIZES = {
    "image_size": (16, 32),
    "patch_size": 4,
    "width": 24,
    "depth": 3,
    "heads": 2,
    "num_classes": 7,
    "distilled": False,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHER_SIZES)
def test_every_size_changes_the_model(name):
    fields = {"image_size": (24, 16), "patch_size": 8, "width": 12, "depth": 2, "heads": 3}
    changed = kd.DeiT(**{**fields, "num_classes": 5, name: OTHER_SIZES[name]})
    images = np.ones((2, *changed.image_size, 3), "float32")
    assert changed(images).shape == (2, 7 if name == "num_classes" else 5)
    assert len(changed.logits(images)) == (1 if name == "distilled" else 2)

    if name != "heads":  # which splits the same weights differently
        original = kd.DeiT(**fields, num_classes=5)
        assert [v.shape for v in changed.weights] != [v.shape for v in original.weights]


def test_mlp_ratio_and_heads_change_the_function(golden):
    truth = golden("deit_distilled")
    assert build(mlp_ratio=2.0).count_params() < build().count_params()
    logits = fill(build(heads=4), truth)(truth["images"])
    assert np.abs(logits - truth["fused"]).max() > 1e-2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"image_size": 30, "patch_size": 16}, "multiples of 16"),
        ({"image_size": (32, 32, 3)}, r"an int or \(height, width\)"),
        ({"image_size": "large"}, "image_size 'large': expected an int"),
        ({"image_size": 32.0}, "image_size 32.0: expected an int"),
        ({"image_size": 32, "patch_size": 0.5}, "patch_size 0.5: expected an integer, 1 or more"),
        ({"image_size": 32, "drop_path": 1.0}, "below 1"),
        ({"image_size": 32, "depth": 0}, "1 or more"),
        ({"image_size": 32, "width": 100, "heads": 3}, "does not divide into 3 heads"),
    ],
)
def test_invalid_sizes_raise(fields, message):
    with pytest.raises(kd.UserError, match=message):
        kd.DeiT(**fields)


def test_numpy_integers_are_valid_sizes():
    model = kd.DeiT(np.int64(16), patch_size=np.int64(8), width=12, depth=1, heads=3)
    assert model.image_size == (16, 16)
    assert keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(model))


def test_images_of_another_size_raise(tiny):
    with pytest.raises(kd.UserError, match="expected"):
        tiny(np.zeros((1, 16, 24, 3), "float32"))


def test_initial_values_match_the_published_code():
    model = kd.DeiT(32, patch_size=16, width=192, depth=1, heads=3)

    for path, deviation in {"blocks.0/attn/qkv/kernel": 0.02, "tokens/pos_embed": 0.02}.items():
        (value,) = (np.array(v) for v in model.weights if v.path.endswith(path))
        assert abs(value.std() - deviation) < 2e-3
        assert np.abs(value).max() > 0.045 or value.size < 1000  # not truncated at two deviations

    kernel = np.array(model.patch_embed.proj.kernel)
    assert np.abs(kernel).max() == pytest.approx(768**-0.5, rel=1e-3)
    assert kernel.std() == pytest.approx((3 * 768) ** -0.5, rel=0.02)
    assert np.abs(np.array(model.patch_embed.proj.bias)).max() > 0.02
    assert not np.array(model.head.bias).any()


def test_attention_maps_are_distributions(golden):
    truth = golden("deit_distilled")
    maps = np.array(fill(build(), truth).attention_maps(truth["images"]))
    assert maps.shape == (3, 2, 3, 8, 8)  # images, blocks, heads, 2 + 3 * 2 tokens
    np.testing.assert_allclose(maps.sum(axis=-1), 1, rtol=1e-5)
    assert maps[:, :, :, 0].std() > 1e-2


def test_drop_path_drops_whole_images_and_keeps_the_mean():
    x = np.ones((2000, 3, 2), "float32")
    layer = DropPath(0.3)
    dropped = np.array(layer(x, training=True))
    assert set(np.unique(dropped)) == {np.float32(0), np.float32(1 / 0.7)}
    assert (dropped == dropped[:, :1, :1]).all()
    assert abs((dropped == 0).mean() - 0.3) < 0.04

    again = np.array(layer(x, training=True))
    assert abs((again == dropped).mean() - (0.3**2 + 0.7**2)) < 0.04  # independent
    np.testing.assert_array_equal(layer(x), x)


def test_drop_path_grows_with_depth_and_is_the_same_under_xla():
    assert [block.rate for block in build(depth=3, drop_path=0.4).blocks] == [0, 0.2, 0.4]

    outputs = []
    for jit_compile in (False, True):
        layer = DropPath(0.5)
        layer.seeds.state.assign([7, 0])
        run = tf.function(lambda x, layer=layer: layer(x, training=True), jit_compile=jit_compile)
        outputs.append(run(tf.ones((64, 1, 1))))
    np.testing.assert_array_equal(*outputs)


RELOAD = """
import sys, numpy as np, keras, keras_deit, warnings
with warnings.catch_warnings():
    warnings.simplefilter("error")
    model = keras.saving.load_model(sys.argv[1] + "/deit.keras")
assert not model.compiled
np.save(sys.argv[1] + "/fused.npy", model(np.load(sys.argv[1] + "/images.npy")))
"""


@pytest.mark.slow
def test_reloads_in_a_new_process_without_warnings(forks, golden, tmp_path):
    truth = golden("deit_distilled")
    model = fill(build(), truth)
    model.compile("sgd", "categorical_crossentropy")
    model.save(tmp_path / "deit.keras")
    np.save(tmp_path / "images.npy", truth["images"])

    done = forks.run(["-c", RELOAD, str(tmp_path)])
    assert not done.returncode, done.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "fused.npy"), model(truth["images"]))


def test_layers_and_models_rebuild_from_their_config(tiny):
    for layer in (tiny, *tiny.blocks, tiny.patch_embed, tiny.tokens, tiny.blocks[0].attn):
        again = type(layer).from_config(layer.get_config())
        assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "float64"])
def test_logits_are_float32_under_every_policy(policy):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        logits = build()(np.ones((1, 24, 16, 3)))
        assert logits.dtype == "float32"
        assert np.isfinite(np.array(logits)).all()
    finally:
        keras.config.set_dtype_policy(before)


def test_softmax_and_logits_are_float32_in_mixed_precision(tiny):
    images = np.random.default_rng(0).normal(size=(2, 24, 16, 3)).astype("float32")
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        mixed = kd.DeiT(**tiny.fields)
    finally:
        keras.config.set_dtype_policy("float32")
    mixed.set_weights(tiny.get_weights())

    attention, norm = mixed.blocks[0].attn, mixed.blocks[0].norm1
    tokens = mixed.tokens(mixed.patch_embed(images))
    assert tokens.dtype == "bfloat16"
    assert attention.attend(norm(tokens))[0].dtype == "float32"
    assert all(head.dtype == "float32" for head in mixed.logits(images))

    difference = np.abs(mixed(images) - tiny(images)).max()
    assert 0 < difference < 0.05
    np.testing.assert_array_equal(float32_copy(mixed)(images), tiny(images))  # as it is saved
