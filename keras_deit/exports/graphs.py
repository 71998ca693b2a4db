"""A model as a TensorFlow function of its images, with its weights as constants or variables."""

import json

import keras
import numpy as np

from keras_deit.configs import variants
from keras_deit.models.deit import DeiT
from keras_deit.models.factory import float32_copy
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError


def plain(model):
    """A float32 copy of a ``DeiT`` or ``RegNetY``, whatever it was trained in. Raises UserError for
    another model, and on another backend than TensorFlow."""
    if not isinstance(model, (DeiT, RegNetY)):
        raise UserError(f"{type(model).__name__}: expected a DeiT or RegNetY to export")
    if keras.backend.backend() != "tensorflow":
        raise UserError("models are exported on TensorFlow: set KERAS_BACKEND=tensorflow")
    return float32_copy(model)


def outputs(model, values, images, attention=False):
    """The model's tensors by name: "logits", the heads' mean; "class_head", of a distilled model
    "distillation_head", and with ``attention`` "attention", (batch, depth, heads, tokens, tokens).

    Args:
        model: what ``plain`` gives.
        values: of its variables, in their order.
        images: float32 (batch, height, width, 3), normalised.
        attention: whether to give that too, of a ``DeiT``.
    """
    with keras.StatelessScope(state_mapping=list(zip(model.variables, values, strict=True))):
        heads = model.logits(images)
        found = {"logits": sum(heads) / len(heads), "class_head": heads[0]}
        if len(heads) > 1:
            found["distillation_head"] = heads[1]
        if attention:
            found["attention"] = model.attention_maps(images)
    return found


def values(model):
    """The model's variables as arrays."""
    return [keras.ops.convert_to_numpy(variable) for variable in model.variables]


def size(model, image_size=None):
    """(height, width) of the images: of a ``RegNetY`` what is asked for, or 224."""
    return getattr(model, "image_size", None) or image_size or (224, 224)


def names(model):
    """The class names; where they are unknown their numbers as text."""
    return list(model.class_names or map(str, range(model.num_classes)))


def metadata(model, crop, sides):
    """What a reader of the file has to know, as texts: what the outputs are, and how an image
    becomes an input."""
    tokens = 1 + getattr(model, "distilled", False)
    fields = {name: value for name, value in model.fields.items() if name != "class_names"}
    heads = ["class", "distillation"][:tokens]
    return {
        "model": json.dumps({"class": type(model).__name__, **fields}),
        "class_names": json.dumps(names(model), ensure_ascii=False),
        "heads": ", ".join(heads),
        "tokens": ", ".join([*heads, "patches"]) if isinstance(model, DeiT) else "",
        "image_size": f"{sides[0]}x{sides[1]}",
        "crop": f"{crop:g}",
        "mean": ", ".join(map(str, variants.MEAN)),
        "std": ", ".join(map(str, variants.STD)),
        "input": "RGB, float32 (batch, height, width, 3): (pixel / 255 - mean) / std, of the middle"
        " of an image, resized with antialiased bicubic until it covers image_size / crop",
        "logits": "the mean of the heads' logits",
    }


def sample(sides, count, seed=0):
    """Random normalised images, to compare with where there are no others."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, *sides, 3)).astype(np.float32)
