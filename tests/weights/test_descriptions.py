"""``describe``: the class and fields of a name or file, without building a model."""

import functools
import json
import zipfile

import keras
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import keras_deit as kd
from keras_deit.configs.preprocessing import Preprocessing
from keras_deit.configs.variants import VARIANTS
from keras_deit.models.base import ImageClassifier
from keras_deit.models.factory import variant_fields
from keras_deit.weights import describe
from keras_deit.weights.keras_files import CONFIG_LIMIT
from tests.conftest import GOLDENS
from tests.parameters import PLAIN, TINY, load


@pytest.fixture
def built(monkeypatch):
    """The models that are constructed, by class name, in order."""
    names = []
    constructor = ImageClassifier.__init__

    @functools.wraps(constructor)
    def counting(self, *args, **kwargs):
        names.append(type(self).__name__)
        constructor(self, *args, **kwargs)

    monkeypatch.setattr(ImageClassifier, "__init__", counting)
    return names


@pytest.fixture
def model():
    names = list("abcde")
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), upright=True)
    return kd.DeiT((24, 16), **TINY, drop_path=0.1, class_names=names, preprocessing=half)


def save(model, path):
    if path.name.endswith(".weights.h5"):
        model.save_weights(path)
    elif path.suffix == ".keras":
        model.save(path)
    else:
        kd.save_pretrained(model, path)


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_name_is_described_by_its_row(variant, built):
    description = describe(variant)
    row = VARIANTS[variant]
    assert description.kind.__name__ == ("RegNetY" if variant.startswith("regnety") else "DeiT")
    assert description.fields["num_classes"] == row.num_classes
    assert not built


def test_a_row_is_described_as_it_is_built():
    for variant in ("deit_digits_distilled", "regnety_digits"):
        assert describe(variant).fields == kd.build(variant).fields


@pytest.mark.parametrize("name", ["model.keras", "model.safetensors", "folder"])
def test_our_own_files_are_described_as_they_load(name, model, built, tmp_path):
    regnety = kd.RegNetY(8, (1, 2), (8, 16), 8, num_classes=5)
    for saved in (model, regnety) if name != "folder" else (model,):
        save(saved, tmp_path / name)
        del built[:]
        description = describe(tmp_path / name)
        assert not built
        assert description.kind is type(saved)
        assert description.fields == saved.fields == kd.load(tmp_path / name).fields


def test_a_folder_of_timm_is_described_by_its_config(model, built, tmp_path):
    kd.save_pretrained(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})  # as timm does
    preprocessing = {**model.preprocessing.fields, "upright": False}  # timm does not say
    unsaid = {"drop_path": 0.0, "preprocessing": preprocessing}
    expected = {**model.fields, **unsaid}
    del built[:]
    assert describe(tmp_path).fields == describe(tmp_path / "model.safetensors").fields == expected
    assert not built
    assert kd.load(tmp_path).fields == expected


def test_bare_weights_are_described_with_a_variant(tmp_path, built):
    model = kd.build("deit_digits_distilled", num_classes=5, image_size=(12, 12))
    save(model, tmp_path / "file.weights.h5")
    del built[:]
    description = describe(tmp_path / "file.weights.h5", "deit_digits")
    assert description.fields == model.fields  # the classes, tokens and resolution of the file
    assert not built
    with pytest.raises(kd.UserError, match="contains only weights: expected variant=<name>"):
        describe(tmp_path / "file.weights.h5")


def test_any_other_file_is_described_by_its_variant_and_its_facts(file, model, tmp_path):
    row = {**variant_fields(PLAIN), "image_size": [224, 224]}
    fields = describe(file, PLAIN).fields
    assert {name for name in row if row[name] != fields[name]} == {"num_classes"}
    assert (fields["num_classes"], fields["class_names"]) == (5, None)

    save(model, tmp_path / "model.keras")
    fields = describe(tmp_path / "model.keras", PLAIN).fields
    facts = {name: model.fields[name] for name in ("num_classes", "class_names", "preprocessing")}
    assert facts.items() <= fields.items()
    assert fields["width"] == VARIANTS[PLAIN].width
    with pytest.raises(kd.UserError, match="contains only weights: expected variant=<name>"):
        describe(file)


def test_an_official_file_is_described_by_its_name(tmp_path):
    path = tmp_path / VARIANTS[PLAIN].published.file
    path.write_bytes((GOLDENS / "deit_distilled.pth").read_bytes())
    assert describe(path) == describe(PLAIN)


def test_a_subclass_is_described_as_itself(tmp_path):
    @keras.saving.register_keras_serializable("tests")
    class Narrow(kd.DeiT):
        def __init__(self, bottleneck=3, **kwargs):
            super().__init__(**kwargs)
            self.bottleneck = bottleneck

        @property
        def fields(self):
            return {**super().fields, "bottleneck": self.bottleneck}

    model = Narrow(image_size=16, **TINY, bottleneck=7)
    save(model, tmp_path / "model.keras")
    description = describe(tmp_path / "model.keras")
    assert (description.kind, description.fields) == (Narrow, model.fields)
    assert kd.load(tmp_path / "model.keras", drop_path=0.1).bottleneck == 7


def test_loading_builds_no_model_to_learn_its_shape(model, built, tmp_path):
    files = {name: tmp_path / name for name in ("a.keras", "a.safetensors", "a.weights.h5")}
    for path in files.values():
        save(model, path)
    del built[:]

    kd.load(files["a.keras"])  # the one that Keras reads
    assert built == ["DeiT"]
    del built[:]

    kd.load(files["a.keras"], image_size=(32, 32))  # and the one that is filled
    assert built == ["DeiT", "DeiT"]
    del built[:]

    kd.load(files["a.safetensors"], image_size=(32, 32))
    assert built == ["DeiT"]
    del built[:]

    load(files["a.weights.h5"])
    assert built == ["DeiT", "DeiT"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.keras", "no file nowhere.keras: expected a checkpoint file or one of deit_tiny"),
        (str(GOLDENS / "deit.npz"), "a zip file, but neither"),
        (
            str(GOLDENS / "transformers.safetensors"),
            "contains only weights: expected variant=<name>",
        ),
    ],
)
def test_wrong_sources_raise(source, message):
    with pytest.raises(kd.UserError, match=message):
        describe(source)


def test_a_foreign_keras_model_is_named(tmp_path):
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(3)]).save(tmp_path / "other.keras")
    for function in (describe, functools.partial(kd.load, image_size=32)):
        with pytest.raises(kd.UserError, match="holds a Sequential: expected a DeiT or RegNetY"):
            function(tmp_path / "other.keras")
    assert kd.load(tmp_path / "other.keras").output_shape == (None, 3)


@pytest.mark.parametrize(
    "changes",
    [
        {"num_classes": "x"},
        {"image_size": "large"},
        {"patch_size": 0},
        {"mlp_ratio": float("inf")},
        {"depth": -3},
        {"width": 12.5},
        {"class_names": ["a"]},
        {"inputs": 1},
    ],
    ids=str,
)
def test_a_hostile_config_is_one_line_and_builds_nothing(changes, model, built, tmp_path):
    path = tmp_path / "model.keras"
    config = {"registered_name": "keras_deit>DeiT", "config": {**model.fields, **changes}}
    del built[:]
    for text in (json.dumps(config), json.dumps([config]), "[" * 100_000, "{", ""):
        write_archive(path, text)
        with pytest.raises(kd.UserError, match=str(path)) as error:
            describe(path)
        assert "\n" not in str(error.value)
    assert not built


def test_no_more_of_a_config_is_read_than_a_model_has(tmp_path):
    write_archive(tmp_path / "model.keras", " " * (CONFIG_LIMIT + 1), zipfile.ZIP_DEFLATED)
    assert (tmp_path / "model.keras").stat().st_size < CONFIG_LIMIT / 100
    with pytest.raises(kd.UserError, match="no Keras model that can be loaded"):
        describe(tmp_path / "model.keras")


def write_archive(path, config, compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("metadata.json", "{}")
        archive.writestr("config.json", config)


@pytest.mark.parametrize("changes", [{"num_classes": 10**9}, {"depth": 10**9}], ids=str)
def test_a_description_is_held_to_the_files_own_parameters(changes, model, built, tmp_path):
    kd.save_pretrained(model, tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    fields = {"class": "DeiT", **model.fields, "class_names": None, **changes}
    save_file(state, tmp_path / "own", {"keras_deit": json.dumps(fields)})
    config = json.loads((tmp_path / "config.json").read_text())
    config["model_args"]["depth"] = fields["depth"]
    del config["label_names"]
    (tmp_path / "config.json").write_text(json.dumps({**config, **changes}))
    save_file(state, tmp_path / "model.safetensors")

    del built[:]
    for path in (tmp_path, tmp_path / "own"):
        for function in (describe, kd.load):
            with pytest.raises(kd.UserError, match="describes another model than it holds"):
                function(path)
    assert not built


def test_grids_are_those_of_the_patches():
    assert describe("deit_base_patch16_384").grid == (24, 24)
    assert describe("regnety_160").grid is None
    assert np.prod(describe("deit_digits").grid) == 16
