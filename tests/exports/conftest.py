"""Small models, and files of them that the tests of exports share."""

import keras
import pytest

import keras_deit as kd
from keras_deit.exports.formats import FORMATS

CLASS_NAMES = ("a", "b", "ćma", "d", "e")
CROP = 0.8


def each_format(test):
    """Runs a test for each format, as ``file_format``."""
    return pytest.mark.parametrize("file_format", FORMATS, ids=lambda row: row.NAME)(test)


@pytest.fixture(scope="session")
def models():
    """Models with weights large enough to tell operations and images apart. None is square."""
    keras.utils.set_random_seed(3)
    small = {"patch_size": 8, "width": 24, "heads": 3, "num_classes": 5}
    models = {
        "distilled": kd.DeiT((24, 16), depth=2, **small, class_names=CLASS_NAMES),
        "plain": kd.DeiT((16, 24), depth=2, **small, distilled=False),
        "bfloat16": kd.DeiT((24, 16), depth=1, **small, dtype="mixed_bfloat16"),
    }
    for model in models.values():
        for variable in model.trainable_variables:
            variable.assign(variable + keras.random.normal(variable.shape, stddev=0.2))
    return models


@pytest.fixture(scope="session")
def exported(models, tmp_path_factory):
    """A function from a model's name and a format to the path of its file and the ``Report``.

    Each file is exported once, into a separate folder, and must not be changed.
    """
    results = {}

    def export(name, file_format):
        if (name, file_format) not in results:
            path = tmp_path_factory.mktemp(name) / f"model{file_format.SUFFIX}"
            results[name, file_format] = path, kd.export(models[name], path, crop=CROP)
        return results[name, file_format]

    return export
