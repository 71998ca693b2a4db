"""The formats of weight files, recognized by their content, never by their names.

Files are untrusted: nothing in them is executed, and one that is corrupt, of no known format, or
holds more than numbers, ends in a UserError.
"""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_deit.models.base import ImageClassifier
from keras_deit.utils.errors import UserError
from keras_deit.weights import keras_files, shards, torch_files
from keras_deit.weights.names import in_timm_names, readers

SAFETENSORS, SHARDS, KERAS, HDF5, TORCH = "safetensors", "index", "keras", "weights.h5", "torch"


@dataclass
class WeightsFile:
    """An opened file.

    Args:
        parameters: dict of timm's name -> function without arguments that reads the float32 array,
            in PyTorch's layout.
        model: the Keras model that a ``.keras`` file holds; None of any other file.
    """

    parameters: dict[str, Callable[[], np.ndarray]]
    model: keras.Model | None = None

    @property
    def tensors(self):
        """``parameters``, those of the model if there is one.

        Raises:
            UserError: the model is quantized.
        """
        return readers(self.model) if isinstance(self.model, ImageClassifier) else self.parameters


def file_format(path):
    """``SAFETENSORS``, ``SHARDS``, ``KERAS``, ``HDF5`` or ``TORCH``.

    Raises:
        UserError: the file cannot be read, is truncated, or of another format.
    """
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error

    # First, as it begins with the length of its header, whose bytes may be those of any other.
    if start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] + 8 <= size:
        return SAFETENSORS
    if start.startswith(b"\x89HDF"):
        return HDF5
    if start.startswith(b"PK"):
        return _archive_format(path)
    if start.startswith(b"\x80"):  # a pickle, PyTorch's older format
        return TORCH

    if start.lstrip().startswith(b"{") and shards.is_index(path):
        return SHARDS
    if start[8:] == b"{":
        raise UserError(f"{path} is truncated: download it again")
    raise UserError(
        f"{path} holds no weights: expected safetensors, a PyTorch .pth, .keras or .weights.h5"
    )


def _archive_format(path):
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    except Exception as error:  # of many types, on a corrupt directory
        raise UserError(f"{path} is corrupt or truncated: download it again") from error

    if "config.json" in members and "metadata.json" in members:
        return KERAS
    if any(member.endswith("data.pkl") for member in members):
        return TORCH
    raise UserError(f"{path} is a zip file, but neither Keras' nor PyTorch's")


def read(path, model=None):
    """Opens a weights file.

    Args:
        path: a ``pathlib.Path``.
        model: the model that a ``.weights.h5`` file's weights belong to, which Keras fills; unused
            for any other format.

    Returns:
        A ``WeightsFile``.

    Raises:
        UserError: the file is corrupt, needs PyTorch, or contains pickled code.
    """
    kind = file_format(path)
    if kind in (SAFETENSORS, SHARDS):
        files = _safetensors(path, kind)
        parameters = {name: _reader(file, name) for name, file in files.items()}
        return WeightsFile(in_timm_names(_checked(parameters)))
    if kind == TORCH:
        return WeightsFile(in_timm_names(_checked(torch_files.read(path))))

    if kind == KERAS:
        return WeightsFile({}, keras_files.load_model(path))
    keras_files.fill(model, path)
    return WeightsFile(readers(model))


def header(path):
    """What the header of a file of parameters says, without reading any.

    Returns:
        The metadata of a safetensors file, a dict of str, empty for any other; and the parameters'
        shapes by timm's names, a dict, empty for a PyTorch file without PyTorch and for Keras'
        files. Of transformers' queries, keys and values there is a name only.

    Raises:
        UserError: the file is corrupt.
    """
    kind = file_format(path)
    if kind == TORCH:
        return {}, in_timm_names(torch_files.shapes(path))
    if kind not in (SAFETENSORS, SHARDS):
        return {}, {}

    files = _safetensors(path, kind)
    shapes = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    metadata = next(iter(files.values())).metadata() if kind == SAFETENSORS and files else None
    return metadata or {}, in_timm_names(shapes)


def _safetensors(path, kind):
    """The opened file of each parameter of one safetensors file, or of all that an index lists."""
    if kind == SAFETENSORS:
        file = _open_safetensors(path)
        return dict.fromkeys(list(file.keys()), file)

    files = {}
    for shard, expected in shards.shards(path).items():
        file = _open_safetensors(shard)
        names = set(file.keys())
        if names != expected or files.keys() & names:
            name = min((names ^ expected) or (files.keys() & names))
            raise UserError(
                f"{path} and {shard.name} differ in {name!r:.80}: expected each parameter in the"
                " file that the index says, and nowhere else; download them again"
            )
        files |= dict.fromkeys(sorted(names), file)
    return files


def _open_safetensors(path):
    from safetensors import SafetensorError, safe_open

    try:
        return safe_open(path, "np")
    except SafetensorError as error:
        raise UserError(f"{path} is a corrupt or truncated safetensors file: {error}") from error


def _reader(file, name):
    return lambda: file.get_tensor(name)


def _checked(parameters):
    """The readers of parameters, each with a check that it reads finite numbers."""

    def reader(name, read):
        return lambda: _float32(name, read())

    return {name: reader(name, read) for name, read in parameters.items()}


def _float32(name, value):
    if not (np.issubdtype(value.dtype, np.floating) or value.dtype == "bfloat16"):
        raise ValueError(f"{name} is of {value.dtype}, not of floating-point numbers")
    value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinite numbers")
    return value
