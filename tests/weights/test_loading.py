"""Loading and saving: the published function, strictly."""

import json

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

import keras_deit as kd
from keras_deit.utils import logs
from keras_deit.weights.positions import resample
from tests.conftest import GOLDENS
from tests.parameters import DISTILLED, PLAIN, TINY, assert_heads, load, parameters


@pytest.mark.parametrize(("name", "variant"), [("deit", PLAIN), ("deit_distilled", DISTILLED)])
def test_timm_safetensors(name, variant, golden, tmp_path):
    truth = golden(name)
    save_file(parameters(truth), tmp_path / "whatever.bin")  # the name does not matter
    assert_heads(load(tmp_path / "whatever.bin", variant), truth)


@pytest.mark.parametrize(
    ("name", "variant"), [("transformers", PLAIN), ("transformers_distilled", DISTILLED)]
)
def test_transformers_safetensors(name, variant, golden):
    model = load(GOLDENS / f"{name}.safetensors", variant, image_size=24)
    assert_heads(model, golden(name))


def test_current_module_names_of_transformers(golden, tmp_path):
    names = {
        ".encoder.layer.": ".layers.",
        ".attention.attention.query.": ".attention.q_proj.",
        ".attention.attention.key.": ".attention.k_proj.",
        ".attention.attention.value.": ".attention.v_proj.",
        ".attention.output.dense.": ".attention.o_proj.",
        ".intermediate.dense.": ".mlp.fc1.",
        ".output.dense.": ".mlp.fc2.",
    }
    state = {}
    for key, value in load_file(GOLDENS / "transformers_distilled.safetensors").items():
        for old, new in names.items():
            key = key.replace(old, new)
        state[key] = value
    save_file(state, tmp_path / "state")
    model = load(tmp_path / "state", image_size=24)
    assert_heads(model, golden("transformers_distilled"))


def test_regnety_safetensors(golden, tmp_path):
    truth = golden("regnety")
    state = parameters(truth) | {"stem.bn.num_batches_tracked": np.array(7)}
    save_file(state, tmp_path / "regnety")
    depths, widths = (truth[name].tolist() for name in ("depths", "widths"))
    shape = {"stem": 8, "depths": depths, "widths": widths, "group_width": 8, "num_classes": 5}
    model = kd.load(tmp_path / "regnety", "regnety_160", **shape)
    np.testing.assert_allclose(model(truth["images"]), truth["logits"], atol=1e-4)
    kd.save_pretrained(model, tmp_path / "again.safetensors")
    again = load_file(tmp_path / "again.safetensors")
    assert again.keys() == parameters(truth).keys()
    for name, value in parameters(truth).items():
        np.testing.assert_array_equal(again[name], value)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float64"])
def test_other_precisions(dtype, golden, tmp_path):
    truth = golden("deit_distilled")
    save_file({k: v.astype(dtype) for k, v in parameters(truth).items()}, tmp_path / "file")
    model = load(tmp_path / "file")
    assert model.head.kernel.dtype == "float32"
    np.testing.assert_allclose(model(truth["images"]), truth["fused"], atol=0.1)


def test_saved_folders_are_as_timm_writes_them(golden, file, tmp_path):
    truth = parameters(golden("deit_distilled"))
    kd.save_pretrained(load(file), tmp_path / "hub")
    again = load_file(tmp_path / "hub" / "model.safetensors")
    assert again.keys() == truth.keys()
    for name, value in truth.items():
        np.testing.assert_array_equal(again[name], value)

    config = json.loads((tmp_path / "hub" / "config.json").read_text())
    assert config["architecture"] == "deit_tiny_distilled_patch16_224"
    assert config["num_classes"] == config["pretrained_cfg"]["num_classes"] == 5
    assert config["model_args"]["img_size"] == [24, 16]

    with safe_open(tmp_path / "hub" / "model.safetensors", "np") as opened:
        assert opened.metadata()["format"] == "pt"  # which transformers requires
    assert_heads(kd.load(tmp_path / "hub"), golden("deit_distilled"))


def test_a_folder_of_timm_loads_by_its_config(golden, file, tmp_path):
    kd.save_pretrained(load(file), tmp_path / "hub")
    state = load_file(tmp_path / "hub" / "model.safetensors")
    save_file(state, tmp_path / "hub" / "model.safetensors", {"format": "pt"})  # as timm does
    assert_heads(kd.load(tmp_path / "hub"), golden("deit_distilled"))

    wide = kd.load(tmp_path / "hub", image_size=(16, 24))  # as many patches, 2x3 from 3x2
    grid = state["pos_embed"][0, 2:].reshape(3, 2, 12)
    np.testing.assert_allclose(
        np.array(wide.tokens.pos_embed)[0, 2:], resample(grid, 2, 3).reshape(6, 12), atol=1e-6
    )


def test_a_truncated_weights_file_is_said_to_be_one(tmp_path):
    path = tmp_path / "a.weights.h5"
    kd.build("deit_digits").save_weights(path)
    path.write_bytes(path.read_bytes()[:100_000])
    with pytest.raises(kd.UserError, match=r"hold the weights of deit_digits: .*truncated file"):
        kd.load(path, variant="deit_digits")


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors"])
def test_our_own_files(suffix, golden, file, tmp_path):
    model, path = load(file), tmp_path / f"own{suffix}"
    if suffix == ".weights.h5":
        model.save_weights(path)
    elif suffix == ".keras":
        model.save(path)
    else:
        kd.save_pretrained(model, path)
    path = path.rename(tmp_path / "nameless")

    truth = golden("deit_distilled")
    assert_heads(load(path), truth)
    if suffix == ".weights.h5":  # it does not have its own resolution
        with pytest.raises(kd.UserError, match="positions of 6 patches, in no square"):
            load(path, image_size=(32, 40))
        return

    assert_heads(kd.load(path), truth)
    assert kd.load(path, drop_path=0.5).rate == 0.5
    wide = load(path, image_size=(32, 40))
    expected = resample(np.array(model.tokens.pos_embed)[0, 2:].reshape(3, 2, 12), 4, 5)
    np.testing.assert_allclose(
        np.array(wide.tokens.pos_embed)[0, 2:], expected.reshape(20, 12), atol=1e-6
    )


def test_every_parameter_that_does_not_fit_is_named(golden, tmp_path):
    state = parameters(golden("deit_distilled"))
    state["norm.wait"] = state.pop("norm.weight")
    state["blocks.1.attn.qkv.weight"] = np.zeros((36, 11), "float32")
    save_file(state, tmp_path / "file")

    with pytest.raises(kd.UserError) as error:
        load(tmp_path / "file")
    for line in (
        "missing: norm.weight",
        "unexpected: norm.wait",
        "of another shape: blocks.1.attn.qkv.weight (11, 36) for (12, 36)",
    ):
        assert line in str(error.value)


def test_new_heads_only_on_request(file, golden, capsys):
    shape = {"image_size": (24, 16), "patch_size": 8, "width": 12, "depth": 2, "heads": 3}
    assert_heads(kd.load(file, DISTILLED, **shape), golden("deit_distilled"))  # the file's classes
    assert "newly initialized" not in capsys.readouterr().out

    model = load(file, num_classes=7)
    assert "newly initialized: head.bias, head.weight, head_dist.bias" in capsys.readouterr().out
    assert model.head.kernel.shape == (12, 7)
    np.testing.assert_array_equal(
        model.norm.gamma, parameters(golden("deit_distilled"))["norm.weight"]
    )


def test_tokens_change_only_on_request(file, golden, tmp_path, capsys):
    truth = golden("deit_distilled")
    with pytest.raises(kd.UserError, match="has a distillation token and the model has none"):
        load(file, PLAIN)

    state = parameters(truth)
    model = load(file, PLAIN, change_tokens=True)
    np.testing.assert_array_equal(model.tokens.pos_embed, np.delete(state["pos_embed"], 1, axis=1))
    np.testing.assert_array_equal(model.head.bias, state["head.bias"])
    assert "newly initialized" not in capsys.readouterr().out

    save_file(parameters(golden("deit")), tmp_path / "plain")
    with pytest.raises(kd.UserError, match="has no distillation token and the model has one"):
        load(tmp_path / "plain")

    model = load(tmp_path / "plain", change_tokens=True)
    assert "newly initialized: dist_token, head_dist.bias, head_dist.w" in capsys.readouterr().out
    np.testing.assert_array_equal(
        np.delete(model.tokens.pos_embed, 1, axis=1), parameters(golden("deit"))["pos_embed"]
    )


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.safetensors", "no file nowhere.safetensors: expected a checkpoint file or one"),
        ("deit_digits", "deit_digits has no published weights"),
        (str(GOLDENS / "deit.npz"), "a zip file, but neither"),
        (
            str(GOLDENS / "transformers.safetensors"),
            "contains only weights: expected variant=<name>",
        ),
    ],
)
def test_wrong_sources_raise(source, message):
    with pytest.raises(kd.UserError, match=message):
        kd.load(source)


def test_a_model_in_a_name_scope_or_of_a_subclass_is_saved_alike(tmp_path):
    class Mine(kd.DeiT):
        pass

    with keras.name_scope("outer"):
        model = Mine(16, patch_size=8, width=12, depth=1, heads=3, num_classes=4)
    kd.save_pretrained(model, tmp_path / "mine.safetensors")
    again = kd.load(tmp_path / "mine.safetensors")
    np.testing.assert_array_equal(again.head.kernel, model.head.kernel)


def test_a_regnet_takes_any_image_size(tmp_path):
    kd.save_pretrained(kd.build("regnety_digits"), tmp_path / "teacher.safetensors")
    assert kd.load(tmp_path / "teacher.safetensors", image_size=8).num_classes == 10


def test_a_failed_save_leaves_no_config(file, tmp_path):
    model = load(file)
    (tmp_path / "hub" / "model.safetensors").mkdir(parents=True)
    with pytest.raises(kd.UserError, match="cannot write"):
        kd.save_pretrained(model, tmp_path / "hub")
    assert not (tmp_path / "hub" / "config.json").exists()

    with pytest.raises(kd.UserError, match="a folder without a suffix"):
        kd.save_pretrained(model, tmp_path / "model.pth")


def test_wrong_fields_and_models_raise(file, tmp_path):
    for source in (file, "deit_tiny_patch16_224"):  # the latter would be downloaded
        with pytest.raises(kd.UserError, match="unknown variant 'deit_huge'"):
            kd.load(source, "deit_huge")

    kd.save_pretrained(load(file), tmp_path / "own.safetensors")
    with pytest.raises(kd.UserError, match="no 'deepness'"):
        kd.load(tmp_path / "own.safetensors", deepness=3)
    with pytest.raises(kd.UserError, match="expected a DeiT or RegNetY"):
        kd.save_pretrained(keras.Sequential(), tmp_path / "x.safetensors")
    with pytest.raises(kd.UserError, match="cannot write"):
        kd.save_pretrained(load(file), file / "below.safetensors")


def test_given_class_names_replace_the_files_own(tmp_path):
    kd.DeiT(16, **TINY, class_names=list("abcde")).save(tmp_path / "model.keras")
    assert kd.load(tmp_path / "model.keras", drop_path=0.1).class_names == tuple("abcde")
    given = kd.load(tmp_path / "model.keras", class_names=list("vwxyz"))
    assert given.class_names == tuple("vwxyz")


def test_a_quiet_logger_prints_nothing(file, capsys):
    with logs.quiet():
        load(file, num_classes=7)
    assert capsys.readouterr().out == ""
