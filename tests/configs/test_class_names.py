"""Names of classes: ImageNet's, and one order of two lists."""

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.configs.class_names import (
    class_order,
    imagenet_names,
    imagenet_synsets,
    numbered,
    readable,
)


def test_imagenets_classes_are_those_of_tfds():
    from tensorflow_datasets.datasets.imagenet2012 import imagenet_common

    with open(imagenet_common.label_names_file()) as file:
        assert imagenet_synsets() == tuple(file.read().split())
    names = imagenet_names()
    assert [names[number] for number in (0, 1, 207, 999)] == [
        *("tench", "goldfish", "golden retriever", "toilet tissue")
    ]
    assert len({name.lower() for name in names}) == 1000
    assert readable(imagenet_synsets()) == names
    assert readable(("tench", "my own")) == ("tench", "my own")


FIRST_WORDS = tuple(name.partition(" (")[0] for name in imagenet_names())  # "crane" twice
PERMUTATION = np.random.default_rng(0).permutation(1000).tolist()


@pytest.mark.parametrize(
    "names",
    [
        imagenet_synsets(),
        FIRST_WORDS,
        tuple(name.replace(" ", "_").upper() for name in imagenet_names()),
        numbered(1000),
        None,
    ],
    ids=["synsets", "first words", "underscores", "numbered", "none"],
)
def test_imagenets_classes_are_recognized_by_any_name(names):
    assert class_order(names, imagenet_names()) is None
    assert class_order(imagenet_synsets(), names) is None


def test_the_same_classes_in_another_order_are_mapped():
    shuffled = [imagenet_names()[number] for number in PERMUTATION]
    assert class_order(imagenet_synsets(), shuffled) == PERMUTATION
    assert class_order(tuple("abc"), tuple("cab")) == [2, 0, 1]
    assert class_order(("caf\u00e9", "a"), ("a", "cafe\u0301")) == [1, 0]  # a Mac's folder


@pytest.mark.parametrize(
    ("own", "others", "message"),
    [
        ("01234", "56789", r"the model has 5 classes \(0, 1, 2, ...\) and the data 5 \(5, 6, 7"),
        ("ab", "abc", r"the model has 2 classes \(a, b\) and the data 3 \(c\)"),
        ("aab", "aba", "expected the same names"),
        (["tench"], ["goldfish"], r"\(tench\) and the data 1 \(goldfish\)"),
        (["x\n\x1b[31m"], ["y"], r"\('x\\n"),
    ],
)
def test_other_classes_are_refused(own, others, message):
    with pytest.raises(kd.UserError, match=message) as error:
        class_order(tuple(own), tuple(others))
    assert "\n" not in str(error.value)
    assert "fine-tune it on these" in str(error.value)
