"""``.keras`` and ``.weights.h5`` files: their headers without a model, and their weights through
Keras, in its safe mode."""

import contextlib
import json
import math
import pathlib
import tempfile
import zipfile

import keras

from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import height_and_width
from keras_deit.weights.names import variables

# Bytes of a config.json. With names for 21,000 classes it has less than a tenth of that.
CONFIG_LIMIT = 16 << 20

# Where Keras puts variables in a .weights.h5 file (keras/src/saving/saving_lib.py, H5IOStore and
# _save_state): a group for each attribute that is a layer, and for layers that are only in
# ``layers`` one by their class, in snake case; in each a group "vars" of numbered datasets.
HEAD_BIAS = "head/vars/1"
DISTILLATION_HEAD = "head_dist"
TOKENS = "layers/token_embedding"  # a DeiT's


def read_config(path):
    """The ``config.json`` of a ``.keras`` file, a dict.

    Nothing in it is deserialized, and no more than ``CONFIG_LIMIT`` bytes are read.

    Raises:
        UserError: it is corrupt or too large.
    """
    try:
        with zipfile.ZipFile(path) as archive, archive.open("config.json") as file:
            text = file.read(CONFIG_LIMIT + 1)
        config = json.loads(text)
        if len(text) > CONFIG_LIMIT or not isinstance(config["config"], dict):
            raise ValueError("not the configuration of a model")
    except Exception as error:  # of many types, on a corrupt archive or text
        raise _unloadable(path) from error
    return config


def load_model(path):
    """The model of a ``.keras`` file, uncompiled. Raises UserError if Keras cannot load it."""
    try:
        with _suffixed(path, ".keras") as named:  # the safe mode refuses what would run code
            return keras.saving.load_model(named, compile=False, safe_mode=True)
    except Exception as error:  # whatever a foreign or corrupt config leads to
        raise _unloadable(path) from error


def read_shape(path, patch_size, image_sizes):
    """What the header of a ``.weights.h5`` file shows of its model.

    Args:
        path: the file.
        patch_size: int. Of a DeiT, in pixels; None of another model.
        image_sizes: list of ints or (height, width), in pixels. Candidates, the likeliest first,
            as the file has but the number of patches; a square one is tried last.

    Returns:
        A dict: "num_classes" and, of a DeiT, "distilled" and "image_size".

    Raises:
        UserError: its positions have none of the candidates' sizes, and are in no square.
    """
    import h5py

    with h5py.File(path) as file:
        shape = {"num_classes": file[HEAD_BIAS].shape[0]}
        if TOKENS in file:
            shape["distilled"] = DISTILLATION_HEAD in file
            # The position embedding; the others are single tokens.
            tokens = max(value.shape[1] for value in file[f"{TOKENS}/vars"].values())
            patches = tokens - 1 - shape["distilled"]
            shape["image_size"] = _image_size(patches, patch_size, image_sizes)
    return shape


def _image_size(patches, patch_size, image_sizes):
    square = math.isqrt(patches) * patch_size
    for size in (*image_sizes, square or patch_size):
        height, width = height_and_width(size)
        if (height // patch_size) * (width // patch_size) == patches:
            return [height, width]
    raise UserError(f"positions of {patches} patches, in no square: give their image_size")


def fill(model, path):
    """Loads the weights of a ``.weights.h5`` file into a model, which must have all of them.

    Raises:
        UserError: the file has another number of variables.
        Exception: whatever h5py and Keras raise for a corrupt file or other shapes.
    """
    # Keras ignores what a file has beyond the model's variables.
    actual = _dataset_count(path)
    expected = len(variables(model))
    if actual != expected:
        raise UserError(f"{actual} variables, expected {expected}")
    with _suffixed(path, ".weights.h5") as named:
        model.load_weights(named)


@contextlib.contextmanager
def weights_of(path, variant):
    """Within it, errors of a ``.weights.h5`` file say that it is not one of ``variant``."""
    try:
        yield
    except Exception as error:  # h5py's and Keras' are of many types
        # Of OSErrors because h5py's says "truncated file".
        detail = f": {error}" if isinstance(error, UserError | OSError) else ""
        raise UserError(f"{path} does not hold the weights of {variant}{detail}") from error


def _dataset_count(path):
    import h5py

    datasets = []

    def visit(name, item):
        if isinstance(item, h5py.Dataset):
            datasets.append(name)

    with h5py.File(path) as file:
        file.visititems(visit)
    return len(datasets)


def _unloadable(path):
    return UserError(
        f"{path} holds no Keras model that can be loaded: it is corrupt, or needs classes or code"
        " that are not here"
    )


@contextlib.contextmanager
def _suffixed(path, suffix):
    """``path`` under a name that ends in ``suffix``, by which Keras recognizes a format."""
    with tempfile.TemporaryDirectory() as folder:
        named = pathlib.Path(folder) / f"model{suffix}"
        named.symlink_to(path.resolve())
        yield named
