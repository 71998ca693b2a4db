"""Weights in several safetensors files, which an index lists: ``model.safetensors.index.json``."""

import json
import pathlib

from keras_deit.utils.errors import UserError

# Bytes of an index. With a million parameters it has less than this.
INDEX_LIMIT = 64 << 20


def is_index(path):
    """Whether a file is such an index, by its content."""
    return _weight_map(path) is not None


def shards(path):
    """The files that an index lists.

    Args:
        path: a ``pathlib.Path``, of the index.

    Returns:
        A dict of each file's path, in the folder of the index -> the names of its parameters.

    Raises:
        UserError: the index is invalid, names a file outside its folder, or one that is not there.
    """
    names = {}
    for parameter, file in (_weight_map(path) or {}).items():
        names.setdefault(file, set()).add(parameter)
    if not names:
        raise UserError(f"{path} lists no files: expected the index of a safetensors model")

    for file in names:
        # A plain name: neither a folder, nor a drive, nor "..".
        if not isinstance(file, str) or file in ("", ".", "..") or set(file) & set("/\\:\0"):
            raise UserError(f"{path} names {file!r}: expected a file in its own folder")
        if not path.with_name(file).is_file():
            raise UserError(f"{path} needs {file}, which is not beside it: download it too")
    return {path.with_name(file): parameters for file, parameters in names.items()}


def _weight_map(path: pathlib.Path):
    """The index's map from parameters to files, or None if the file is none."""
    try:
        with open(path, "rb") as file:
            text = file.read(INDEX_LIMIT + 1)
        weight_map = json.loads(text)["weight_map"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    is_map = isinstance(weight_map, dict) and len(text) <= INDEX_LIMIT
    return weight_map if is_map else None
