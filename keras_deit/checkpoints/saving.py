"""Weights for others: safetensors under timm's names."""

import json
import pathlib

import numpy as np
from keras import ops

from keras_deit.checkpoints.formats import CLASSES, CONFIG
from keras_deit.checkpoints.names import to_timm, variables
from keras_deit.errors import UserError
from keras_deit.files import write, write_json
from keras_deit.model import DeiT
from keras_deit.teachers import RegNetY
from keras_deit.variants import MEAN, STD, VARIANTS


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
        config = _timm_config(model)
        path = path / "model.safetensors"
    tensors = {
        name: np.ascontiguousarray(to_timm(name, ops.convert_to_numpy(variable)))
        for name, variable in variables(model).items()
    }
    kind = next(name for name, kind in CLASSES.items() if isinstance(model, kind))
    metadata = {"format": "pt", CONFIG: json.dumps({"class": kind, **model.fields})}
    try:
        write(path, lambda partial: save_file(tensors, partial, metadata))
        if config:  # last: it makes the folder one that others read
            write_json(path.with_name("config.json"), config)
    except SafetensorError as error:  # how that library says so
        raise UserError(f"cannot write {path}: {error}") from error


def _timm_config(model):
    """timm's description of a model, which transformers reads as well."""
    size = model.image_size if isinstance(model, DeiT) else (224, 224)
    pretrained = {
        "input_size": [3, *size],
        "mean": list(MEAN),
        "std": list(STD),
        "interpolation": "bicubic",
        "num_classes": model.num_classes,
    }
    architecture, arguments = _timm_model(model)
    return {
        "architecture": architecture,
        "num_classes": model.num_classes,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }


def _timm_model(model):
    if isinstance(model, DeiT):
        arguments = {
            "img_size": list(model.image_size),
            "patch_size": model.patch_size,
            "embed_dim": model.width,
            "depth": model.depth,
            "num_heads": model.heads,
            "mlp_ratio": model.mlp_ratio,
        }
        return f"deit_tiny{'_distilled' if model.distilled else ''}_patch16_224", arguments
    row = VARIANTS["regnety_160"]
    shape = (model.stem_width, model.depths, model.widths, model.group_width, model.se_ratio)
    if shape != (row.stem, row.depths, row.widths, row.group_width, 0.25):
        raise UserError("timm has no name for this RegNetY: save it as a .safetensors file")
    return "regnety_160", {}
