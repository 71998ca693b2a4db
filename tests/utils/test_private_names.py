"""The installed Keras has the private names that the library relies on, as it expects them."""

import importlib.util
import inspect
import pathlib
import pkgutil

import keras
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

import keras_deit as kd
from keras_deit.utils import jax_private, keras_private, tensorflow_private, tfds_private

LIBRARIES = {"keras": keras, "tensorflow": tf, "tensorflow_datasets": tfds}
# Of the lines in the tables.
TESTED_VERSIONS = {"keras": "3.15.1", "tensorflow": "2.21.0", "tensorflow_datasets": "4.9.10"}
PRIVATE = (keras_private, tensorflow_private, jax_private, tfds_private)
NAMES = [entry for module in PRIVATE for entry in module.NAMES]


def advice(entry):
    library = entry.owner.partition(".")[0]
    return (
        f"{library} {LIBRARIES[library].__version__} changed {entry.owner}.{entry.name}"
        f" ({entry.source} in {TESTED_VERSIONS[library]}), which is used by {entry.used_for}: read"
        f" it there, adapt keras_deit/utils/*_private.py, and widen the bound of {library} in"
        " requirements.txt and pyproject.toml"
    )


def instances():
    """Objects that have the attributes, by the class that owns them."""
    model = kd.DeiT(16, patch_size=8, width=12, depth=1, heads=3, num_classes=5)
    optimizer = keras.optimizers.AdamW(use_ema=True)
    optimizer.build(model.trainable_variables)
    model.compile(optimizer, "mse", metrics=["accuracy"])
    symbolic = keras.layers.Dense(2)(keras.Input((3,)))
    batches = tf.data.Dataset.range(2).batch(2)
    return [model, optimizer, symbolic, batches]


@pytest.fixture(scope="module")
def objects():
    return instances()


@pytest.mark.parametrize("entry", NAMES, ids=lambda entry: entry.name)
def test_keras_has_the_private_names_we_rely_on(entry, objects):
    owner = pkgutil.resolve_name(entry.owner)
    if entry.parameters is None:
        (instance,) = [x for x in objects if isinstance(x, owner)]
        assert hasattr(instance, entry.name), advice(entry)
        return
    method = getattr(owner, entry.name, None)
    assert method is not None, advice(entry)
    parameters = list(inspect.signature(method).parameters)
    assert tuple(parameters[1:]) == entry.parameters, advice(entry)


@pytest.mark.parametrize("entry", NAMES, ids=lambda entry: entry.name)
def test_the_lines_in_the_tables_are_those_of_the_original(entry):
    path, _, line = entry.source.rpartition(":")
    library, _, path = path.partition("/")
    if LIBRARIES[library].__version__ != TESTED_VERSIONS[library]:
        return
    file = pathlib.Path(importlib.util.find_spec(library).origin).parent / path
    near = file.read_text().splitlines()[int(line) - 3 : int(line) + 2]
    assert any(entry.name in text for text in near), entry


def test_a_changed_name_is_explained():
    entry = keras_private.PrivateName(
        "keras.src.trainers.trainer.Trainer", "_gone", (), "trainer.py:1", "nothing"
    )
    with pytest.raises(AssertionError, match=r"changed .*_gone .* used by nothing: read it there"):
        test_keras_has_the_private_names_we_rely_on(entry, [])
