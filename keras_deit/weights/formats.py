"""Checkpoint files, recognised by what is in them, never by their names.

Files are untrusted: nothing in them is executed, and one that is damaged, or of no known kind, or
holds more than numbers, ends in a UserError.
"""

import contextlib
import inspect
import json
import math
import pathlib
import shlex
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass

import keras
import numpy as np

from keras_deit.configs.variants import VARIANTS
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import build
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import height_and_width
from keras_deit.weights.names import in_timm_names, to_timm, variables

CONFIG = "keras_deit"  # our key in the metadata of safetensors
CLASSES = {"DeiT": DeiT, "RegNetY": RegNetY}


@dataclass
class Checkpoint:
    """Parameters by timm's names, as functions that read each in PyTorch's layout; the model's
    class and fields where the file has them; and the model itself, where that is what it holds."""

    tensors: dict[str, Callable[[], np.ndarray]]
    kind: type | None = None
    config: dict | None = None
    model: keras.Model | None = None


def read(path, variant=None, fields=None):
    """Opens a checkpoint: safetensors or a PyTorch file in timm's or transformers' names, a
    ``.keras`` file, or a ``.weights.h5``, which is of ``variant`` with other ``fields``.

    Raises:
        UserError: the file is missing, damaged, of another kind, or holds code to run.
    """
    path = pathlib.Path(path)
    try:
        with open(path, "rb") as file:
            start = file.read(9)
        size = path.stat().st_size
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    # First, as it begins with the length of its header, whose bytes may be those of any other.
    if start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] + 8 <= size:
        return _safetensors(path)
    if start.startswith(b"\x89HDF"):
        return _weights_h5(path, variant, fields or {})
    if start.startswith(b"PK"):
        return _archive(path)
    if start.startswith(b"\x80"):
        return _torch(path)
    if start[8:] == b"{":
        raise UserError(f"{path} is truncated: get it again")
    raise UserError(
        f"{path} is no checkpoint: expected safetensors, a PyTorch .pth, .keras or .weights.h5"
    )


def _safetensors(path):
    from safetensors import SafetensorError, safe_open

    def getter(name):
        return lambda: _float32(name, file.get_tensor(name))

    try:
        file = safe_open(path, "np")
        names, metadata = list(file.keys()), file.metadata() or {}
    except SafetensorError as error:
        raise UserError(f"{path} is a damaged or truncated safetensors file: {error}") from error
    tensors = in_timm_names({name: getter(name) for name in names})
    if CONFIG not in metadata:
        return Checkpoint(tensors)
    config = json.loads(metadata[CONFIG])
    kind = CLASSES[config.pop("class")]
    known = set(inspect.signature(kind).parameters) - {"kwargs"}
    if set(config) != known:
        raise ValueError(f"its {CONFIG} metadata are not of a {kind.__name__}")
    return Checkpoint(tensors, kind, config)


def _archive(path):
    try:
        names = zipfile.ZipFile(path).namelist()
    except Exception as error:  # of many types, on a damaged directory
        raise UserError(f"{path} is damaged or truncated: get it again") from error
    if "config.json" in names and "metadata.json" in names:
        return _keras(path)
    if any(name.endswith("data.pkl") for name in names):
        return _torch(path)
    raise UserError(f"{path} is a zip file, but neither Keras' nor PyTorch's")


def _keras(path):
    try:
        with _suffixed(path, ".keras") as named:  # the safe mode refuses what would run code
            model = keras.saving.load_model(named, compile=False, safe_mode=True)
    except Exception as error:  # whatever a foreign or damaged config leads to
        raise UserError(
            f"{path} holds no Keras model that can be loaded: it is damaged, or needs classes or"
            " code that are not here"
        ) from error
    if not isinstance(model, tuple(CLASSES.values())):
        return Checkpoint({}, model=model)
    return Checkpoint(_own(model), type(model), model.fields, model)


@contextlib.contextmanager
def _suffixed(path, suffix):
    """``path`` under a name that ends in ``suffix``, which is what Keras goes by."""
    with tempfile.TemporaryDirectory() as folder:
        named = pathlib.Path(folder) / f"model{suffix}"
        named.symlink_to(path.resolve())
        yield named


def _weights_h5(path, variant, fields):
    import h5py

    if variant not in VARIANTS:
        known = ", ".join(VARIANTS)
        raise UserError(f"{path} holds weights alone: expected variant=<name>, one of {known}")
    try:
        with h5py.File(path) as file:
            fields, count = _shape(file, variant, fields), _count(file)
        model = build(variant, **fields)
        if count != len(variables(model)):
            raise UserError(f"{count} variables, expected {len(variables(model))}")
        with _suffixed(path, ".weights.h5") as named:
            model.load_weights(named)
    except Exception as error:  # h5py's and Keras' are of many types
        reason = f": {error}" if isinstance(error, UserError) else ""
        raise UserError(f"{path} does not hold the weights of {variant}{reason}") from error
    return Checkpoint(_own(model), type(model), model.fields)


def _shape(file, variant, fields):
    """``fields`` with what the file itself shows: classes, and of a DeiT tokens and resolution."""
    fields = {**fields, "num_classes": file["head/vars/1"].shape[0]}
    if "layers/token_embedding" in file:
        fields["distilled"] = "head_dist" in file
        tokens = max(value.shape[1] for value in file["layers/token_embedding/vars"].values())
        patches = tokens - 1 - fields["distilled"]
        patch = fields.get("patch_size", VARIANTS[variant].patch_size)
        sizes = [
            fields.get("image_size"),
            VARIANTS[variant].image_size,
            math.isqrt(patches) * patch,
        ]
        for size in filter(None, sizes):
            height, width = height_and_width(size)
            if (height // patch) * (width // patch) == patches:
                return {**fields, "image_size": size}
        raise UserError(f"positions of {patches} patches, in no square: give their image_size")
    return fields


def _count(file):
    import h5py

    found = []
    file.visititems(lambda _, item: found.append(item) if isinstance(item, h5py.Dataset) else None)
    return len(found)


def _own(model):
    def getter(name, variable):
        return lambda: to_timm(name, keras.ops.convert_to_numpy(variable))

    return {name: getter(name, variable) for name, variable in variables(model).items()}


def _torch(path):
    try:
        import torch
    except ImportError as error:
        raise UserError(
            f"{path} is a PyTorch file, and PyTorch is not installed: pip install torch,"
            " or load the same weights as safetensors"
        ) from error
    import pickle

    def getter(name, tensor):
        tensor = tensor.detach()  # numpy has no bfloat16; other numbers stay what they are
        return lambda: _float32(
            name, (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        )

    try:
        mapped = zipfile.is_zipfile(path)  # PyTorch's older format has to be read as a whole
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        raise UserError(_refusal(path, str(error))) from error
    except Exception as error:  # of many types, on a damaged file
        raise UserError(f"{path} is a damaged or truncated PyTorch file") from error
    for key in ("model", "state_dict"):
        state = state.get(key, state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items()
    ):
        raise UserError(
            f"{path} holds no parameters by name: expected them under 'model' or 'state_dict', or"
            " by themselves"
        )
    return Checkpoint(in_timm_names({name: getter(name, value) for name, value in state.items()}))


def _refusal(path, reason):
    if "argparse.Namespace" in reason:
        program = (
            "import argparse, torch; torch.serialization.add_safe_globals([argparse.Namespace]);"
            f" state = torch.load({str(path)!r}, weights_only=True);"
            ' torch.save(state.get("model", state.get("state_dict")), "weights.pth")'
        )
        return (
            f"{path} is a training checkpoint, which holds its command line (an argparse.Namespace)"
            f" beside the weights: keep the weights alone, python -c {shlex.quote(program)}"
        )
    return f"{path} was not opened: it is damaged, or holds code to run beside its numbers"


def _float32(name, value):
    if not (np.issubdtype(value.dtype, np.floating) or value.dtype == "bfloat16"):
        raise ValueError(f"{name} is of {value.dtype}, not of floating-point numbers")
    value = np.asarray(value, np.float32)
    if not np.isfinite(value).all():
        raise ValueError(f"{name} holds NaN or infinite numbers")
    return value
