"""What every model family tells the rest of the library about itself."""

import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_deit as kd
from keras_deit.configs.preprocessing import IMAGENET, Preprocessing
from keras_deit.models.base import ImageClassifier
from keras_deit.models.factory import FAMILIES, family_of, variant_fields
from keras_deit.weights.names import to_timm, variables

MODELS = {
    "distilled": lambda: kd.DeiT((24, 16), 8, 12, 2, 3, num_classes=5),
    "plain": lambda: kd.DeiT((24, 16), 8, 12, 2, 3, num_classes=5, distilled=False),
    "regnety": lambda: kd.RegNetY(8, (1, 2), (8, 16), 8, num_classes=5),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return MODELS[request.param]()


def test_fields_recreate_the_model(model):
    again = type(model)(**model.fields)
    assert again.fields == model.fields
    assert [v.shape for v in again.variables] == [v.shape for v in model.variables]
    assert model.fields.keys() == model.constructor_arguments().keys()


def test_head_features_are_what_the_heads_see(model):
    images = np.random.default_rng(0).normal(size=(3, 24, 16, 3)).astype("float32")
    features = np.array(model.head_features(images))
    heads = [model.head] + ([model.head_dist] if model.distilled else [])
    by_head = np.split(features, len(heads), axis=1)
    for head, inputs, logits in zip(heads, by_head, model.logits(images), strict=True):
        np.testing.assert_allclose(head(inputs), logits, atol=1e-6)

    mixed = type(model)(**model.fields, dtype="mixed_bfloat16")
    assert mixed.head_features(images).dtype == "float32"


def test_class_labels_are_the_names_or_numbers(model):
    assert model.class_labels == ("class 0", "class 1", "class 2", "class 3", "class 4")
    named = type(model)(**{**model.fields, "class_names": list("abcde")})
    assert named.class_labels == named.class_names == tuple("abcde")
    with pytest.raises(kd.UserError, match="a name for each of 5 classes"):
        type(model)(**{**model.fields, "class_names": ["a"]})


def test_names_and_preprocessing_that_are_set_are_checked(model, tmp_path):
    model = type(model)(**model.fields)
    half = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
    model.class_names, model.preprocessing = list("abcde"), half
    with pytest.raises(kd.UserError, match="a name for each of 5 classes"):
        model.class_names = ["a"]
    with pytest.raises(kd.UserError, match="preprocessing 'half'"):
        model.preprocessing = "half"

    model.save(tmp_path / "m.keras")
    saved = keras.saving.load_model(tmp_path / "m.keras")
    assert (saved.class_names, saved.preprocessing) == (tuple("abcde"), Preprocessing(**half))


def test_preprocessing_is_imagenets_or_the_models_own(model):
    assert model.preprocessing == IMAGENET
    half = Preprocessing((0.5, 0.5, 0.5), (0.5, 0.5, 0.5), upright=True)
    own = type(model)(**{**model.fields, "preprocessing": half})
    assert own.preprocessing == half
    assert type(model)(**json.loads(json.dumps(own.fields))).preprocessing == half
    with pytest.raises(kd.UserError, match="preprocessing 'half'"):
        type(model)(**{**model.fields, "preprocessing": "half"})


def test_parameter_shapes_are_those_of_the_model(model):
    shapes = {
        name: to_timm(name, np.array(variable)).shape for name, variable in variables(model).items()
    }
    expected = model.parameter_shapes(model.fields)
    assert expected.items() <= shapes.items()
    blocks = [name for name in shapes if name.endswith(model.block_suffix)]
    assert len(blocks) == model.block_count(model.fields) == len(model.blocks)


def test_attributes_of_the_families():
    deit, regnety = MODELS["distilled"](), MODELS["regnety"]()
    assert (deit.image_size, deit.has_attention, deit.supports_accumulation) == (
        (24, 16),
        True,
        True,
    )
    assert (regnety.image_size, regnety.has_attention) == (None, False)
    assert (deit.supports_distillation, regnety.supports_distillation) == (True, False)
    assert not regnety.supports_accumulation  # its statistics are those of a batch
    assert (deit.distilled, MODELS["plain"]().distilled, regnety.distilled) == (True, False, False)
    assert deit.has_attention == hasattr(deit, "attention_maps")
    assert regnety.has_attention == hasattr(regnety, "attention_maps")


def test_timm_names_models_that_it_can_build():
    architecture, arguments = MODELS["plain"]().timm_config()
    assert architecture == "deit_tiny_patch16_224"
    assert arguments["img_size"] == [24, 16]
    assert MODELS["distilled"]().timm_config()[0] == "deit_tiny_distilled_patch16_224"
    with pytest.raises(kd.UserError, match="timm has no name for this RegNetY"):
        MODELS["regnety"]().timm_config()


def variant_of(family):
    """The name of a row of ``VARIANTS`` of that family."""
    return next(name for name in kd.VARIANTS if family_of(name) is family)


@pytest.mark.parametrize("family", FAMILIES.values())
def test_a_class_never_becomes_a_functional_model(family):
    """Keras would make it one if it were given inputs and outputs."""
    bases = family.__mro__
    with pytest.raises(TypeError, match="unexpected argument 'inputs'"):
        family(**variant_fields(variant_of(family)), inputs=1, outputs=2)
    assert family.__mro__ == bases
    assert ImageClassifier in bases
    assert "Functional" not in [base.__name__ for base in bases]


IMAGES = np.random.default_rng(0).normal(size=(3, 24, 16, 3)).astype("float32")


def train(model):
    # By XLA, as oneDNN's gradient of some convolutions crashes on CPUs (TensorFlow 2.21).
    convnet = isinstance(model, kd.RegNetY)
    loss = keras.losses.CategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss, jit_compile=convnet)
    model.fit(IMAGES, np.eye(5, dtype="float32")[:3], verbose=0)


def members(path):
    """The sizes of a .keras file's members, and the names of the arrays in it."""
    names = []
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        with h5py.File(archive.open("model.weights.h5")) as weights:
            weights.visititems(
                lambda name, item: names.append(name) if isinstance(item, h5py.Dataset) else None
            )
    return sizes, names


@pytest.mark.slow
def test_a_saved_model_is_only_the_function(model, tmp_path):
    model.save(tmp_path / "before.keras")
    train(model)
    model.save(tmp_path / "after.keras")
    keras.saving.save_model(model, tmp_path / "saved.keras")
    for name in ("after.keras", "saved.keras"):
        assert members(tmp_path / name) == members(tmp_path / "before.keras")
    assert "optimizer" in dir(model)

    again = keras.saving.load_model(tmp_path / "after.keras")
    assert not again.compiled
    assert again.fields == model.fields
    np.testing.assert_array_equal(again(IMAGES), model(IMAGES))

    # The model still has its optimizer, which the weights for BackupAndRestore include.
    assert model.optimizer.iterations == 1
    for save in (keras.Model.save_weights, keras.saving.save_weights):
        save(model, tmp_path / "backup.weights.h5")
        model.optimizer.iterations.assign(7)
        model.load_weights(tmp_path / "backup.weights.h5")
        assert model.optimizer.iterations == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "trained"), [("float32", False), ("mixed_bfloat16", False), ("float32", True)]
)
@pytest.mark.parametrize("name", MODELS)
def test_keras_exports_a_model_that_was_never_called(name, dtype, trained, tmp_path):
    fields = MODELS[name]().fields
    model = type(MODELS[name]())(**fields, dtype=dtype)
    if trained:
        train(model)
    model.export(tmp_path / "model", verbose=False)

    loaded = tf.saved_model.load(tmp_path / "model")
    logits = loaded.serve(tf.constant(IMAGES))
    assert logits.dtype == "float32"
    np.testing.assert_allclose(logits, model(IMAGES), atol=1e-5 if dtype == "float32" else 2e-2)


def test_the_summary_shows_the_shape_of_every_layer(model):
    lines = []
    model.summary(line_length=120, print_fn=lines.append)
    rows = [
        line.split("\u2502") for line in "\n".join(lines).splitlines() if line.startswith("\u2502")
    ]
    shapes = {name.split()[0]: shape.strip() for _, name, shape, *_ in rows}
    assert shapes.keys() == {layer.name for layer in model.layers}
    assert shapes.items() >= SHAPES[type(model).__name__, model.distilled].items()
    assert all(shape.startswith("(None, ") for shape in shapes.values())


SHAPES = {
    ("DeiT", True): {
        "patch_embed": "(None, 6, 12)",
        "tokens": "(None, 8, 12)",
        "blocks.1": "(None, 8, 12)",
        "head_dist": "(None, 5)",
    },
    ("DeiT", False): {"patch_embed": "(None, 6, 12)", "tokens": "(None, 7, 12)"},
    ("RegNetY", False): {"s2.b1": "(None, None, None, 16)", "head.fc": "(None, 5)"},
}


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_summary_shows_dropout(dropout):
    lines = []
    kd.DeiT(16, 8, 12, 1, 3, dropout=dropout).summary(print_fn=lines.append)
    assert "?" not in "\n".join(lines)


def test_layers_know_the_shapes_that_they_give(model):
    """Those of a call, for images of one size."""
    x = IMAGES
    if model.distilled or model.has_attention:
        layers = [model.patch_embed, model.tokens, model.blocks[0].attn, model.blocks[0].mlp]
    else:
        layers = [model.stem, model.blocks[0].conv2]
    for layer in (*layers, *model.blocks):
        shape = layer.compute_output_shape(x.shape)
        x = layer(x)
        assert x.shape == shape
