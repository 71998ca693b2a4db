"""Argument checks that several packages share."""

import numpy as np
import pytest

import keras_deit as kd
from keras_deit.utils import validation


def test_positive_integers_keep_their_order():
    values = validation.positive_integers(width=12, depth=np.int64(2), heads=3)
    assert values == (12, 2, 3)
    assert [type(value) for value in values] == [int, int, int]


@pytest.mark.parametrize("value", [0, -1, 1.5, 2.0, "3", None])
def test_other_values_are_no_positive_integers(value):
    with pytest.raises(kd.UserError) as error:
        validation.positive_integers(width=12, depth=value)
    assert str(error.value) == f"depth {value!r}: expected an integer, 1 or more"


@pytest.mark.parametrize(
    ("image_size", "sides"),
    [
        (224, (224, 224)),
        ((192, 256), (192, 256)),
        ([192, 256], (192, 256)),  # as JSON has it
        (np.int32(16), (16, 16)),
    ],
)
def test_an_image_size_is_one_side_or_height_and_width(image_size, sides):
    assert validation.height_and_width(image_size) == sides
    assert all(type(side) is int for side in validation.height_and_width(image_size))


@pytest.mark.parametrize("image_size", [0, -8, (8, 0), (8,), (8, 8, 3), 8.0, "8", None, ()])
def test_other_image_sizes_are_refused(image_size):
    with pytest.raises(kd.UserError) as error:
        validation.height_and_width(image_size)
    assert str(error.value) == (
        f"image_size {image_size!r}: expected an int or (height, width), in pixels"
    )


def test_class_names_are_a_tuple_of_str():
    assert validation.class_name_tuple(["cat", "dog"], 2) == ("cat", "dog")
    assert validation.class_name_tuple((0, 1), 2) == ("0", "1")
    assert validation.class_name_tuple(None, 2) is None


@pytest.mark.parametrize("class_names", [["cat"], ["cat", "dog", "emu"], "ab", {"cat": 0}, 2])
def test_there_is_one_class_name_per_class(class_names):
    with pytest.raises(kd.UserError, match=r"^class_names: expected a name for each of 2 classes$"):
        validation.class_name_tuple(class_names, 2)


def test_only_arguments_of_any_keras_model_pass():
    kwargs = {"name": "student", "dtype": "float32", "trainable": False}
    assert validation.keras_arguments(kwargs) == kwargs
    with pytest.raises(TypeError, match=r"^unexpected argument 'inputs'$"):
        validation.keras_arguments({"name": "student", "outputs": [], "inputs": []})
