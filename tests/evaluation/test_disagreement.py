"""The disagreement table: fractions of images on which classifiers decide differently."""

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.evaluation import disagreement

RANDOM = np.random.default_rng(0)


def decided(count=200):
    """Decisions of four classifiers."""
    return {name: RANDOM.integers(0, 4, count) for name in ("labels", "a", "b", "c")}


@pytest.mark.parametrize("count", [1, 7, 200])
def test_fractions_are_those_of_each_pair(count):
    classifiers = decided(count)
    fractions = disagreement.disagreement(classifiers)
    for i, some in enumerate(classifiers.values()):
        for j, others in enumerate(classifiers.values()):
            expected = sum(x != y for x, y in zip(some, others, strict=True)) / count
            assert fractions[i, j] == pytest.approx(expected)


def test_other_images_are_refused():
    with pytest.raises(kd.UserError, match="expected the same images for all"):
        disagreement.disagreement({"a": np.zeros(3, int), "b": np.zeros(4, int)})


@pytest.fixture(scope="module")
def models():
    size = {"image_size": 8, "num_classes": 10}
    return {
        "student": kd.build("deit_digits_distilled", **size),
        "convnet": kd.build("regnety_digits", num_classes=10),
        "plain": kd.build("deit_digits", **size),
    }


@pytest.mark.parametrize("rows", [1, 3, 6])
def test_decisions_are_those_of_predict(models, rows):
    images = RANDOM.normal(size=(7, 8, 8, 3)).astype("float32")
    labels = RANDOM.integers(0, 10, 7)
    batches = [(images[i : i + rows], labels[i : i + rows]) for i in range(0, 7, rows)]
    for name, model in models.items():
        heads = disagreement.decisions(model, batches)
        np.testing.assert_array_equal(heads["labels"], labels)
        fused = model.predict(images, verbose=0).argmax(-1)
        np.testing.assert_array_equal(heads["fused" if name == "student" else "class"], fused)
        assert len(heads) == (4 if name == "student" else 2)


def test_the_table_and_its_reading(models):
    labels, teacher, plain = np.arange(10), np.arange(10), np.arange(10)
    teacher, plain = np.where(labels < 2, 0, teacher), np.where(labels < 6, 0, plain)
    of_models = {
        "student": {"labels": labels, "class": plain, "distillation": teacher, "fused": plain},
        "convnet": {"labels": labels, "class": teacher},
        "plain": {"labels": labels, "class": plain},
    }
    classifiers = disagreement.by_head(of_models)
    assert list(classifiers) == [
        "labels",
        "student, class",
        "student, distillation",
        "student, fused",
        "convnet",
        "plain",
    ]
    assert "| convnet | 10.0 | 40.0 | 0.0 | 40.0 | 0.0 | 40.0 |" in disagreement.table(classifiers)
    sentence = disagreement.reading(models, classifiers)
    assert "differently from convnet on 0.0% of the images, and from plain on 40.0%" in sentence
    assert sentence.endswith("it is closer to convnet.")
    assert disagreement.reading({"student": models["student"]}, classifiers) is None
