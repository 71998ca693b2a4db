"""A new model family is a class, a row type with rows, and a row of ``FAMILIES``."""

from dataclasses import dataclass

import keras
import numpy as np
import pytest
from keras import ops

import keras_deit as kd
from keras_deit.models import factory
from keras_deit.models.base import ImageClassifier
from keras_deit.weights import describe


@dataclass(frozen=True)
class PooledVariant:
    """A row of a family that exists only for this test."""

    width: int
    params: int
    image_size: int = 8
    num_classes: int = 3
    published: None = None


@keras.saving.register_keras_serializable("tests")
class Pooled(ImageClassifier):
    """A dense layer on the mean color, and a head: the smallest convnet."""

    block_suffix = "fc.weight"

    def __init__(self, width, num_classes=3, class_names=None, preprocessing=None, **kwargs):
        super().__init__(num_classes, class_names, preprocessing, **kwargs)
        self.width = width
        self.fc = keras.layers.Dense(width, name="fc")
        self.head = keras.layers.Dense(self.num_classes, name="head")
        self.build((None, None, None, 3))

    def build(self, input_shape):
        if self.built:
            return
        self.fc.build((None, 3))
        self.head.build((None, self.width))
        self.built = True

    def features(self, images, training=False):
        return self.fc(ops.mean(images, axis=(1, 2)))

    def logits(self, images, training=False):
        return [ops.cast(self.head(self.features(images)), "float32")]

    def call(self, images, training=False):
        return self.logits(images)[0]

    @property
    def fields(self):
        names = self.class_names and list(self.class_names)
        return {
            "width": self.width,
            "num_classes": self.num_classes,
            "class_names": names,
            "preprocessing": self.preprocessing.fields,
        }

    @classmethod
    def parameter_shapes(cls, fields):
        return {"head.weight": (fields["num_classes"], fields["width"])}

    @classmethod
    def block_count(cls, fields):
        return 1


@pytest.fixture
def family(monkeypatch):
    monkeypatch.setitem(factory.FAMILIES, PooledVariant, Pooled)
    monkeypatch.setitem(kd.VARIANTS, "pooled", PooledVariant(width=4, params=31))


@pytest.mark.parametrize("suffix", [".keras", ".safetensors", ".weights.h5"])
def test_a_new_family_builds_saves_loads_and_is_described(family, suffix, tmp_path):
    model = kd.build("pooled", image_size=16)
    assert model.count_params() == kd.VARIANTS["pooled"].params
    assert describe("pooled").fields == model.fields

    path = tmp_path / f"model{suffix}"
    if suffix == ".safetensors":
        kd.save_pretrained(model, path)
    else:
        (model.save if suffix == ".keras" else model.save_weights)(path)
    variant = "pooled" if suffix == ".weights.h5" else None
    assert describe(path, variant) == describe("pooled")

    images = np.random.default_rng(0).normal(size=(2, 6, 6, 3)).astype("float32")
    again = kd.load(path, variant)
    assert type(again) is Pooled
    np.testing.assert_array_equal(again(images), model(images))
    assert kd.load(path, variant, num_classes=5)(images).shape == (2, 5)
    assert again.head_features(images).shape == (2, 4)
    with pytest.raises(kd.UserError, match="timm has no name for this Pooled"):
        kd.save_pretrained(model, tmp_path / "folder")


def test_every_row_has_a_family():
    assert {type(row) for row in kd.VARIANTS.values()} == factory.FAMILIES.keys()
    assert factory.family_named("DeiT") is factory.family_of("deit_digits") is kd.DeiT
    assert factory.family_named("os.system") is None


@pytest.mark.parametrize("function", [kd.build, factory.family_of, factory.variant_fields])
def test_an_unknown_variant_raises(function):
    with pytest.raises(kd.UserError, match="unknown variant 'deit_huge': expected one of deit_t"):
        function("deit_huge")
