"""``Preprocessing``: its forms and its ranges."""

import json

import pytest

import keras_deit as kd
from keras_deit.configs.preprocessing import IMAGENET, Preprocessing, as_preprocessing

HALF = Preprocessing((0.5, 0.5, 0.5), (0.25, 0.5, 1), upright=True)


@pytest.mark.parametrize("value", [HALF, HALF.fields, json.loads(json.dumps(HALF.fields))])
def test_all_forms_are_one_value(value):
    assert as_preprocessing(value) == HALF
    assert as_preprocessing(None) == IMAGENET == Preprocessing(list(IMAGENET.mean))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"mean": [0.5]}, "expected 3 numbers"),
        ({"mean": 0.5}, "expected 3 numbers"),
        ({"mean": ["a", "b", "c"]}, "expected 3 numbers"),
        ({"std": [float("nan"), 1, 1]}, "expected 3 numbers"),
        ({"std": [0, 1, 1]}, "expected numbers above 0"),
        ({"upright": 1}, "expected true or false"),
        ({"size": 3}, "a dict of mean, std, upright"),
        ("imagenet", "a dict of mean, std, upright"),
    ],
)
def test_other_values_are_one_line(value, message):
    with pytest.raises(kd.UserError, match=message):
        as_preprocessing(value)
