"""Weights for others: safetensors under timm's names, and timm's ``config.json``."""

import json
import pathlib

import numpy as np

from keras_deit.models.base import ImageClassifier
from keras_deit.models.factory import FAMILIES, family_names
from keras_deit.utils.errors import UserError
from keras_deit.utils.files import atomic_write_json, atomic_write_safetensors
from keras_deit.utils.paths import expand_home
from keras_deit.weights.descriptions import METADATA
from keras_deit.weights.names import readers

DEFAULT_IMAGE_SIZE = (224, 224)  # in timm's config of a model for images of any size


def save_pretrained(model, path):
    """Writes a model's weights for ``load``, timm and transformers: float32, with LoRA merged.

    Args:
        model: an ``ImageClassifier``.
        path: str or path. A ``.safetensors`` file, under timm's parameter names; or a folder, which
            then holds ``model.safetensors`` and a ``config.json`` by which
            ``timm.create_model("local-dir:...")`` and transformers'
            ``AutoModelForImageClassification`` build the model too.

    Raises:
        UserError: another model, a quantized one, a folder for a model that timm has no name for,
            or a path that cannot be written.

    Example:
        >>> import keras_deit as kd
        >>> import os, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kd.save_pretrained(kd.build("deit_digits"), folder + "/digits")
        ...     sorted(os.listdir(folder + "/digits"))
        ['config.json', 'model.safetensors']
    """
    if not isinstance(model, ImageClassifier):
        raise UserError(f"{type(model).__name__}: expected a {family_names()} to save")

    path = pathlib.Path(expand_home(path))
    if path.suffix not in ("", ".safetensors"):
        raise UserError(f"{path}: expected a .safetensors file, or a folder without a suffix")

    # Before anything is written: timm may have no name for the model.
    is_folder = not path.suffix
    config = _timm_config(model) if is_folder else None
    if is_folder:
        path = path / "model.safetensors"

    tensors = {name: np.ascontiguousarray(read()) for name, read in readers(model).items()}
    # A subclass is saved as its family.
    family = next(family for family in FAMILIES.values() if isinstance(model, family))
    description = {"class": family.__name__, **model.fields}
    # transformers requires the format's name.
    metadata = {"format": "pt", METADATA: json.dumps(description)}

    atomic_write_safetensors(path, tensors, metadata)
    if is_folder:  # last, as it makes the folder one that others read
        atomic_write_json(path.with_name("config.json"), config)


def _timm_config(model):
    """The ``config.json`` of a model as timm writes it, which transformers reads too."""
    architecture, arguments = model.timm_config()
    labels = {"label_names": list(model.class_names)} if model.class_names else {}
    return {
        **labels,
        "architecture": architecture,
        "num_classes": model.num_classes,
        "model_args": arguments,
        "pretrained_cfg": {
            "input_size": [3, *(model.image_size or DEFAULT_IMAGE_SIZE)],
            "mean": list(model.preprocessing.mean),
            "std": list(model.preprocessing.std),
            "interpolation": "bicubic",
            "num_classes": model.num_classes,
        },
    }
