"""What files say of the model they hold: our own description, and timm's ``config.json``."""

import json

from keras_deit.configs.variants import MEAN, STD, VARIANTS
from keras_deit.models.deit import DeiT
from keras_deit.models.regnet import RegNetY
from keras_deit.utils.errors import UserError
from keras_deit.utils.validation import height_and_width

TIMM = {  # timm's arguments for our fields
    "img_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "width",
    "depth": "depth",
    "num_heads": "heads",
    "mlp_ratio": "mlp_ratio",
}


def agree(kind, fields, tensors):
    """Raises ValueError where our description is not of the file's own parameters: the model that
    it describes may take any amount of memory."""
    expected = _shapes(kind, fields)
    for name, shape in expected.items():
        found = tensors[name]().shape if name in tensors else None
        if found != shape:
            raise ValueError(f"{name} of shape {shape} by its description is {found}")
    counted = "attn.qkv.weight" if kind is DeiT else "conv2.conv.weight"
    blocks = sum(name.endswith(counted) for name in tensors)
    depth = fields["depth"] if kind is DeiT else sum(fields["depths"])
    if blocks != depth:
        raise ValueError(f"{depth} blocks by its description are {blocks}")


def _shapes(kind, of):
    """The shapes of a few parameters, which together fix the size of a model."""
    if kind is RegNetY:
        stages = {
            f"s{i}.b1.conv1.conv.weight": (width, before, 1, 1)
            for i, (before, width) in enumerate(
                zip((of["stem"], *of["widths"]), of["widths"], strict=False), 1
            )
        }
        head = (of["num_classes"], of["widths"][-1])
        return {"stem.conv.weight": (of["stem"], 3, 3, 3), "head.fc.weight": head, **stages}
    (height, width), patch = height_and_width(of["image_size"]), of["patch_size"]
    patches = (height // patch) * (width // patch)
    return {
        "pos_embed": (1, patches + 1 + of["distilled"], of["width"]),
        "patch_embed.proj.weight": (of["width"], 3, patch, patch),
        "blocks.0.mlp.fc1.bias": (int(of["mlp_ratio"] * of["width"]),),
        "head.bias": (of["num_classes"],),
    }


def read_timm_config(path):
    """The variant and our fields that a folder's ``config.json`` gives as timm writes it, or None
    and none: it is another library's, or not there."""
    try:
        config = json.loads(path.read_text())
        variant, arguments = config["architecture"], config.get("model_args") or {}
        fields = {TIMM[name]: value for name, value in arguments.items() if name in TIMM}
        fields["num_classes"] = config["num_classes"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None, {}
    return (variant, fields) if variant in VARIANTS else (None, {})


def timm_config(model):
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
    named = {"label_names": list(model.class_names)} if model.class_names else {}
    return {
        **named,
        "architecture": architecture,
        "num_classes": model.num_classes,
        "model_args": arguments,
        "pretrained_cfg": pretrained,
    }


def _timm_model(model):
    if isinstance(model, DeiT):
        arguments = {name: model.fields[field] for name, field in TIMM.items()}
        return f"deit_tiny{'_distilled' if model.distilled else ''}_patch16_224", arguments
    row = VARIANTS["regnety_160"]
    shape = (model.stem_width, model.depths, model.widths, model.group_width, model.se_ratio)
    if shape != (row.stem, row.depths, row.widths, row.group_width, 0.25):
        raise UserError("timm has no name for this RegNetY: save it as a .safetensors file")
    return "regnety_160", {}
