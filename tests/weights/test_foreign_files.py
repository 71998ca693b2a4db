"""Weights from anywhere: other numbers of classes, no heads, shards, wrappers, other models."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

import keras_deit as kd
from keras_deit.configs.class_names import imagenet_names
from keras_deit.configs.preprocessing import IMAGENET, Preprocessing
from keras_deit.utils import logs
from keras_deit.weights import describe
from keras_deit.weights.loading import has_distillation_token
from keras_deit.weights.sources import identity
from keras_deit.weights.torch_files import select
from tests.conftest import GOLDENS
from tests.parameters import DISTILLED, PLAIN, TINY, assert_heads, load, parameters

# The golden's shape but for its classes, which the file says.
SHAPE = {**{key: value for key, value in TINY.items() if key != "num_classes"}}
SHAPE["image_size"] = (24, 16)
HALF = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


@pytest.fixture
def state(golden):
    return parameters(golden("deit_distilled"))


def without_heads(state):
    return {name: value for name, value in state.items() if not name.startswith("head")}


def write_json(path, value):
    path.write_text(json.dumps(value))


# Heads.


def test_the_number_of_classes_is_the_files(file, golden):
    assert describe(file, DISTILLED).fields["num_classes"] == 5
    model = kd.load(file, DISTILLED, **SHAPE)
    assert (model.num_classes, model.class_names) == (5, None)
    assert_heads(model, golden("deit_distilled"))


@pytest.mark.parametrize("count", [5, 1000])
def test_weights_without_heads_get_new_ones(count, state, tmp_path, capsys):
    save_file(without_heads(state), tmp_path / "file")
    model = kd.load(tmp_path / "file", DISTILLED, new_heads=True, num_classes=count, **SHAPE)
    assert model.head.kernel.shape == (12, count)
    np.testing.assert_array_equal(model.norm.gamma, state["norm.weight"])
    assert "newly initialized: head.bias, head.weight, head_dist.b" in capsys.readouterr().out

    with pytest.raises(kd.UserError, match=r"missing: head.bias.*new_heads=True initializes heads"):
        kd.load(tmp_path / "file", DISTILLED, **SHAPE)


def test_a_deit_of_transformers_with_one_classifier_gets_new_heads(golden, tmp_path):
    """``DeiTForImageClassification``, and ``DeiTModel`` with its pooler."""
    from safetensors.numpy import load_file

    state = load_file(GOLDENS / "transformers_distilled.safetensors")
    body = {name: value for name, value in state.items() if "classifier" not in name}
    one = body | {"classifier.weight": state["cls_classifier.weight"]}
    one["classifier.bias"] = state["cls_classifier.bias"]
    pooler = {name.removeprefix("deit."): value for name, value in body.items()}
    pooler["pooler.dense.weight"] = np.zeros((12, 12), "float32")

    for tensors in (one, pooler):
        save_file(tensors, tmp_path / "file")
        model = load(tmp_path / "file", image_size=24, new_heads=True)
        expected = state["deit.layernorm.weight"]
        np.testing.assert_array_equal(model.norm.gamma, expected)

    save_file(one, tmp_path / "file")
    with pytest.raises(kd.UserError, match=r"missing: head_dist.*new_heads=True initializes"):
        load(tmp_path / "file", image_size=24)


# Configurations of timm and transformers.


def timm_folder(folder, tensors, **changes):
    """A folder as timm writes it."""
    config = {
        "architecture": "deit_tiny_distilled_patch16_224",
        "num_classes": 5,
        "model_args": {
            **{"img_size": [24, 16], "patch_size": 8, "embed_dim": 12, "depth": 2, "num_heads": 3},
            "drop_path_rate": 0.1,
        },
        "pretrained_cfg": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    }
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", {**config, **changes})
    return folder


def test_timms_classes_names_and_normalization(state, golden, tmp_path, capsys):
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    changes = {"label_names": list("abcde"), "pretrained_cfg": half}
    folder = timm_folder(tmp_path / "timm", state, **changes)
    model = kd.load(folder)
    assert_heads(model, golden("deit_distilled"))
    assert (model.class_names, model.preprocessing) == (tuple("abcde"), HALF)
    assert capsys.readouterr().out == ""

    by_variant = kd.load(folder, DISTILLED, **SHAPE)
    assert (by_variant.class_names, by_variant.preprocessing) == (tuple("abcde"), HALF)
    new = kd.load(folder, num_classes=3)
    assert (new.class_names, new.preprocessing) == (None, HALF)
    for suffix in (".keras", ".safetensors"):
        path = tmp_path / f"again{suffix}"
        model.save(path) if suffix == ".keras" else kd.save_pretrained(model, path)
        assert kd.load(path).preprocessing == HALF
        assert kd.load(path, drop_path=0.1).preprocessing == HALF

    names = {"4": "e", "0": "a", "2": "c", "1": "b", "3": "d"}
    folder = timm_folder(tmp_path / "dict", state, label_names=names)
    assert kd.load(folder).class_names == tuple("abcde")


def test_timms_vision_transformer_of_a_deits_shape(golden, tmp_path):
    tensors = parameters(golden("deit"))
    half = {"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}
    changes = {"architecture": "vit_tiny_patch16_224", "pretrained_cfg": half}
    model = kd.load(timm_folder(tmp_path / "vit", tensors, **changes))
    assert_heads(model, golden("deit"))
    assert (model.distilled, model.preprocessing) == (False, HALF)


def test_timms_weights_without_head(state, tmp_path):
    folder = timm_folder(tmp_path / "timm", without_heads(state), num_classes=0)
    assert kd.load(folder, new_heads=True, num_classes=3).num_classes == 3
    with pytest.raises(kd.UserError, match="new_heads=True initializes heads"):
        kd.load(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_args": {"act_layer": "relu"}}, "with act_layer='relu' is another function"),
        ({"model_args": {"global_pool": "avg"}}, "expected a model without global_pool"),
        ({"label_names": ["a", "b"]}, "expected a name for each of 5 classes"),
        ({"num_classes": 7}, "describes another model than it holds"),
        ({"architecture": "deit3_small_patch16_224"}, "expected variant="),
        ({"pretrained_cfg": {"mean": [0.5], "std": [0.5]}}, "expected 3 numbers"),
    ],
    ids=str,
)
def test_what_a_configuration_says_is_never_ignored(changes, message, state, tmp_path):
    folder = timm_folder(tmp_path / "timm", state, **changes)
    for function in (kd.load, describe):
        with pytest.raises(kd.UserError, match=message) as error:
            function(folder)
        assert "\n" not in str(error.value)


def test_published_weights_for_imagenet_have_its_names(tmp_path):
    model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3)
    config = {"model_args": kd.DeiT.timm_config(model)[1], "num_classes": 1000}
    kd.save_pretrained(model, tmp_path)
    from safetensors.numpy import load_file

    tensors = load_file(tmp_path / "model.safetensors")
    pretrained = {"tag": "fb_in1k", "num_classes": 1000}
    folder = timm_folder(tmp_path / "timm", tensors, pretrained_cfg=pretrained, **config)
    assert kd.load(folder).class_names == imagenet_names()
    assert describe(PLAIN).fields["class_names"] == list(imagenet_names())
    assert describe("deit_digits").fields["class_names"] is None


def transformers_folder(folder, name, processor=None, **changes):
    """A folder as transformers writes it, with a golden's weights."""
    config = {
        "model_type": "deit" if "distilled" in name else "vit",
        **{"hidden_size": 12, "num_hidden_layers": 2, "num_attention_heads": 3},
        **{"intermediate_size": 48, "image_size": 24, "patch_size": 8, "hidden_act": "gelu"},
        "id2label": {str(number): f"kind {number}" for number in range(5)},
    }
    folder.mkdir(exist_ok=True)
    (folder / "model.safetensors").write_bytes((GOLDENS / f"{name}.safetensors").read_bytes())
    write_json(folder / "config.json", {**config, **changes})
    if processor is not None:
        write_json(folder / "preprocessor_config.json", processor)
    return folder


@pytest.mark.parametrize("name", ["transformers", "transformers_distilled"])
def test_a_folder_of_transformers_loads_by_its_configuration(name, golden, tmp_path):
    processor = {"do_normalize": True, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    model = kd.load(transformers_folder(tmp_path / "hf", name, processor))
    assert_heads(model, golden(name))
    assert model.class_names == tuple(f"kind {number}" for number in range(5))
    assert model.preprocessing == HALF


def test_transformers_ways_to_say_a_normalization(tmp_path, capsys):
    def preprocessing(processor):
        return kd.load(
            transformers_folder(tmp_path / "hf", "transformers", processor)
        ).preprocessing

    ours = {"image_mean": list(IMAGENET.mean), "image_std": list(IMAGENET.std)}
    assert preprocessing(ours) == IMAGENET
    assert preprocessing({"do_normalize": False}) == Preprocessing((0, 0, 0), (1, 1, 1))
    doubled = {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3}
    np.testing.assert_allclose(preprocessing(doubled).mean, HALF.mean)
    np.testing.assert_allclose(preprocessing(doubled).std, HALF.std)

    assert "does not say" not in capsys.readouterr().out
    (tmp_path / "hf" / "preprocessor_config.json").unlink()
    assert preprocessing(None) == IMAGENET
    assert "does not say how images are normalized" in capsys.readouterr().out


@pytest.mark.parametrize("changes", [{"hidden_act": "relu"}, {"qkv_bias": False}], ids=str)
def test_another_function_of_transformers_is_refused(changes, tmp_path):
    folder = transformers_folder(tmp_path / "hf", "transformers", **changes)
    with pytest.raises(kd.UserError, match=f"vit with {next(iter(changes))}="):
        kd.load(folder)


def test_names_that_transformers_makes_up_are_none(tmp_path):
    made_up = {str(number): f"LABEL_{number}" for number in range(5)}
    folder = transformers_folder(tmp_path / "hf", "transformers", id2label=made_up)
    assert kd.load(folder).class_names is None


def test_a_given_preprocessing_replaces_the_files(state, tmp_path, capsys):
    model = kd.load(timm_folder(tmp_path / "timm", state), preprocessing=HALF)
    assert model.preprocessing == HALF
    save_file(state, tmp_path / "file")
    assert load(tmp_path / "file", preprocessing=HALF.fields).preprocessing == HALF
    assert capsys.readouterr().out == ""


# Shards, and wrappers.


def shard(folder, tensors, **changes):
    """A folder as transformers writes large models."""
    folder.mkdir()
    names = sorted(tensors)
    files = {name: f"model-0000{1 + i % 2}-of-00002.safetensors" for i, name in enumerate(names)}
    for file in set(files.values()):
        save_file({n: tensors[n] for n in names if files[n] == file}, folder / file)
    index = {"metadata": {"total_size": 1}, "weight_map": {**files, **changes}}
    write_json(folder / "model.safetensors.index.json", index)
    return folder


def test_shards_are_one_model(state, golden, tmp_path):
    folder = shard(tmp_path / "shards", state)
    assert describe(folder, DISTILLED).fields["num_classes"] == 5
    assert_heads(load(folder), golden("deit_distilled"))
    assert_heads(load(folder / "model.safetensors.index.json"), golden("deit_distilled"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"head.bias": "../outside.safetensors"}, "expected a file in its own folder"),
        ({"head.bias": "/etc/passwd"}, "expected a file in its own folder"),
        ({"head.bias": ".."}, "expected a file in its own folder"),
        ({"head.bias": 7}, "expected a file in its own folder"),
        ({"head.bias": []}, "cannot be loaded"),
        ({"head.bias": "model-00003-of-00003.safetensors"}, "which is not beside it"),
        ({"head.bias": "model-00002-of-00002.safetensors"}, "differ in 'head.bias'"),
        ({"extra": "model-00001-of-00002.safetensors"}, "differ in 'extra'"),
    ],
    ids=str,
)
def test_an_index_that_does_not_fit_is_one_line(changes, message, state, tmp_path):
    save_file(state, tmp_path / "outside.safetensors")
    folder = shard(tmp_path / "shards", state, **changes)
    with pytest.raises(kd.UserError, match=message) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("prefix", ["module.", "model.", "_orig_mod.module.", "module.model."])
def test_prefixes_of_wrappers_are_dropped(prefix, state, golden, tmp_path):
    save_file({prefix + name: value for name, value in state.items()}, tmp_path / "file")
    assert_heads(load(tmp_path / "file"), golden("deit_distilled"))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda state: state,
        lambda state: {"model": state, "model_ema": {"other": np.zeros(1)}},
        lambda state: {"state_dict": state, "epoch": 3},
        lambda state: {"model_ema": state, "optimizer": {}},
        lambda state: {"state_dict_ema": state},
        lambda state: {"model_ema": {"module": state, "n_averaged": np.array(3)}},
        lambda state: {"n_averaged": np.array(3), **state},
    ],
)
def test_parameters_are_found_in_checkpoints(wrap, state, capsys):
    wrapped = wrap(state)
    assert select("a.pth", wrapped, np.ndarray) == state
    both = {"model", "model_ema"} <= wrapped.keys()
    assert ("read 'model', and not 'model_ema'" in capsys.readouterr().out) == both


@pytest.mark.parametrize("content", [{}, [], {"student": {}, "teacher": {}}, {"model": {"a": 1}}])
def test_a_checkpoint_without_parameters_says_what_it_has(content):
    with pytest.raises(kd.UserError, match="holds no parameters by name") as error:
        select("a.pth", content, np.ndarray)
    assert ("it has 'student', 'teacher'" in str(error.value)) == ("student" in content)


# Other models.


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("blocks.0.ls1.gamma", (12,), "it is a DeiT III"),
        ("blocks.0.gamma_1", (12,), "it is a DeiT III"),
        ("mask_token", (1, 12), "it is a DINOv2"),
        ("reg_token", (1, 4, 12), "register tokens"),
        ("layers.0.blocks.0.norm1.weight", (12,), "it is a Swin"),
        ("blocks_token_only.0.gamma_1", (12,), "it is a CaiT"),
        ("layer1.0.conv1.weight", (8, 8, 3, 3), "it is a ResNet"),
    ],
)
def test_other_models_are_named(name, shape, message, state, tmp_path):
    save_file({**state, name: np.zeros(shape, "float32")}, tmp_path / "file")
    with pytest.raises(kd.UserError, match=f"{message}.*which is no model here"):
        load(tmp_path / "file")
    with pytest.raises(kd.UserError, match=f"contains only weights.*{message}"):
        kd.load(tmp_path / "file")


def test_weights_of_a_variant_are_told_by_their_shapes(tmp_path):
    model = kd.build(PLAIN, num_classes=7, image_size=32)
    path = tmp_path / "model.safetensors"
    kd.save_pretrained(model, path)
    from safetensors.numpy import load_file

    save_file(load_file(path), path)
    message = (
        r"expected variant=deit_tiny_patch16_224; it is a DeiT or ViT of width 192, depth 12,"
        r" patches of 16 pixels, images of 32 pixels, 7 classes"
    )
    with logs.quiet(), pytest.raises(kd.UserError, match=message):
        kd.load(path)
    assert kd.load(path, PLAIN, image_size=32).num_classes == 7
    with pytest.raises(kd.UserError, match="it is a DeiT or ViT of width 192"):
        kd.load(path, "deit_small_patch16_224")


# One model, whatever it is called.


def test_a_file_is_one_model_in_any_spelling(file, tmp_path, monkeypatch):
    folder = tmp_path / "folder"
    kd.save_pretrained(load(file), folder)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to(folder)
    spellings = ["folder", "folder/", "./folder", folder, f"{folder}/model.safetensors", "link"]
    assert {identity(spelling) for spelling in spellings} == {f"{folder}/model.safetensors"}
    with pytest.raises(kd.UserError, match="no file nowhere"):
        identity("nowhere")


def test_a_published_name_is_its_download_too(file, tmp_path, monkeypatch):
    from huggingface_hub import constants

    repository = f"models--{kd.VARIANTS[PLAIN].published.hub.replace('/', '--')}"
    snapshot = tmp_path / repository / "snapshots" / "0" / "model.safetensors"
    snapshot.parent.mkdir(parents=True)
    (tmp_path / repository / "refs").mkdir()
    (tmp_path / repository / "refs" / "main").write_text("0")
    snapshot.symlink_to(file)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    assert identity(snapshot.parent) == identity(snapshot) == identity(PLAIN) == PLAIN


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".safetensors", "bare"])
def test_tokens_are_those_of_the_file(suffix, file, tmp_path):
    path = file if suffix == "bare" else tmp_path / f"model{suffix}"
    model = kd.build("deit_digits_distilled")
    save = {".keras": model.save, ".weights.h5": model.save_weights}
    if suffix != "bare":
        save.get(suffix, lambda path: kd.save_pretrained(model, path))(path)
    variant = {".weights.h5": "deit_digits", "bare": PLAIN}.get(suffix)
    assert has_distillation_token(path, variant)
    assert not has_distillation_token(PLAIN)
    with pytest.raises(kd.UserError, match="regnety_160 has no tokens to change"):
        has_distillation_token("regnety_160")
