"""What every model family tells the rest of the library about itself."""

import keras
import numpy as np
import pytest

import keras_deit as kd
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
    parts = np.split(features, len(heads), axis=1)
    for head, part, logits in zip(heads, parts, model.logits(images), strict=True):
        np.testing.assert_allclose(head(part), logits, atol=1e-6)

    mixed = type(model)(**model.fields, dtype="mixed_bfloat16")
    assert mixed.head_features(images).dtype == "float32"


def test_class_labels_are_the_names_or_numbers(model):
    assert model.class_labels == ("class 0", "class 1", "class 2", "class 3", "class 4")
    named = type(model)(**{**model.fields, "class_names": list("abcde")})
    assert named.class_labels == named.class_names == tuple("abcde")
    with pytest.raises(kd.UserError, match="a name for each of 5 classes"):
        type(model)(**{**model.fields, "class_names": ["a"]})


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


def test_a_saved_model_is_the_function_alone(model, tmp_path):
    model.compile("adam", "categorical_crossentropy")
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert not again.compiled
    assert again.fields == model.fields
