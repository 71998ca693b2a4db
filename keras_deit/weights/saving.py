"""Weights for others: safetensors under timm's names."""

import json
import pathlib

import numpy as np
from keras import ops

from keras_deit.models.deit import DeiT
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write, atomic_write_json
from keras_deit.weights.descriptions import timm_config
from keras_deit.weights.formats import CLASSES, CONFIG
from keras_deit.weights.names import to_timm, variables


def save_pretrained(model, path):
    """Writes a model's weights for ``load``, timm and transformers.

    Args:
        model: a ``DeiT`` or ``RegNetY``.
        path: a ``.safetensors`` file, under timm's parameter names; or a folder, which then holds
            ``model.safetensors`` and a ``config.json`` by which ``timm.create_model("local-dir:
            ...")`` and transformers' ``AutoModelForImageClassification`` build the model too.

    Raises:
        UserError: another model, or a folder for a RegNetY that timm has no name for.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    if not isinstance(model, (DeiT, RegNetY)):
        raise UserError(f"{type(model).__name__}: expected a DeiT or RegNetY to save")
    path = pathlib.Path(path)
    if path.suffix not in ("", ".safetensors"):
        raise UserError(f"{path}: expected a .safetensors file, or a folder without a suffix")
    config = None
    if not path.suffix:
        config = timm_config(model)
        path = path / "model.safetensors"
    tensors = {
        name: np.ascontiguousarray(to_timm(name, ops.convert_to_numpy(variable)))
        for name, variable in variables(model).items()
    }
    kind = next(name for name, kind in CLASSES.items() if isinstance(model, kind))
    metadata = {"format": "pt", CONFIG: json.dumps({"class": kind, **model.fields})}
    try:
        atomic_write(path, lambda partial: save_file(tensors, partial, metadata))
        if config:  # last: it makes the folder one that others read
            atomic_write_json(path.with_name("config.json"), config)
    except SafetensorError as error:  # how that library says so
        raise UserError(f"cannot write {path}: {error}") from error
